"""The rules that the four access reviews share."""

from __future__ import annotations

from typing import Any

from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]


def validate_attributes(spec: Object) -> list[FieldError]:
    resource, url = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and url is not None:
        message = "cannot be specified in combination with resourceAttributes"
        return [invalid_value("spec.nonResourceAttributes", url, message)]
    if resource is None and url is None:
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [invalid_value("spec.resourceAttributes", None, message)]
    return []


def validate_subject(spec: Object) -> list[FieldError]:
    errors = validate_attributes(spec)
    if not spec.get("user") and not spec.get("groups"):
        message = "at least one of user or group must be specified"
        errors.append(invalid_value("spec.user", spec.get("user") or "", message))
    return errors
