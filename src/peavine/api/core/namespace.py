"""Namespace: born Active with a finalizer that only the namespace controller removes."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import broken
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"
KEEPS_STATUS_ON_CREATE = True

COLUMNS = (NAME, Column("Status", description="The status of the namespace"), AGE)
FIELD_LABELS = {
    "name": lambda obj: name(obj),
    "status.phase": lambda obj: (obj.get("status") or {}).get("phase") or "",
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    return [name(obj), (obj.get("status") or {}).get("phase") or "", object_age(obj)]


def default(obj: Object) -> None:
    meta = obj.setdefault("metadata", {})
    if meta.get("name"):
        meta.setdefault("labels", {})
        meta["labels"] = {**(meta["labels"] or {}), NAME_LABEL: meta["name"]}
    status = obj.setdefault("status", {})
    status["phase"] = status.get("phase") or "Active"


def prepare_create(obj: Object) -> None:
    obj["status"] = {"phase": "Active"}
    spec = obj.setdefault("spec", {})
    finalizers = spec.get("finalizers") or []
    if FINALIZER not in finalizers:
        spec["finalizers"] = [*finalizers, FINALIZER]


def canonicalize(obj: Object) -> None:
    """A generated name is known only now: the label follows it."""
    meta = obj.setdefault("metadata", {})
    if meta.get("name"):
        meta["labels"] = {**(meta.get("labels") or {}), NAME_LABEL: meta["name"]}


def prepare_update(new: Object, old: Object) -> None:
    keep(new.setdefault("spec", {}), old.get("spec") or {}, "finalizers")


def prepare_finalize_update(new: Object, old: Object) -> None:
    keep(new, old, "status")


def validate_create(obj: Object) -> list[FieldError]:
    return [
        error
        for i, finalizer in enumerate((obj.get("spec") or {}).get("finalizers") or [])
        for error in _finalizer(f"spec.finalizers[{i}]", finalizer)
    ]


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return []


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    """A namespace that is going can only be Terminating, one that is not only Active."""
    phase = (new.get("status") or {}).get("phase") or ""
    if (new.get("metadata") or {}).get("deletionTimestamp"):
        if phase != "Terminating":
            message = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            return [invalid_value("status.Phase", phase, message)]
    elif phase != "Active":
        return [invalid_value("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]
    return []


def validate_finalize_update(new: Object, old: Object) -> list[FieldError]:
    return validate_create(new)


def _finalizer(field: str, value: str) -> list[FieldError]:
    errors = broken(field, value, rules.is_qualified_name(value))
    if not errors and "/" not in value and value not in (FINALIZER, "orphan", "foregroundDeletion"):
        message = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(invalid_value(field, value, message))
    return errors
