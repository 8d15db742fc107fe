"""Warnings about the containers of a pod spec: what one definition hides of another, and amounts that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peavine.api.fields import quantity

Object = dict[str, Any]

SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def containers(spec: Object, field: str) -> Iterator[tuple[str, Object, str]]:
    """(list, container, path) of every container of a pod spec."""
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(part) or []):
            yield part, container, f"{field}.{part}[{i}]"


def container_warnings(spec: Object, field: str, annotations: Object, prefix: str) -> list[str]:
    """`prefix` is the path of the template, "" for a pod."""
    found: list[str] = []
    armed = (spec.get("securityContext") or {}).get("appArmorProfile") is not None
    for _, container, at in containers(spec, field):
        own = container.get("securityContext") or {}
        name = container.get("name") or ""
        if SECCOMP + name in annotations and own.get("seccompProfile") is None:
            words = 'non-functional in v1.27+; use the "seccompProfile" field instead'
            found.append(f"{prefix}metadata.annotations[{SECCOMP}{name}]: {words}")
        if APPARMOR + name in annotations and not armed and own.get("appArmorProfile") is None:
            words = 'deprecated since v1.30; use the "appArmorProfile" field instead'
            found.append(f"{prefix}metadata.annotations[{APPARMOR}{name}]: {words}")
        for part in ("limits", "requests"):
            found += fractional((container.get("resources") or {}).get(part) or {}, f"{at}.resources.{part}")
        found += _environment(container.get("env") or [], f"{at}.env")
    return found + _ports(spec, field) + _port_names(spec, field)


def fractional(amounts: Object, field: str) -> list[str]:
    """Memory or storage that is no whole number of bytes."""
    return [
        f'{field}[{name}]: fractional byte value "{amounts[name]}" is invalid, must be an integer'
        for name in ("memory", "ephemeral-storage")
        if name in amounts and quantity(amounts[name]).nanos % 10**9
    ]


def _environment(variables: list[Object], field: str) -> list[str]:
    """Variables that are defined twice, and not (as `PATH=$(PATH):/x`) from their former self."""
    found: list[str] = []
    seen: set[str] = set()
    for i, variable in enumerate(variables):
        name, value = variable.get("name") or "", variable.get("value") or ""
        former = f"$({name})"
        if name in seen and (variable.get("valueFrom") is not None or value == former or former not in value):
            words = f'hides previous definition of "{name}", which may be dropped when using apply'
            found.append(f"{field}[{i}]: {words}")
        seen.add(name)
    return found


def _ports(spec: Object, field: str) -> list[str]:
    """Ports of one number and protocol that mean the same, or nearly."""
    found: list[str] = []
    known: dict[tuple[Any, Any], list[tuple[str, Object]]] = {}
    for _, container, place in containers(spec, field):
        for i, port in enumerate(container.get("ports") or []):
            at = f"{place}.ports[{i}]"
            ip, number = port.get("hostIP") or "", port.get("hostPort") or 0
            if ip and not number:
                found.append(f"{at}: hostIP set without hostPort: {_shown(port)}")
            others = known.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other_at, other in others:
                other_ip, other_number = other.get("hostIP") or "", other.get("hostPort") or 0
                if (ip, number) == (other_ip, other_number):
                    found.append(f"{at}: duplicate port definition with {other_at}")
                elif not number or not other_number:
                    found.append(f"{at}: overlapping port definition with {other_at}")
                elif number == other_number and bool(ip) != bool(other_ip):
                    found.append(f"{at}: dangerously ambiguous port definition with {other_at}")
            others.append((at, port))
    return found


def _shown(port: Object) -> str:
    """A port as Go prints the struct."""
    fields = ("name", "hostPort", "containerPort", "protocol", "hostIP")
    shown = (f"{f[0].upper()}{f[1:]}:{port.get(f) or (0 if f.endswith('Port') else '')}" for f in fields)
    return "{" + " ".join(shown) + "}"


def _port_names(spec: Object, field: str) -> list[str]:
    """Names of ports that two containers that run side by side have."""
    found: list[str] = []
    names: dict[str, tuple[str, str]] = {}
    for part, container, place in containers(spec, field):
        if part == "ephemeralContainers" or (part == "initContainers" and container.get("restartPolicy") != "Always"):
            continue
        for i, port in enumerate(container.get("ports") or []):
            name, at = port.get("name"), f"{place}.ports[{i}]"
            if not name:
                continue
            holder, first = names.setdefault(name, (place, at))
            if holder != place:
                words = f'duplicate port name "{name}" with {first}, services and probes that select ports by name'
                found.append(f"{at}: {words} will use {first}")
    return found
