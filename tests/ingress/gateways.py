"""The Gateway API's objects, short."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

GROUP = "gateway.networking.k8s.io"
CLASS: Object = {
    "metadata": {"name": "peavine", "namespace": ""},
    "spec": {"controllerName": "peavine.dev/gateway"},
}


def listener(name: str, port: int, protocol: str = "HTTP", host: str = "", **more: Any) -> Object:
    return {"name": name, "port": port, "protocol": protocol, **({"hostname": host} if host else {}), **more}


def gateway(name: str, *listeners: Object, namespace: str = "default", **spec: Any) -> Object:
    meta = {"name": name, "namespace": namespace}
    return {"metadata": meta, "spec": {"gatewayClassName": "peavine", "listeners": list(listeners), **spec}}


def backend(name: str, **more: Any) -> Object:
    return {"name": name, "port": 80, **more}


def rule(*backends: str | Object, **more: Any) -> Object:
    """Backends by name, or as references."""
    references = [backend(b) if isinstance(b, str) else b for b in backends]
    return {**({"backendRefs": references} if references else {}), **more}


def path(value: str, type_: str = "PathPrefix", **more: Any) -> Object:
    return {"path": {"type": type_, "value": value}, **more}


def header(name: str, value: str, type_: str = "Exact") -> Object:
    return {"type": type_, "name": name, "value": value}


def route(
    name: str, *rules: Object, hosts: tuple[str, ...] = (), parents: Any = ("gw",), namespace: str = "default"
) -> Object:
    """Parents by name, or as references."""
    references = [{"name": p} if isinstance(p, str) else p for p in parents]
    spec = {"parentRefs": references, "rules": list(rules), **({"hostnames": list(hosts)} if hosts else {})}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def grant(kind: str, source: str, to: str, target: str, name: str = "") -> Object:
    """Objects of `kind` in namespace `source` may refer to `target`s in namespace `to`."""
    entry = {"group": "", "kind": target, **({"name": name} if name else {})}
    spec = {"from": [{"group": GROUP, "kind": kind, "namespace": source}], "to": [entry]}
    return {"metadata": {"name": f"{kind}-{source}-{target}{name}".lower(), "namespace": to}, "spec": spec}
