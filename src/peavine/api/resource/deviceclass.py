"""DeviceClass: a sort of device, by selectors, with configuration for its driver."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.api.resource.devices import validate_configuration, validate_selectors
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

COLUMNS = (NAME, Column("Age", description=AGE.description))
ITEMS_MAX = 32


def row(obj: Object) -> list[Any]:
    return [name(obj), object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = validate_selectors(spec.get("selectors") or [], "spec.selectors")
    for i, config in enumerate(spec.get("config") or []):
        errors += validate_configuration(config, f"spec.config[{i}]")
    extended = spec.get("extendedResourceName")
    if extended is not None:
        from peavine.api.core.resourcenames import is_extended

        if not is_extended(extended):
            message = "must be a valid extended resource name"
            errors.append(invalid_value("spec.extendedResourceName", extended, message))
    return errors
