"""CSINode: the storage drivers on a node."""

from __future__ import annotations

from typing import Any

from peavine.api.core.volume_validation import driver_name
from peavine.api.fields import strip
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, invalid_value, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("Drivers", "integer", "@storage.v1.CSINodeSpec.drivers"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), len((obj.get("spec") or {}).get("drivers") or []), object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or []):
        field = f"spec.drivers[{i}]"
        own = driver.get("name") or ""
        errors += driver_name(own, f"{field}.name")
        if own in seen:
            errors.append(duplicate(f"{field}.name", own))
        seen.add(own)
        node = driver.get("nodeID") or ""
        if not node:
            errors.append(required(f"{field}.nodeID", node))
        elif len(node) > 256:
            errors.append(invalid_value(f"{field}.nodeID", node, "must be 256 characters or less"))
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            message = "must be greater than or equal to 0"
            errors.append(invalid_value(f"{field}.allocatable.count", count, message))
        keys: set[str] = set()
        for key in driver.get("topologyKeys") or []:
            if key in keys:
                errors.append(duplicate(f"{field}.topologyKeys", key))
            keys.add(key)
            errors += rules.validate_label_name(key, f"{field}.topologyKeys")
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Drivers come and go; one that stays may change only how much it can attach."""
    errors = validate_create(new)
    own = (new.get("spec") or {}).get("drivers") or []
    by_name = {driver.get("name"): driver for driver in own}
    for driver in (old.get("spec") or {}).get("drivers") or []:
        now = by_name.get(driver.get("name"))
        if now is None:
            continue
        bare, then = ({k: v for k, v in d.items() if k != "allocatable"} for d in (now, driver))
        if strip(bare) != strip(then):
            errors.append(invalid_value("spec.drivers", own, "field is immutable"))
            break
    return errors
