"""Client-side apply: the patch from the last applied configuration, the wished one, and what the server has.

Follows apimachinery's `strategicpatch` and `jsonmergepatch`: what was applied before and is gone now is deleted, what
is wished and differs is set, what others set is left alone.
"""

from __future__ import annotations

from typing import Any

from peavine.machinery.schema import Type

Object = dict[str, Any]
_MISSING: Any = object()


def three_way(original: Object, modified: Object, current: Object, type: Type | None) -> Object:
    """The patch for `current`: strategic where `type` is given, else a merge patch."""
    patch: Object = {}
    for key, wished in modified.items():
        kind = _field(type, key)
        if key not in current or current[key] is None:
            if wished is not None:
                patch[key] = wished
            continue
        _both(patch, key, original.get(key), wished, current[key], kind)
    for key in original:
        if key not in modified and key in current:
            patch[key] = None
    return patch


def _field(type: Type | None, key: str) -> Type | None:
    if type is None:
        return None
    if type.kind == "map":
        return type.items
    field = type.fields.get(key)
    return field.type if field else None


def _both(patch: Object, key: str, before: Any, wished: Any, current: Any, type: Type | None) -> None:
    if isinstance(wished, dict) and isinstance(current, dict):
        strategy = (type.patch_strategy or "") if type else ""
        if "replace" in strategy.split(","):
            if wished != current:
                patch[key] = {"$patch": "replace", **wished}
            return
        inner = three_way(before if isinstance(before, dict) else {}, wished, current, type)
        if inner:
            if "retainKeys" in strategy:
                inner["$retainKeys"] = sorted(wished)
            patch[key] = inner
    elif isinstance(wished, list) and isinstance(current, list) and type is not None and _merges(type):
        _merge_list(patch, key, before if isinstance(before, list) else [], wished, current, type)
    elif wished != current:
        patch[key] = wished


def _merges(type: Type) -> bool:
    return "merge" in (type.patch_strategy or "").split(",")


def _merge_list(patch: Object, key: str, before: list[Any], wished: list[Any], current: list[Any], type: Type) -> None:
    merge_key = type.patch_merge_key
    if not merge_key:
        added = [item for item in wished if item not in current]
        removed = [item for item in before if item not in wished and item in current]
        if added:
            patch[key] = added
        if removed:
            patch[f"$deleteFromPrimitiveList/{key}"] = removed
        if added or removed:
            patch[f"$setElementOrder/{key}"] = wished
        return
    known = {item.get(merge_key): item for item in current}
    earlier = {item.get(merge_key): item for item in before}
    changed: list[Object] = []
    for item in wished:
        name = item.get(merge_key)
        if name not in known:
            changed.append(item)
            continue
        inner = three_way(earlier.get(name, {}), item, known[name], type.items)
        if inner:
            changed.append({**inner, merge_key: name})
    names = {item.get(merge_key) for item in wished}
    for name in earlier:
        if name not in names and name in known:
            changed.append({"$patch": "delete", merge_key: name})
    strategy = type.patch_strategy or ""
    if changed:
        if "retainKeys" in strategy:
            by_name = {item.get(merge_key): item for item in wished}
            for item in changed:
                if "$patch" not in item and item[merge_key] in known:
                    item["$retainKeys"] = sorted(by_name[item[merge_key]])
        patch[key] = changed
        patch[f"$setElementOrder/{key}"] = [{merge_key: item.get(merge_key)} for item in wished]
