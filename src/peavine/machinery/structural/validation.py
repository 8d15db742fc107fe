"""Validation of values by a structural schema: OpenAPI v3's keywords, list types, embedded resources; ratcheting.

Follows kube-openapi's `validation/validate` and apiextensions-apiserver's `validation` and `schema/listtype`. CEL rules
are not evaluated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from peavine.machinery.errors import FieldError, duplicate, invalid_value, not_supported, required
from peavine.machinery.structural.formats import FORMATS
from peavine.machinery.structural.node import Structural
from peavine.machinery.validation import is_dns1035_label

ABSENT: Any = object()


class _Plain(FieldError):
    """An error that belongs to no field; upstream's path of such errors reads `<nil>`."""

    def __init__(self, message: str, prefix: str) -> None:
        super().__init__("Invalid", prefix or "<nil>", "", message)


def validate(value: Any, schema: Structural, path: str = "", old: Any = ABSENT) -> list[FieldError]:
    """All errors of a value. With `old`, what has not changed is not complained about (ratcheting).

    `path` is where the value stands (`spec` of an object, empty for a whole one).
    """
    return _Validator(path).check(value, schema.schema, path, old)


class _Validator:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def check(self, value: Any, schema: dict[str, Any], path: str, old: Any = ABSENT) -> list[FieldError]:
        if old is not ABSENT and old is not None and same(value, old):
            return []
        errors = _check_type(value, schema, path)
        if value is None:
            return errors + _check_enum(value, schema, path)
        errors += self._junctors(value, schema, path)
        if isinstance(value, str):
            errors += _check_string(value, schema, path)
        elif isinstance(value, bool):
            pass
        elif isinstance(value, (int, float)):
            errors += _check_number(value, schema, path)
        elif isinstance(value, list):
            errors += self._list(value, schema, path, old)
        errors += _check_enum(value, schema, path)
        if isinstance(value, dict):
            errors += self._object(value, schema, path, old)
        return errors

    def _list(self, value: list[Any], schema: dict[str, Any], path: str, old: Any) -> list[FieldError]:
        errors: list[FieldError] = []
        items = schema.get("items")
        if isinstance(items, dict):
            before = _correlated(old, schema) if isinstance(old, list) else lambda index, item: ABSENT
            for index, item in enumerate(value):
                errors += self.check(item, items, f"{path}[{index}]", before(index, item))
        if schema.get("minItems") is not None and len(value) < schema["minItems"]:
            message = f"{path} in body should have at least {schema['minItems']} items"
            errors.append(invalid_value(_field(path), value, message))
        if schema.get("maxItems") is not None and len(value) > schema["maxItems"]:
            detail = f"must have at most {schema['maxItems']} items"
            errors.append(FieldError("TooMany", _field(path), len(value), detail))
        if schema.get("uniqueItems") and len({_key(item) for item in value}) < len(value):
            errors.append(invalid_value(_field(path), value, f"{path} in body shouldn't contain duplicates"))
        return errors

    def _object(self, value: dict[str, Any], schema: dict[str, Any], path: str, old: Any) -> list[FieldError]:
        count, low, high = len(value), schema.get("minProperties"), schema.get("maxProperties")
        if low is not None and count < low:
            message = f"{path} in body should have at least {low} properties"
            return [invalid_value(_field(path), value, message)]
        if high is not None and count > high:
            return [FieldError("TooMany", _field(path), count, f"must have at most {high} items")]
        errors: list[FieldError] = []
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        before = old if isinstance(old, dict) else {}
        for key, item in value.items():
            child = properties.get(key)
            if child is None and isinstance(additional, dict):
                child = additional
            if child is not None:
                errors += self.check(item, child, f"{path}.{key}" if path else key, before.get(key, ABSENT))
        for key in schema.get("required") or ():
            if key not in value:
                errors.append(required(f"{path}.{key}" if path else key))
        return errors

    def _junctors(self, value: Any, schema: dict[str, Any], path: str) -> list[FieldError]:
        errors: list[FieldError] = []
        shown = '"' + path + '"'
        if schema.get("anyOf"):
            results = [self.check(value, option, path) for option in schema["anyOf"]]
            if all(results):
                errors.append(self._plain(f"{shown} must validate at least one schema (anyOf)"))
                errors += _fewest(results)
        if schema.get("oneOf"):
            results = [self.check(value, option, path) for option in schema["oneOf"]]
            good = sum(not found for found in results)
            if good == 0:
                errors.append(self._plain(f"{shown} must validate one and only one schema (oneOf). Found none valid"))
                errors += _fewest(results)
            elif good > 1:
                message = f"{shown} must validate one and only one schema (oneOf). Found {good} valid alternatives"
                errors.append(self._plain(message))
        if schema.get("allOf"):
            results = [self.check(value, option, path) for option in schema["allOf"]]
            for found in results:
                errors += found
            if all(results):
                errors.append(self._plain(f"{shown} must validate all the schemas (allOf). None validated"))
            elif any(results):
                errors.append(self._plain(f"{shown} must validate all the schemas (allOf)"))
        if schema.get("not") is not None and not self.check(value, schema["not"], path):
            errors.append(self._plain(f"{shown} must not validate the schema (not)"))
        return errors

    def _plain(self, message: str) -> FieldError:
        return _Plain(message, self.prefix)


