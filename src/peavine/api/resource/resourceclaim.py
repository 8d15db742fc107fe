"""ResourceClaim: a wish for devices, and which ones it got."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import strip
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.api.resource import devices
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("State", description="A summary of the current state (allocated, pending, reserved, etc.)."),
    AGE,
)


def row(obj: Object) -> list[Any]:
    return [name(obj), state(obj), object_age(obj)]


def state(obj: Object) -> str:
    status = obj.get("status") or {}
    words = []
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        words.append("deleted")
    if status.get("allocation") is None:
        if not words:
            words.append("pending")
    else:
        words.append("allocated")
    if status.get("reservedFor"):
        words.append("reserved")
    return ",".join(words)


def default(obj: Object) -> None:
    devices.default_claim_spec(obj.get("spec") or {})


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def validate_create(obj: Object) -> list[FieldError]:
    return devices.validate_claim_spec(obj.get("spec") or {}, "spec")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    if strip(new.get("spec")) != strip(old.get("spec")):
        return [invalid_value("spec", new.get("spec"), "field is immutable")]
    return []


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    status, before = new.get("status") or {}, old.get("status") or {}
    errors = devices.validate_allocation(status.get("allocation"), "status.allocation", new.get("spec") or {})
    errors += devices.validate_consumers(status, "status")
    now, then = status.get("allocation"), before.get("allocation")
    if now is not None and then is not None and strip(now) != strip(then):
        errors.append(invalid_value("status.allocation", now, "field is immutable"))
    deleting = (new.get("metadata") or {}).get("deletionTimestamp")
    if deleting and then is None and status.get("reservedFor"):
        message = "new reservations may not be added while the claim is being deleted"
        errors.append(forbidden_field("status.reservedFor", message))
    return errors
