"""JSON Merge Patch (RFC 7386), as upstream's library applies it."""

from __future__ import annotations

from typing import Any

from peavine.machinery.errors import bad_request

_GO_KINDS = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}


def apply_merge_patch(doc: dict[str, Any], patch: Any) -> dict[str, Any]:
    """`doc` merged with `patch`: null deletes, objects merge, everything else replaces.

    Both arguments stay as they were; the result shares unchanged parts with them. Where RFC 7386 leaves lists alone,
    upstream drops null members from the objects in a list that is new; so does this. Raises ApiError 400 when `patch`
    is not an object.
    """
    if patch is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        kind = _GO_KINDS.get(type(patch), "value")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return _merge(doc, patch)


def _merge(doc: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(doc)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
            continue
        current = merged.get(key)
        if not isinstance(current, dict):
            merged[key] = _without_nulls(value)
        elif isinstance(value, dict):
            merged[key] = _merge(current, value)
        else:
            merged[key] = value
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
