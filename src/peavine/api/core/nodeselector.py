"""Node selectors: terms of requirements over a node's labels and fields, as affinities and volumes use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]


def matches(selector: Object | None, node: Object) -> bool:
    """Whether any term of a `NodeSelector` matches the node. None, and one without terms, match nothing."""
    return any(matches_term(term, node) for term in (selector or {}).get("nodeSelectorTerms") or [])


def matches_term(term: Object, node: Object) -> bool:
    """Whether all requirements of a term hold. A term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    meta = node.get("metadata") or {}
    labels = meta.get("labels") or {}
    names = {"metadata.name": meta.get("name") or ""}
    return all(matches_requirement(r, labels) for r in expressions) and all(
        matches_requirement(r, names) for r in fields
    )


def matches_requirement(requirement: Object, labels: Mapping[str, str]) -> bool:
    key, operator = requirement.get("key", ""), requirement.get("operator", "")
    values = requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator in ("Gt", "Lt") and key in labels and len(values) == 1:
        try:
            left, right = int(labels[key]), int(values[0])
        except ValueError:
            return False
        return left > right if operator == "Gt" else left < right
    return False


def pod_fits_node(pod: Object, node: Object) -> bool:
    """nodeSelector and the required node affinity of a pod."""
    spec = pod.get("spec") or {}
    labels = (node.get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return affinity is None or matches(affinity, node)
