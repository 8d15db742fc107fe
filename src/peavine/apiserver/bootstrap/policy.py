"""The roles and bindings that a fresh server makes: upstream's, read from policy.txt, as objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

API_VERSION = "rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_AGGREGATE = "rbac.authorization.k8s.io/"
_VERBS = {
    "read": ["get", "list", "watch"],
    "write": ["create", "delete", "deletecollection", "patch", "update"],
}


@dataclass
class _Entry:
    kind: str
    namespace: str
    name: str
    label: str = ""
    aggregates: str = ""
    subjects: list[str] = field(default_factory=list)
    binding: str = ""
    role: str = ""  # of a binding that stands alone
    rules: list[dict[str, Any]] = field(default_factory=list)


def roles() -> list[dict[str, Any]]:
    """Every ClusterRole and Role, those of the cluster first."""
    return [_role(entry) for entry in _entries() if not entry.role]


def bindings() -> list[dict[str, Any]]:
    """Every ClusterRoleBinding and RoleBinding."""
    return [_binding(entry) for entry in _entries() if entry.subjects]


def node_rules() -> list[dict[str, Any]]:
    """What every node may do, apart from what the node authorizer looks at closely."""
    return next(entry.rules for entry in _entries() if entry.name == "system:node")


def _entries() -> Iterator[_Entry]:
    entry: _Entry | None = None
    for line in resources.files(__package__).joinpath("policy.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line[0] == " ":
            assert entry is not None
            entry.rules.append(_rule(line.strip()))
            continue
        if entry is not None:
            yield entry
        kind, name, *options = line.split()
        namespace, slash, rest = name.partition("/")
        entry = _Entry(kind, namespace if slash else "", rest if slash else name)
        for option in options:
            key, _, value = option.partition("=")
            if key == "for":
                entry.subjects.append(value)
            else:
                setattr(entry, key, value)
    if entry is not None:
        yield entry


def _rule(line: str) -> dict[str, Any]:
    verbs, where, *rest = (part.strip() for part in line.split("|"))
    rule: dict[str, Any] = {"verbs": _VERBS.get(verbs) or verbs.split(",")}
    if where.startswith("urls "):
        return {**rule, "nonResourceURLs": where.split()[1:]}
    rule["apiGroups"] = ["" if group == "core" else group for group in where.split(",")]
    rule["resources"] = rest[0].split(",")
    if len(rest) > 1:
        rule["resourceNames"] = rest[1].split(",")
    return rule


def _metadata(entry: _Entry, name: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": dict(LABELS), "annotations": {AUTOUPDATE: "true"}}
    if entry.namespace:
        metadata["namespace"] = entry.namespace
    return metadata


def _role(entry: _Entry) -> dict[str, Any]:
    metadata = _metadata(entry, entry.name)
    if entry.label:
        metadata["labels"][_AGGREGATE + entry.label] = "true"
    role: dict[str, Any] = {"apiVersion": API_VERSION, "kind": entry.kind, "metadata": metadata}
    if entry.aggregates:
        selector = {"matchLabels": {_AGGREGATE + entry.aggregates: "true"}}
        return {**role, "rules": None, "aggregationRule": {"clusterRoleSelectors": [selector]}}
    return {**role, "rules": entry.rules}


def _binding(entry: _Entry) -> dict[str, Any]:
    subjects: list[dict[str, Any]] = []
    for subject in entry.subjects:
        kind, _, name = subject.partition(":")
        if kind == "sa":
            subjects.append({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})
        elif kind in ("user", "group"):
            subjects.append({"kind": kind.capitalize(), "apiGroup": GROUP, "name": name})
    binding: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": entry.kind.removesuffix("Binding") + "Binding",
        "metadata": _metadata(entry, entry.binding or entry.name),
        "roleRef": {"apiGroup": GROUP, "kind": entry.kind.removesuffix("Binding"), "name": entry.role or entry.name},
    }
    return {**binding, "subjects": subjects} if subjects else binding
