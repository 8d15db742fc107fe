"""PriorityClass: how much a pod matters to the scheduler."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import content_changed
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

USER_MAX = 1_000_000_000
SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}

COLUMNS = (
    NAME,
    Column("Value", "integer", "@scheduling.v1.PriorityClass.value"),
    Column("Global-Default", "boolean", "@scheduling.v1.PriorityClass.globalDefault"),
    AGE,
    Column("PreemptionPolicy", description="@scheduling.v1.PriorityClass.preemptionPolicy"),
)
changes_generation = content_changed


def row(obj: Object) -> list[Any]:
    return [
        name(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        object_age(obj),
        obj.get("preemptionPolicy") or "",
    ]


def default(obj: Object) -> None:
    if obj.get("preemptionPolicy") is None:
        obj["preemptionPolicy"] = "PreemptLowerPriority"


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    own, value = name(obj), obj.get("value") or 0
    if own.startswith("system-"):
        if SYSTEM.get(own) != value:
            message = "priority class names with 'system-' prefix are reserved for system use only. "
            known = own in SYSTEM
            detail = (
                f"value of {own} must be {SYSTEM.get(own)}" if known else f"{own} is not a known system priority class"
            )
            errors.append(forbidden_field("metadata.name", f"{message}error: {detail}"))
    elif value > USER_MAX:
        message = f"maximum allowed value of a user defined priority is {USER_MAX}"
        errors.append(forbidden_field("value", message))
    policy = obj.get("preemptionPolicy")
    if policy is not None:
        if not policy:
            errors.append(required("preemptionPolicy"))
        elif policy not in ("Never", "PreemptLowerPriority"):
            errors.append(not_supported("preemptionPolicy", policy, ["Never", "PreemptLowerPriority"]))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if (new.get("value") or 0) != (old.get("value") or 0):
        errors.append(forbidden_field("value", "may not be changed in an update."))
    if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
        value = new.get("preemptionPolicy")
        errors.append(invalid_value("preemptionPolicy", value, "field is immutable"))
    return errors
