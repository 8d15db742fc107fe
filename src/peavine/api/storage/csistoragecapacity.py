"""CSIStorageCapacity: how much a driver has left, where."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import non_negative_quantity, strip
from peavine.api.printing import NAME, Column, name
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("StorageClassName", description="@storage.v1.CSIStorageCapacity.storageClassName"),
    Column("Capacity", description="@storage.v1.CSIStorageCapacity.capacity"),
)


def row(obj: Object) -> list[Any]:
    capacity = obj.get("capacity")
    return [
        name(obj),
        obj.get("storageClassName") or "",
        "<unset>" if capacity is None else str(capacity),
    ]


def validate_create(obj: Object) -> list[FieldError]:
    own = obj.get("storageClassName") or ""
    errors = [invalid_value("storageClassName", own, m) for m in rules.is_dns1123_subdomain(own)]
    errors += rules.validate_label_selector(obj.get("nodeTopology"), "nodeTopology")
    for field in ("capacity", "maximumVolumeSize"):
        if obj.get(field) is not None:
            errors += non_negative_quantity(field, obj[field])
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("nodeTopology", "storageClassName"):
        if strip(new.get(field)) != strip(old.get(field)):
            errors.append(invalid_value(field, new.get(field), "field is immutable"))
    return errors


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import label_warnings, term_warnings

    selector = obj.get("nodeTopology") or {}
    return label_warnings(selector.get("matchLabels") or {}, "nodeTopology.matchLabels") + term_warnings(
        selector, "nodeTopology"
    )
