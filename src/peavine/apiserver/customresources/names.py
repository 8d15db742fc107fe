"""Which names a definition gets: its own, unless another definition of its group was there before. And conditions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def accepted_names(definition: Object, others: Iterable[Object]) -> tuple[Object, Object]:
    """The accepted names, and the condition NamesAccepted (without times)."""
    wanted = definition["spec"]["names"]
    current = (definition.get("status") or {}).get("acceptedNames") or {}
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        names = (other.get("status") or {}).get("acceptedNames") or {}
        if other["spec"]["group"] != definition["spec"]["group"]:
            continue
        resources |= {names.get("plural") or "", names.get("singular") or "", *(names.get("shortNames") or ())}
        kinds |= {names.get("kind") or "", names.get("listKind") or ""}
    accepted = dict(current)
    problem: tuple[str, str] | None = None
    for name in ("plural", "singular"):
        value = wanted.get(name) or ""
        if value and value in resources:
            problem = problem or (f"{name.capitalize()}Conflict", f'"{value}" is already in use')
        else:
            accepted[name] = value
    taken = [short for short in wanted.get("shortNames") or () if short in resources]
    if taken:
        listed = ", ".join(f'"{short}" is already in use' for short in taken)
        problem = problem or ("ShortNamesConflict", f"[{listed}]" if len(taken) > 1 else listed)
    else:
        accepted["shortNames"] = wanted.get("shortNames")
    for name, reason in (("kind", "KindConflict"), ("listKind", "ListKindConflict")):
        value = wanted.get(name) or ""
        if value and value in kinds:
            problem = problem or (reason, f'"{value}" is already in use')
        else:
            accepted[name] = value
    accepted["categories"] = wanted.get("categories")
    accepted = {name: value for name, value in accepted.items() if value or name in ("plural", "kind")}
    if problem:
        return accepted, condition("NamesAccepted", "False", *problem)
    return accepted, condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")


def approval(definition: Object) -> Object | None:
    """The condition KubernetesAPIApprovalPolicyConformant, for groups of the Kubernetes project; None for others."""
    group = definition["spec"]["group"]
    if not group.endswith((".k8s.io", ".kubernetes.io")):
        return None
    name = "api-approved.kubernetes.io"
    found = (definition["metadata"].get("annotations") or {}).get(name) or ""
    kind = "KubernetesAPIApprovalPolicyConformant"
    if not found:
        words = (
            f'protected groups must have approval annotation "{name}", see https://github.com/kubernetes/enhancements'
        )
        return condition(kind, "False", "MissingAnnotation", words + "/pull/1111")
    if found.startswith("unapproved"):
        return condition(kind, "False", "UnapprovedAnnotation", f"not approved: {json.dumps(found)}")
    return condition(kind, "True", "ApprovedAnnotation", f"approved in {found}")


def condition(type: str, status: str, reason: str, message: str) -> Object:
    return {"type": type, "status": status, "reason": reason, "message": message}


def established(definition: Object, names: Object) -> Object:
    """The condition Established: once the names are accepted it stays true."""
    before = find(definition, "Established")
    if before is not None and before.get("status") == "True":
        return condition("Established", "True", before.get("reason") or "", before.get("message") or "")
    if names["status"] == "True":
        return condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
    return condition("Established", "False", "NotAccepted", "not all names are accepted")


def find(definition: Object, type: str) -> Object | None:
    conditions = (definition.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == type), None)


def is_true(definition: Object, type: str) -> bool:
    found = find(definition, type)
    return found is not None and found.get("status") == "True"


def with_conditions(definition: Object, conditions: Iterable[Object], now: str) -> list[Object]:
    """The definition's conditions with these set; a time moves when a status does."""
    result = [dict(c) for c in (definition.get("status") or {}).get("conditions") or []]
    for new in conditions:
        old = next((c for c in result if c.get("type") == new["type"]), None)
        if old is None:
            ordered = {"type": new["type"], "status": new["status"], "lastTransitionTime": now}
            result.append({**ordered, "reason": new["reason"], "message": new["message"]})
        else:
            if old.get("status") != new["status"]:
                old["lastTransitionTime"] = now
            old.update(new)
    return result
