"""TokenRequest: a token for a service account, for a time, an audience and perhaps an object."""

from __future__ import annotations

from typing import Any

from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

SECONDS_MIN, SECONDS_MAX, SECONDS_DEFAULT = 600, 2**32, 3600


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = SECONDS_DEFAULT


def validate_metadata(obj: Object) -> list[FieldError]:
    return []


def validate_create(obj: Object) -> list[FieldError]:
    seconds = (obj.get("spec") or {}).get("expirationSeconds") or 0
    if seconds < SECONDS_MIN:
        message = "may not specify a duration less than 10 minutes"
        return [invalid_value("spec.expirationSeconds", seconds, message)]
    if seconds > SECONDS_MAX:
        message = "may not specify a duration larger than 2^32 seconds"
        return [invalid_value("spec.expirationSeconds", seconds, message)]
    return []
