"""Lease: who holds something, since when and for how long."""

from __future__ import annotations

from typing import Any

from peavine.api import alpha
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("Holder", description="@coordination.v1.LeaseSpec.holderIdentity"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", object_age(obj)]


def default(obj: Object) -> None:
    alpha.drop(obj.get("spec"), alpha.LEASE_SPEC)


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid_value("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    strategy = spec.get("strategy")
    if strategy is not None:
        if not strategy:
            errors.append(required("spec.strategy", "must not be empty"))
        elif strategy != "OldestEmulationVersion" and "/" not in strategy:
            message = "must be fully qualified or one of OldestEmulationVersion"
            errors.append(invalid_value("spec.strategy", strategy, message))
    if spec.get("preferredHolder") and strategy is None:
        message = "may only be specified if `strategy` is defined"
        errors.append(forbidden_field("spec.preferredHolder", message))
    return errors
