"""A container's environment: `env`, `envFrom`, service variables, the downward API, `$(VAR)` expansion."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from peavine.kubelet.pods import downward

Object = dict[str, Any]
# (kind, name) -> the ConfigMap or Secret; raises ObjectMissing
Lookup = Callable[[str, str], Awaitable[Object]]

_REFERENCE = re.compile(r"\$(\$|\([^()]*\)|)")


class ConfigError(Exception):
    """The container cannot be configured now; shown as CreateContainerConfigError."""


class ObjectMissing(ConfigError):
    """A ConfigMap or Secret that does not exist."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value, `$$` a dollar; an unknown name stays as it is written."""
    if "$" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        what = found[1]
        if what == "$":
            return "$"
        return values.get(what[1:-1], found[0]) if what else "$"

    return _REFERENCE.sub(replace, text)


def service_variables(services: Iterable[Object], namespace: str, links: bool) -> dict[str, str]:
    """`NAME_SERVICE_HOST`, `…_PORT`, and Docker-link variables of the services that a pod of `namespace` sees.

    Without `links` only those of `default/kubernetes`. Headless services and ExternalName have none.
    """
    seen: dict[str, Object] = {}
    for service in services:
        meta, spec = service["metadata"], service.get("spec") or {}
        if spec.get("clusterIP", "") in ("", "None") or spec.get("type") == "ExternalName":
            continue
        if meta["namespace"] == "default" and meta["name"] == "kubernetes":
            seen.setdefault(meta["name"], spec)
        elif links and meta["namespace"] == namespace:
            seen[meta["name"]] = spec
    variables: dict[str, str] = {}
    for name in sorted(seen):
        spec = seen[name]
        ports = spec.get("ports") or []
        if not ports:
            continue
        prefix, address = name.upper().replace("-", "_"), spec["clusterIP"]
        host = f"[{address}]" if ":" in address else address
        variables[f"{prefix}_SERVICE_HOST"] = address
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                suffix = port["name"].upper().replace("-", "_")
                variables[f"{prefix}_SERVICE_PORT_{suffix}"] = str(port["port"])
        for number, port in enumerate(ports):
            protocol = port.get("protocol") or "TCP"
            url = f"{protocol.lower()}://{host}:{port['port']}"
            if number == 0:
                variables[f"{prefix}_PORT"] = url
            base = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
            variables[base] = url
            variables[f"{base}_PROTO"] = protocol.lower()
            variables[f"{base}_PORT"] = str(port["port"])
            variables[f"{base}_ADDR"] = address
    return variables


async def environment(
    pod: Object, container: Object, facts: downward.Facts, services: Mapping[str, str], lookup: Lookup
) -> dict[str, str]:
    """Every variable of the container, in order. Raises ConfigError.

    Later ones win over earlier ones, `env` over `envFrom` over services; a value may use what comes before it.
    """
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        result |= await _from_source(source, lookup)
    # Service variables can be used in values, and lose against the container's own.
    usable = {**services, **result}
    for variable in container.get("env") or []:
        name = variable["name"]
        value: str | None = variable.get("value") or ""
        if variable.get("valueFrom"):
            value = await _value_from(pod, container, facts, variable["valueFrom"], lookup)
            if value is None:
                continue
        else:
            value = expand(value or "", usable)
        result[name] = usable[name] = value
    return {**{k: v for k, v in services.items() if k not in result}, **result}


async def _from_source(source: Object, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        reference = source.get(field)
        if reference:
            try:
                obj = await lookup(kind, reference.get("name", ""))
            except ObjectMissing:
                if reference.get("optional"):
                    return {}
                raise
            return {prefix + key: value for key, value in text_data(obj).items()}
    return {}


def text_data(obj: Object) -> dict[str, str]:
    """The entries of a ConfigMap (`data`) or Secret (`data`, base64) as text."""
    data = obj.get("data") or {}
    if obj.get("kind") == "Secret":
        import base64

        return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in data.items()}
    return dict(data)


async def _value_from(
    pod: Object, container: Object, facts: downward.Facts, source: Object, lookup: Lookup
) -> str | None:
    """None: an optional reference that leads nowhere; the variable is then left out."""
    if field := source.get("fieldRef"):
        return downward.field(pod, field["fieldPath"], facts)
    if resource := source.get("resourceFieldRef"):
        return downward.resource(pod, container, resource, facts)
    for name, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        reference = source.get(name)
        if reference:
            try:
                obj = await lookup(kind, reference.get("name", ""))
            except ObjectMissing:
                if reference.get("optional"):
                    return None
                raise
            data = text_data(obj)
            if reference["key"] not in data:
                if reference.get("optional"):
                    return None
                meta = obj["metadata"]
                raise ConfigError(
                    f"couldn't find key {reference['key']} in {kind} {meta.get('namespace', '')}/{meta['name']}"
                )
            return data[reference["key"]]
    return ""
