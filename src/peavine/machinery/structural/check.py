"""Whether a schema may stand in a CustomResourceDefinition: its keywords, and whether it is structural.

Follows apiextensions-apiserver's `validation` (the keywords) and `schema` (the structural rules), wording included.
"""

from __future__ import annotations

import copy
from typing import Any

import orjson

from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from peavine.machinery.structural.defaulting import apply_defaults
from peavine.machinery.structural.node import INT_OR_STRING_ANY_OF, JUNCTORS, Structural
from peavine.machinery.structural.pruning import prune
from peavine.machinery.structural.validation import compile_pattern, same, validate

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_NOT_SUPPORTED = ("$ref", "definitions", "dependencies", "patternProperties", "id", "additionalItems")
_SCALARS = ("string", "integer", "number", "boolean")


def check_schema(
    schema: dict[str, Any], path: str, *, structural: bool = True, defaults: bool = True
) -> list[FieldError]:
    """Everything wrong with an `openAPIV3Schema` that stands at `path`. CEL rules are not compiled here."""
    errors = _keywords(schema, path, nested=False)
    if structural:
        found = check_structural(schema, path)
        errors += found
        if not found and defaults:
            errors += _defaults(schema, path)
    return errors


# --- keywords


def _keywords(schema: dict[str, Any], path: str, *, nested: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for keyword in _NOT_SUPPORTED:
        if schema.get(keyword) not in (None, "", {}, []):
            errors.append(forbidden_field(f"{path}.{keyword}", f"{keyword} is not supported"))
    if schema.get("uniqueItems"):
        message = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", message))
    kind = schema.get("type") or ""
    if kind == "null":
        errors.append(forbidden_field(f"{path}.type", "type cannot be set to null, use nullable as an alternative"))
    elif kind and kind not in TYPES:
        errors.append(not_supported(f"{path}.type", kind, TYPES))
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        message = "must be true or undefined"
        errors.append(invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, message))
    additional = schema.get("additionalProperties")
    if additional is False:
        message = "additionalProperties cannot be set to false"
        errors.append(forbidden_field(f"{path}.additionalProperties", message))
    if additional is not None and schema.get("properties"):
        message = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden_field(f"{path}.additionalProperties", message))
    if isinstance(schema.get("items"), list):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    errors += _list_and_map_types(schema, path)
    for child, at in _children(schema, path):
        errors += _keywords(child, at, nested=nested)
    for child, at in _junctor_children(schema, path):
        errors += _keywords(child, at, nested=True)
    return errors


def _children(schema: dict[str, Any], path: str) -> list[tuple[dict[str, Any], str]]:
    found = [(child, f"{path}.properties[{name}]") for name, child in (schema.get("properties") or {}).items()]
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            found.append((schema[keyword], f"{path}.{keyword}"))
    return found


def _junctor_children(schema: dict[str, Any], path: str) -> list[tuple[dict[str, Any], str]]:
    found = [
        (child, f"{path}.{keyword}[{index}]")
        for keyword in JUNCTORS
        for index, child in enumerate(schema.get(keyword) or ())
    ]
    return [*found, (schema["not"], f"{path}.not")] if schema.get("not") is not None else found


