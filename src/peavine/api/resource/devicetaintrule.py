"""DeviceTaintRule: taints for all devices that it selects."""

from __future__ import annotations

from typing import Any

from peavine.api.core.volume_validation import driver_name
from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, name, object_age
from peavine.api.resource import devices
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = (NAME, AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), object_age(obj)]


def default(obj: Object) -> None:
    from peavine.machinery.meta import now

    taint = (obj.get("spec") or {}).get("taint")
    if taint is not None and not taint.get("timeAdded"):
        taint["timeAdded"] = now()


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    selector = spec.get("deviceSelector") or {}
    if selector.get("driver") is not None:
        errors += driver_name(selector["driver"], "spec.deviceSelector.driver")
    if selector.get("pool") is not None:
        errors += devices.pool_name(selector["pool"], "spec.deviceSelector.pool")
    if selector.get("device") is not None:
        device = selector["device"]
        errors += broken("spec.deviceSelector.device", device, rules.is_dns1123_label(device))
    return errors + devices.validate_taint(spec.get("taint") or {}, "spec.taint")


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    return rules.validate_conditions((new.get("status") or {}).get("conditions"), "status.conditions")
