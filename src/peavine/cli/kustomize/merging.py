"""Strategic merge as kustomize does it: by the schema's merge keys, what the patch brings first."""

from __future__ import annotations

from typing import Any

from peavine.machinery.schema import Type

Object = dict[str, Any]
_GONE: Any = object()


def merge(target: Any, patch: Any, type: Type | None) -> Any:
    """`target` after the patch. Without a type, lists are replaced."""
    found = _merge(target, patch, type)
    return None if found is _GONE else found


def _merge(target: Any, patch: Any, type: Type | None) -> Any:
    if isinstance(patch, dict):
        return _merge_map(target, patch, type)
    if isinstance(patch, list) and isinstance(target, list) and type is not None:
        strategy = (type.patch_strategy or "").split(",")
        if "merge" in strategy:
            return _merge_list(target, patch, type)
    return _plain(patch)


def _merge_map(target: Any, patch: Object, type: Type | None) -> Any:
    directive = patch.get("$patch")
    if directive == "delete":
        return _GONE
    if directive == "replace" or not isinstance(target, dict):
        return _plain(patch)
    merged = dict(target)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
            continue
        result = _merge(merged.get(key), value, _below(type, key))
        if result is _GONE:
            merged.pop(key, None)
        else:
            merged[key] = result
    return merged


def _below(type: Type | None, key: str) -> Type | None:
    if type is None:
        return None
    if type.kind == "map":
        return type.items
    field = type.fields.get(key)
    return field.type if field else None


def _plain(value: Any) -> Any:
    """A value of the patch that meets none: without directives and nulls."""
    if isinstance(value, dict):
        if value.get("$patch") == "delete":
            return _GONE
        kept = {key: _plain(item) for key, item in value.items() if not key.startswith("$") and item is not None}
        return {key: item for key, item in kept.items() if item is not _GONE}
    if isinstance(value, list):
        return [item for item in map(_plain, value) if item is not _GONE]
    return value


def _merge_list(target: list[Any], patch: list[Any], type: Type) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" and len(item) == 1 for item in patch):
        return [_plain(item) for item in patch if item != {"$patch": "replace"}]
    if not all(isinstance(item, dict) for item in (*target, *patch)):
        return [*patch, *(item for item in target if item not in patch)]
    keys = list(type.list_map_keys or ()) or ([type.patch_merge_key] if type.patch_merge_key else [])
    keys = [key for key in keys if any(item.get(key) not in (None, "") for item in (*patch, *target))] or keys
    if not keys:
        return [_plain(item) for item in patch]
    used = [key for key in keys if any(item.get(key) not in (None, "") for item in patch)] or keys

    def name(item: Object) -> tuple[Any, ...]:
        return tuple(item.get(key) for key in used)

    result: list[Any] = []
    for item in patch:
        meets = [known for known in target if name(known) == name(item)]
        merged = _merge(meets[0] if meets else None, item, type.items)
        if merged is not _GONE:
            result.append(merged)
    named = {name(item) for item in patch}
    return [*result, *(item for item in target if name(item) not in named)]