def _list_and_map_types(schema: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, list_type = schema.get("type") or "", schema.get("x-kubernetes-list-type")
    if schema.get("x-kubernetes-map-type") and kind != "object":
        message = "must be object if x-kubernetes-map-type is specified"
        errors.append(invalid_value(f"{path}.type", kind, message) if kind else required(f"{path}.type", message))
    if list_type is not None and kind != "array":
        message = "must be array if x-kubernetes-list-type is specified"
        errors.append(invalid_value(f"{path}.type", kind, message) if kind else required(f"{path}.type", message))
    raw_items = schema.get("items")
    items: dict[str, Any] | None = raw_items if isinstance(raw_items, dict) else None
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if list_type == "set" and items is not None:
        if items.get("nullable"):
            message = "cannot be nullable when x-kubernetes-list-type is set"
            errors.append(forbidden_field(f"{path}.items.nullable", message))
        if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
            message = "must be atomic as item of a list with x-kubernetes-list-type=set"
            shown = items.get("x-kubernetes-map-type")
            errors.append(invalid_value(f"{path}.items.x-kubernetes-map-type", shown, message))
        if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
            message = "must be atomic as item of a list with x-kubernetes-list-type=set"
            errors.append(
                invalid_value(f"{path}.items.x-kubernetes-list-type", items.get("x-kubernetes-list-type"), message)
            )
    if list_type == "map":
        errors += _map_list(schema, items, keys, path)
    elif keys:
        message = "must not be set if x-kubernetes-list-type is not map"
        errors.append(forbidden_field(f"{path}.x-kubernetes-list-map-keys", message))
    return errors


def _map_list(schema: dict[str, Any], items: dict[str, Any] | None, keys: list[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    at = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(at, "must not be empty if x-kubernetes-list-type is map"))
    if items is None:
        errors.append(required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
        return errors
    if items.get("type") != "object":
        message = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(invalid_value(f"{path}.items.type", items.get("type") or "", message))
    if items.get("nullable"):
        errors.append(
            forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is map")
        )
    properties, demanded = items.get("properties") or {}, items.get("required") or []
    for key in keys:
        prop = properties.get(key)
        if prop is None:
            errors.append(invalid_value(at, keys, "entries must all be names of item properties"))
            break
        if (prop.get("type") or "") not in _SCALARS:
            message = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(invalid_value(f"{path}.items.properties[{key}].type", prop.get("type") or "", message))
        if prop.get("nullable"):
            message = "cannot be nullable when it is a key of an x-kubernetes-list-type=map"
            errors.append(forbidden_field(f"{path}.items.properties[{key}].nullable", message))
        if key not in demanded and prop.get("default") is None:
            message = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            )
            errors.append(required(f"{path}.items.properties[{key}].default", message))
    if len(set(keys)) < len(keys):
        errors.append(invalid_value(at, keys, "must not contain duplicate entries"))
    return errors


# --- structural


def check_structural(schema: dict[str, Any], path: str) -> list[FieldError]:
    """What keeps a schema from being structural."""
    errors = _structural(schema, path, "root")
    return errors + _complete(schema, schema, path, path)


def _structural(schema: dict[str, Any], path: str, level: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if isinstance(schema.get("items"), dict):
        errors += _structural(schema["items"], f"{path}.items", "item")
    for name, child in (schema.get("properties") or {}).items():
        errors += _structural(child, f"{path}.properties[{name}]", "field")
    additional = schema.get("additionalProperties")
    if additional is not None:
        if level == "root":
            errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))
        if isinstance(additional, dict):
            errors += _structural(additional, f"{path}.additionalProperties", "field")
    errors += _extensions(schema, path)
    errors += _value_validation(schema, path, *_int_or_string_patterns(schema))
    errors += _type(schema, path, level)
    if level == "root" or schema.get("x-kubernetes-embedded-resource"):
        errors += _own_fields(schema, path)
    return errors


def _extensions(schema: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if schema.get("x-kubernetes-int-or-string"):
        for keyword in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
            if schema.get(keyword):
                message = "must be false if x-kubernetes-int-or-string is true"
                errors.append(invalid_value(f"{path}.{keyword}", True, message))
    for keyword, allowed in (
        ("x-kubernetes-map-type", ("atomic", "granular")),
        ("x-kubernetes-list-type", ("atomic", "set", "map")),
    ):
        if schema.get(keyword) is not None and schema[keyword] not in allowed:
            errors.append(not_supported(f"{path}.{keyword}", schema[keyword], allowed))
    return errors


def _int_or_string_patterns(schema: dict[str, Any]) -> tuple[bool, bool]:
    """The forms in which junctors may name types: int-or-string's `anyOf: [integer, string]`, perhaps in an `allOf`."""
    if not schema.get("x-kubernetes-int-or-string"):
        return False, False
    if schema.get("anyOf") == INT_OR_STRING_ANY_OF:
        return True, False
    all_of = schema.get("allOf") or []
    return False, bool(all_of) and all_of[0].get("anyOf") == INT_OR_STRING_ANY_OF


def _value_validation(
    schema: dict[str, Any], path: str, skip_any: bool = False, skip_first_all: bool = False
) -> list[FieldError]:
    errors: list[FieldError] = []
    if not skip_any:
        for index, child in enumerate(schema.get("anyOf") or ()):
            errors += _nested(child, f"{path}.anyOf[{index}]")
    for index, child in enumerate(schema.get("allOf") or ()):
        errors += _nested(child, f"{path}.allOf[{index}]", skip_any=skip_first_all and index == 0)
    for index, child in enumerate(schema.get("oneOf") or ()):
        errors += _nested(child, f"{path}.oneOf[{index}]")
    if schema.get("not") is not None:
        errors += _nested(schema["not"], f"{path}.not")
    pattern = schema.get("pattern")
    if pattern:
        try:
            compile_pattern(pattern)
        except ValueError as error:
            message = f"must be a valid regular expression, but isn't: {error}"
            errors.append(invalid_value(f"{path}.pattern", pattern, message))
    return errors


_EMPTY, _UNDEFINED, _FALSE = (
    "must be empty to be structural",
    "must be undefined to be structural",
    "must be false to be structural",
)
_FORBIDDEN_NESTED = (
    ("type", _EMPTY), ("additionalProperties", _UNDEFINED), ("default", _UNDEFINED), ("title", _EMPTY),
    ("description", _EMPTY), ("nullable", _FALSE), ("x-kubernetes-preserve-unknown-fields", _FALSE),
    ("x-kubernetes-embedded-resource", _FALSE), ("x-kubernetes-int-or-string", _FALSE),
    ("x-kubernetes-list-map-keys", _EMPTY), ("x-kubernetes-list-type", _UNDEFINED),
    ("x-kubernetes-map-type", _UNDEFINED), ("x-kubernetes-validations", _EMPTY),
)  # fmt: skip


def _nested(schema: dict[str, Any], path: str, skip_any: bool = False) -> list[FieldError]:
    errors = _value_validation(schema, path, skip_any)
    if isinstance(schema.get("items"), dict):
        errors += _nested(schema["items"], f"{path}.items")
    for name, child in (schema.get("properties") or {}).items():
        errors += _nested(child, f"{path}.properties[{name}]")
    for keyword, message in _FORBIDDEN_NESTED:
        if schema.get(keyword) not in (None, "", False, []):
            errors.append(forbidden_field(f"{path}.{keyword}", message))
    properties = schema.get("properties") or {}
    if "metadata" in properties:
        message = "must not be specified in a nested context"
        errors.append(forbidden_field(f"{path}.properties[metadata]", message))
    return errors


def _type(schema: dict[str, Any], path: str, level: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, embedded = schema.get("type") or "", schema.get("x-kubernetes-embedded-resource")
    preserve = schema.get("x-kubernetes-preserve-unknown-fields")
    at = f"{path}.type"
    if embedded and kind != "object":
        message = "must be object if x-kubernetes-embedded-resource is true"
        errors.append(invalid_value(at, kind, message) if kind else required(at, message))
    elif not kind and not schema.get("x-kubernetes-int-or-string") and not preserve:
        where = {
            "root": "at the root", "item": "for specified array items", "field": "for specified object fields",
        }[level]  # fmt: skip
        errors.append(required(at, f"must not be empty {where}"))
    if embedded and schema.get("additionalProperties") is not None:
        message = "must not be used if x-kubernetes-embedded-resource is set"
        errors.append(forbidden_field(f"{path}.additionalProperties", message))
    if level == "root" and kind and kind != "object":
        errors.append(invalid_value(at, kind, "must be object at the root"))
    if embedded and not preserve and not schema.get("properties"):
        message = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        errors.append(required(f"{path}.properties", message))
    return errors


def _own_fields(schema: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    properties = schema.get("properties") or {}
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            shown = properties[name].get("type") or ""
            errors.append(invalid_value(f"{path}.properties[{name}].type", shown, "must be string"))
    metadata = properties.get("metadata")
    if metadata is not None:
        at = f"{path}.properties[metadata]"
        if metadata.get("type") != "object":
            errors.append(invalid_value(f"{at}.type", metadata.get("type") or "", "must be object"))
        others = {key for key, value in metadata.items() if value not in (None, "", False, [], {})}
        named = set(metadata.get("properties") or {}) <= {"name", "generateName"}
        if others - {"type", "properties", "default", "description", "title"} or not named:
            message = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            errors.append(forbidden_field(at, message))
    return errors


def _complete(schema: dict[str, Any], validation: dict[str, Any], path: str, at: str) -> list[FieldError]:
    """Every property and item that a junctor constrains must be specified outside of it."""
    errors: list[FieldError] = []
    for child, where in _junctor_children(validation, at):
        errors += _complete_nested(schema, child, path, where)
    if schema is validation:
        for below, where in _children(schema, path):
            errors += _complete(below, below, where, where)
    return errors


def _complete_nested(schema: dict[str, Any], nested: dict[str, Any], path: str, at: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if isinstance(nested.get("items"), dict):
        if isinstance(schema.get("items"), dict):
            errors += _complete_nested(schema["items"], nested["items"], f"{path}.items", f"{at}.items")
        else:
            errors.append(required(f"{path}.items", f"because it is defined in {at}.items"))
    for name, child in (nested.get("properties") or {}).items():
        where, place = f"{at}.properties[{name}]", f"{path}.properties[{name}]"
        own = (schema.get("properties") or {}).get(name)
        if own is None and isinstance(schema.get("additionalProperties"), dict):
            own, place = schema["additionalProperties"], f"{path}.additionalProperties"
        if own is None:
            errors.append(required(place, f"because it is defined in {where}"))
        else:
            errors += _complete_nested(own, child, place, where)
    return errors + _complete(schema, nested, path, at)


# --- defaults


def _defaults(schema: dict[str, Any], path: str, *, root: bool = True, metadata: bool = False) -> list[FieldError]:
    """Defaults must be what the schema itself would keep and accept."""
    errors: list[FieldError] = []
    default = schema.get("default")
    if default is not None:
        at = f"{path}.default"
        node = Structural({key: value for key, value in schema.items() if key != "default"})
        pruned = copy.deepcopy(default)
        if metadata:
            errors.append(forbidden_field(at, "must not be set"))
        elif prune(pruned, node, root=root or node.embedded) and not same(pruned, default):
            shown = orjson.dumps(default).decode()
            errors.append(invalid_value(at, shown, "must not have unknown fields"))
        else:
            apply_defaults(pruned, node)
            errors += validate(pruned, node, at)
    own = root or bool(schema.get("x-kubernetes-embedded-resource"))
    for child, where in _children(schema, path):
        inside = metadata or (own and where.endswith(".properties[metadata]"))
        errors += _defaults(child, where, root=False, metadata=inside)
    return errors
