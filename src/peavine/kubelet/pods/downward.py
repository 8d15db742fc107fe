"""The downward API: a pod's own fields and resources, as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from peavine.machinery.quantity import Quantity, parse_quantity

Object = dict[str, Any]


@dataclass
class Facts:
    """What is known only on the node."""

    pod_ips: list[str] = dataclass_field(default_factory=list)
    host_ips: list[str] = dataclass_field(default_factory=list)
    node_name: str = ""
    allocatable: Mapping[str, str] = dataclass_field(default_factory=dict)


class UnknownField(ValueError):
    """A field path that the downward API does not have."""


_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


def field(pod: Object, path: str, facts: Facts) -> str:
    """The text of `path`. Raises UnknownField."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    if found := _SUBSCRIPT.match(path):
        return (meta.get(found[1]) or {}).get(found[2], "")
    simple = {
        "metadata.name": lambda: meta.get("name", ""),
        "metadata.namespace": lambda: meta.get("namespace", ""),
        "metadata.uid": lambda: meta.get("uid", ""),
        "metadata.labels": lambda: _listing(meta.get("labels")),
        "metadata.annotations": lambda: _listing(meta.get("annotations")),
        "spec.nodeName": lambda: spec.get("nodeName", ""),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName", ""),
        "status.hostIP": lambda: facts.host_ips[0] if facts.host_ips else "",
        "status.hostIPs": lambda: ",".join(facts.host_ips),
        "status.podIP": lambda: facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": lambda: ",".join(facts.pod_ips),
    }
    if path not in simple:
        raise UnknownField(f"unsupported fieldPath: {path}")
    return simple[path]()


def _listing(entries: Mapping[str, str] | None) -> str:
    """One `key="value"` a line, sorted; quoting as Go's %q, which JSON's nearly is."""
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted((entries or {}).items()))


def resource(pod: Object, container: Object, reference: Object, facts: Facts) -> str:
    """A request or limit, divided by the reference's divisor and rounded up.

    A limit that is not set counts as what the node can give, as upstream does it.
    """
    wanted = reference["resource"]
    name = reference.get("containerName")
    spec = pod.get("spec") or {}
    if name:
        everyone = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
        container = next((c for c in everyone if c["name"] == name), container)
    kind, _, what = wanted.partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(kind) or {}).get(what)
    if text is None:
        if kind == "limits" and what in ("cpu", "memory", "ephemeral-storage"):
            text = facts.allocatable.get(what, "0")
        elif kind == "requests":
            text = (resources.get("limits") or {}).get(what, "0") if what in ("cpu", "memory") else "0"
        else:
            text = "0"
    divisor = str(reference.get("divisor") or "1")
    return str(_divided(parse_quantity(text), parse_quantity("1" if divisor == "0" else divisor)))


def _divided(amount: Quantity, divisor: Quantity) -> int:
    return -(-amount.nanos // divisor.nanos)