def _fewest(results: list[list[FieldError]]) -> list[FieldError]:
    """The errors of the alternative that came closest."""
    return min(results, key=len)


def _field(path: str) -> str:
    return path or "<nil>"


def _go_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
        case list():
            return "array"
    return "object"


def _check_type(value: Any, schema: dict[str, Any], path: str) -> list[FieldError]:
    wanted = "integer,string" if schema.get("x-kubernetes-int-or-string") else schema.get("type") or ""
    if not wanted:
        return []
    found, format = _go_type(value), schema.get("format")
    types = wanted.split(",")
    if value is None:
        fits = bool(schema.get("nullable"))
    elif found in types or (found == "integer" and "number" in types):
        fits = True
    elif found == "number" and "integer" in types:
        fits = math.isfinite(value) and float(value).is_integer()
    else:
        fits = bool(format) and found in ("string", "array") and not {"number", "integer"} & set(types)
    if fits:
        return []
    message = f'{path} in body must be of type {wanted}: "{found}"'
    return [FieldError("TypeInvalid", _field(path), found, message)]


def _check_string(value: str, schema: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    high, low, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if high is not None and len(value) > high:
        errors.append(FieldError("TooLong", _field(path), value, f"may not be more than {high} bytes"))
    elif low is not None and len(value) < low:
        message = f"{path} in body should be at least {low} chars long"
        errors.append(invalid_value(_field(path), value, message))
    elif pattern and not compile_pattern(pattern)(value):
        errors.append(invalid_value(_field(path), value, f"{path} in body should match '{pattern}'"))
    check = FORMATS.get((schema.get("format") or "").replace("-", "")) or FORMATS.get(schema.get("format") or "")
    if check and not check(value):
        shown = orjson.dumps(value).decode()
        message = f"{path} in body must be of type {schema['format']}: {shown}"
        errors.append(FieldError("TypeInvalid", _field(path), value, message))
    return errors


def _number(value: Any) -> str:
    """A number as Go's %v shows a float64."""
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    return str(int(value)) if abs(value) < 1e21 else f"{value:e}"


def _check_number(value: int | float, schema: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    step, high, low = schema.get("multipleOf"), schema.get("maximum"), schema.get("minimum")

    def complain(words: str) -> None:
        errors.append(invalid_value(_field(path), value, f"{path} in body should be {words}"))

    if step and not float(value / step).is_integer():
        complain(f"a multiple of {_number(step)}")
    if high is not None:
        if schema.get("exclusiveMaximum"):
            if value >= high:
                complain(f"less than {_number(high)}")
        elif value > high:
            complain(f"less than or equal to {_number(high)}")
    if low is not None:
        if schema.get("exclusiveMinimum"):
            if value <= low:
                complain(f"greater than {_number(low)}")
        elif value < low:
            complain(f"greater than or equal to {_number(low)}")
    bits = {"int32": 32, "int64": 64}.get(schema.get("format") or "")
    if bits and schema.get("type") == "integer" and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        message = f"Checked value must be of type integer with format {schema['format']} in {path}"
        errors.append(invalid_value(_field(path), value, message))
    return errors


def _check_enum(value: Any, schema: dict[str, Any], path: str) -> list[FieldError]:
    allowed = schema.get("enum")
    if not allowed or any(same(value, choice) for choice in allowed):
        return []
    return [
        not_supported(_field(path), value, [x if isinstance(x, str) else orjson.dumps(x).decode() for x in allowed])
    ]


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if a.__class__ is not b.__class__:
        number = (int, float)
        return a.__class__ in number and b.__class__ in number and a == b
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(x, b[key]) for key, x in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Callable[[str], Any]:
    """The search function of a pattern in RE2's syntax, which cannot be made to hang. Raises ValueError."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options).search
    except re2.error as error:
        raise ValueError(str(error)) from None


# --- list types, embedded resources


def _key(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _map_key(item: Any, keys: tuple[str, ...], schema: dict[str, Any]) -> bytes | None:
    if not isinstance(item, dict):
        return None
    properties = schema.get("properties") or {}
    return _key([item.get(key, (properties.get(key) or {}).get("default")) for key in keys])


def _correlated(old: list[Any], schema: dict[str, Any]) -> Callable[[int, Any], Any]:
    """How to find the former self of a list's item: only a map-list knows."""
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if schema.get("x-kubernetes-list-type") != "map" or not keys:
        return lambda index, item: ABSENT
    items = schema["items"]
    before = {_map_key(item, keys, items): item for item in old}
    return lambda index, item: before.get(_map_key(item, keys, items), ABSENT)


def validate_lists(value: Any, schema: Structural | None, path: str = "") -> list[FieldError]:
    """Items that a set or map-list holds twice; and embedded resources without apiVersion or kind."""
    if schema is None or not schema.has_list_types:
        return []
    errors: list[FieldError] = []
    if isinstance(value, dict):
        if schema.embedded and path:
            errors += _check_embedded(value, path)
        for key, item in value.items():
            errors += validate_lists(item, schema.child(key), f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        errors += _check_duplicates(value, schema, path)
        for index, item in enumerate(value):
            errors += validate_lists(item, schema.items, f"{path}[{index}]")
    return errors


def _check_duplicates(value: list[Any], schema: Structural, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: dict[bytes | None, int] = {}
    if schema.list_type not in ("set", "map"):
        return errors
    keys, items = schema.list_map_keys, schema.items.schema if schema.items else {}
    for index, item in enumerate(value):
        identity = _key(item) if schema.list_type == "set" else _map_key(item, keys, items)
        if identity is None:
            continue
        seen[identity] = seen.get(identity, 0) + 1
        if seen[identity] == 2:
            shown = item if schema.list_type == "set" else {key: item[key] for key in keys if key in item}
            errors.append(duplicate(f"{path}[{index}]", shown))
    return errors


def _check_embedded(value: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("apiVersion", "kind"):
        if not value.get(key):
            errors.append(required(f"{path}.{key}", "must not be empty"))
    kind = value.get("kind")
    if isinstance(kind, str) and kind:
        errors += [invalid_value(f"{path}.kind", kind, message) for message in is_dns1035_label(kind.lower())]
    if isinstance(value.get("apiVersion"), str) and value["apiVersion"].count("/") > 1:
        message = f"unexpected GroupVersion string: {value['apiVersion']}"
        errors.append(invalid_value(f"{path}.apiVersion", value["apiVersion"], message))
    return errors
