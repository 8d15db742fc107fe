"""VolumeAttributesClass: changeable properties of volumes."""

from __future__ import annotations

from typing import Any

from peavine.api.core.volume_validation import driver_name
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.api.storage.storageclass import validate_parameters
from peavine.machinery.errors import FieldError, forbidden_field

Object = dict[str, Any]

COLUMNS = (NAME, Column("DriverName", description="@storage.v1.VolumeAttributesClass.driverName"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), obj.get("driverName") or "", object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    errors = driver_name(obj.get("driverName") or "", "driverName")
    return errors + validate_parameters(obj.get("parameters") or {}, "parameters", least=1)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if new.get("driverName") != old.get("driverName"):
        errors.append(forbidden_field("driverName", "updates to driverName are forbidden."))
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        errors.append(forbidden_field("parameters", "updates to parameters are forbidden."))
    return errors
