"""What the reader of the Gateway API looks at, and who may refer to what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peavine.ingress.gateways.crds import GROUP
from peavine.ingress.model import Key

Object = dict[str, Any]

CONTROLLER = "peavine.dev/gateway"
ROUTE_KINDS = ("HTTPRoute", "GRPCRoute", "TLSRoute")


@dataclass(slots=True)
class Objects:
    classes: list[Object] = field(default_factory=list)
    gateways: list[Object] = field(default_factory=list)
    routes: dict[str, list[Object]] = field(default_factory=dict)
    """Kind to objects"""
    grants: list[Object] = field(default_factory=list)
    services: Mapping[Key, Object] = field(default_factory=dict)
    secrets: Mapping[Key, Object] = field(default_factory=dict)
    authorities: Mapping[Key, str] = field(default_factory=dict)
    """`ca.crt` of the ConfigMaps that have one"""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Name to labels"""
    bundles: frozenset[str] = frozenset()
    """Versions of the definitions that are installed; empty where one says none"""
    usable: Callable[[str, int], str] = lambda address, port: ""
    """Why an address (with port 0) or a port of it cannot be listened on; empty if it can."""


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def generation_of(obj: Object) -> int:
    return int(obj["metadata"].get("generation") or 0)


def age_of(obj: Object) -> tuple[str, Key]:
    """Sorts the oldest first, then by name."""
    return obj["metadata"].get("creationTimestamp") or "", key_of(obj)


def permitted(grants: Iterable[Object], kind: str, namespace: str, group: str, target: str, to: Key) -> bool:
    """Whether objects of a kind of ours in `namespace` may refer to one of kind `target` (of `group`) at `to`."""
    if namespace == to[0]:
        return True
    for grant in grants:
        if grant["metadata"]["namespace"] != to[0]:
            continue
        spec = grant.get("spec") or {}
        source = {"group": GROUP, "kind": kind, "namespace": namespace}
        if source not in [{k: f.get(k) for k in source} for f in spec.get("from") or ()]:
            continue
        for entry in spec.get("to") or ():
            if entry.get("group", "") == group and entry["kind"] == target and entry.get("name", to[1]) == to[1]:
                return True
    return False
