"""ConfigMap: keys that are file names, at most 1 MiB, and content that may be sealed."""

from __future__ import annotations

import base64
from typing import Any

from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, too_long

Object = dict[str, Any]

SIZE_MAX = 1024 * 1024

COLUMNS = (NAME, Column("Data", description="@core.v1.ConfigMap.data"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), object_age(obj)]


def prepare_create(obj: Object) -> None:
    drop_unsealed(obj)


def prepare_update(new: Object, old: Object) -> None:
    drop_unsealed(new)


def drop_unsealed(obj: Object) -> None:
    if obj.get("immutable") is None:
        obj.pop("immutable", None)


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        errors += broken(f"data[{key}]", key, rules.is_config_map_key(key))
        if key in binary:
            errors.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode())
    for key, value in binary.items():
        errors += broken(f"binaryData[{key}]", key, rules.is_config_map_key(key))
        size += decoded_size(value)
    if size > SIZE_MAX:
        errors.append(too_long("", SIZE_MAX))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if old.get("immutable"):
        if not new.get("immutable"):
            errors.append(forbidden_field("immutable", "field is immutable when `immutable` is set"))
        for field in ("data", "binaryData"):
            if (new.get(field) or {}) != (old.get(field) or {}):
                errors.append(forbidden_field(field, "field is immutable when `immutable` is set"))
    return errors + validate_create(new)


def decoded_size(text: str) -> int:
    """Bytes behind a base64 string of the wire."""
    return len(base64.b64decode(text or ""))
