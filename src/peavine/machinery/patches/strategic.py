"""Strategic merge patch: a merge patch whose lists merge by key, as the schema's patch strategies say.

Directives: `$patch: replace|delete` in an object or a list element, `$retainKeys`, `$setElementOrder/FIELD`,
`$deleteFromPrimitiveList/FIELD`. Follows apimachinery's design document "strategic merge patch".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peavine.machinery.errors import ApiError, bad_request
from peavine.machinery.schema import Type

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_ORDER = "$setElementOrder"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList"

_BAD_PRIMITIVE_LIST = "invalid patch format of primitive list"
_BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
_BAD_ORDER = "invalid patch format of setElementOrder list"


def apply_strategic_patch(doc: dict[str, Any], patch: Any, type: Type | None) -> dict[str, Any]:
    """`doc` merged with `patch` by the patch strategies of `type`; both stay as they were.

    The result shares unchanged parts with both. Without a type, lists replace. Raises ApiError: 422 for lists of
    lists, 400 for everything else that is wrong, in upstream's words (which are sometimes a 500's there).
    """
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal into Go value of type map[string]interface {}")
    return _merge_map(doc, patch, type)


def _unclassified(message: str) -> ApiError:
    return bad_request(message)


def _merge_map(original: dict[str, Any] | None, patch: dict[str, Any], type: Type | None) -> dict[str, Any]:
    if _DIRECTIVE in patch:
        directive = patch[_DIRECTIVE]
        if directive == "replace":
            return {k: v for k, v in patch.items() if k != _DIRECTIVE}
        if directive == "delete":
            return {}
        raise _unclassified(f"unknown patch type: {go_format(directive)} in map: {go_format(patch)}")
    merged = dict(original or {})
    patch = _retain_keys(merged, patch)
    patch = _merge_ordered_lists(merged, patch, type)
    for key, value in patch.items():
        deletes = key.startswith(_DELETE_PRIMITIVES)
        if deletes:
            key = _field_of(key, _BAD_PRIMITIVE_LIST)
            if not isinstance(value, list):
                raise bad_request(_BAD_PRIMITIVE_LIST)
        if value is None:
            merged.pop(key, None)
            continue
        current = merged.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            below, strategy, _ = _lookup(type, key)
            merged[key] = value if strategy == "replace" else _merge_map(current, value, below)
        elif isinstance(current, list) and isinstance(value, list):
            merged[key] = _merge_field(current, value, type, key, deletes)
        elif not deletes:
            kept, keep = _plain(value)
            if keep:
                merged[key] = kept
    return merged


def _lookup(type: Type | None, key: str) -> tuple[Type | None, str, str]:
    """The type of a field (of a list's elements, for a list), its strategy but for retainKeys, its merge key."""
    if type is None:
        return None, "", ""
    if type.kind == "map":
        return type.items, "", ""
    field = type.fields.get(key)
    if field is None:
        return None, "", ""
    below = field.type
    strategy = next((s for s in (below.patch_strategy or "").split(",") if s != "retainKeys"), "")
    return (below.items if below.kind == "list" else below), strategy, below.patch_merge_key or ""


def _retain_keys(merged: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    if _RETAIN_KEYS not in patch:
        return patch
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list):
        raise bad_request(_BAD_RETAIN_KEYS)
    rest = {k: v for k, v in patch.items() if k != _RETAIN_KEYS}
    for key, value in rest.items():
        if value is not None and not key.startswith((_DELETE_PRIMITIVES, _ORDER)) and key not in retained:
            raise bad_request(_BAD_RETAIN_KEYS)
    for key in [k for k in merged if k not in retained]:
        del merged[key]
    return rest


def _merge_field(original: list[Any], patch: list[Any], type: Type | None, key: str, deletes: bool) -> list[Any]:
    element, strategy, merge_key = _lookup(type, key)
    if strategy != "merge" and not deletes:
        return patch
    return _merge_list(original, patch, element, merge_key, deletes, key)


def _merge_list(
    original: list[Any], patch: list[Any], element: Type | None, merge_key: str, deletes: bool, field: str
) -> list[Any]:
    if not original and not patch:
        return original
    if not _of_maps(original, patch):
        if deletes:
            return [item for item in original if item not in patch]
        merged = _distinct(original + patch)
        merge_key = ""
    else:
        if not merge_key:
            raise _unclassified(f"cannot merge lists without merge key for {field}")
        original, patch = _special_elements(original, patch, merge_key)
        merged = _merge_elements(original, patch, element, merge_key)
    return _in_order(merged, patch, original, merge_key)


def _special_elements(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Elements that carry `$patch`: carried out on `original`, and gone from the patch."""
    plain: list[Any] = []
    replace = False
    for item in patch:
        directive = item.get(_DIRECTIVE)
        if _DIRECTIVE not in item:
            plain.append(item)
        elif directive == "delete":
            if merge_key not in item:
                raise _no_merge_key(item, merge_key)
            original = [o for o in original if o.get(merge_key) != item[merge_key]]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _unclassified("merging lists cannot yet be specified in the patch")
        else:
            raise _unclassified(f"unknown patch type: {go_format(directive)} in map: {go_format(item)}")
    return (plain, []) if replace else (original, plain)


def _merge_elements(original: list[Any], patch: list[Any], element: Type | None, merge_key: str) -> list[Any]:
    merged = list(original)
    places = {_hashable(item.get(merge_key)): place for place, item in reversed(list(enumerate(merged)))}
    for item in patch:
        if merge_key not in item:
            raise _no_merge_key(item, merge_key)
        place = places.get(_hashable(item[merge_key]))
        if place is not None:
            merged[place] = _merge_map(merged[place], item, element)
        else:
            places[_hashable(item[merge_key])] = len(merged)
            kept, keep = _plain(item)
            if keep:
                merged.append(kept)
    return merged


def _merge_ordered_lists(merged: dict[str, Any], patch: dict[str, Any], type: Type | None) -> dict[str, Any]:
    """Carry out `$setElementOrder/FIELD` together with FIELD; what remains of the patch is returned."""
    ordered = [key for key in patch if key.startswith(_ORDER)]
    if not ordered:
        return patch
    rest = dict(patch)
    for directive in ordered:
        order = rest.pop(directive)
        key = _field_of(directive, _BAD_ORDER)
        if not isinstance(order, list):
            raise bad_request(_BAD_ORDER)
        has_original, has_patch = key in merged, key in rest
        original, changes = merged.get(key), rest.get(key)
        for given, value in ((has_original, original), (has_patch, changes)):
            if given and value is not None and not isinstance(value, list):
                raise _unclassified(f"expected a []interface {{}}, but received a {go_type(value)}")
        if has_patch and changes is None:
            continue  # FIELD: null deletes the list; there is nothing to order
        if original is None and changes is None:
            continue
        element, strategy, merge_key = _lookup(type, key)
        _check_order(changes or [], order, merge_key)
        if changes is None:
            result: list[Any] = original or []
        elif original is None:
            result, _ = _plain(changes)
        elif strategy == "merge":
            result = _merge_list(original, changes, element, merge_key, False, key)
        else:
            result = changes
        _of_maps(original or [], changes or [])
        merged[key] = _in_order(result, order, original or [], merge_key)
        rest.pop(key, None)
    return rest


def _check_order(changes: list[Any], order: list[Any], merge_key: str) -> None:
    """What the patch changes must stand in the order list, in the same order."""
    identity = _identity(merge_key)
    wanted = [identity(item) for item in changes if not (isinstance(item, dict) and _DIRECTIVE in item)]
    given = iter([identity(item) for item in order])
    if not all(item in given for item in wanted):
        raise _unclassified(
            f"The order in patch list:\n{go_format(changes)}\n doesn't match {_ORDER} list:\n{go_format(order)}\n"
        )


def _in_order(merged: list[Any], order: list[Any], server_order: list[Any], merge_key: str) -> list[Any]:
    """Items that `order` names, in its order; the others woven in between, where the live list has them."""
    identity = _identity(merge_key)
    wanted = {identity(item): place for place, item in reversed(list(enumerate(order)))}
    live = {identity(item): place for place, item in reversed(list(enumerate(server_order)))}
    named = sorted((item for item in merged if identity(item) in wanted), key=lambda item: wanted[identity(item)])
    others = [item for item in merged if identity(item) not in wanted]
    others.sort(key=lambda item: live.get(identity(item), len(live)))
    woven: list[Any] = []
    left = 0
    for item in named:
        place = live.get(identity(item))
        while left < len(others) and place is not None and live.get(identity(others[left]), place) < place:
            woven.append(others[left])
            left += 1
        woven.append(item)
    return woven + others[left:]


def _identity(merge_key: str) -> Callable[[Any], Any]:
    if not merge_key:
        return _hashable
    return lambda item: _hashable(item.get(merge_key)) if isinstance(item, dict) else None


def _hashable(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return go_format(value)
    return (type(value), value)


def _of_maps(original: list[Any], patch: list[Any]) -> bool:
    """Whether the elements are objects. All must be of one type, and none a list."""
    kinds = {bool if isinstance(i, bool) else float if isinstance(i, (int, float)) else type(i) for i in original}
    kinds |= {bool if isinstance(i, bool) else float if isinstance(i, (int, float)) else type(i) for i in patch}
    if list in kinds:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={})
    if len(kinds) > 1:
        shown = " or ".join(sorted(go_type(i) for i in {type(i): i for i in original + patch}.values()))
        raise _unclassified(f"list element types are not identical: {shown}")
    return dict in kinds


def _distinct(items: list[Any]) -> list[Any]:
    seen: dict[Any, Any] = {}
    for item in items:
        seen.setdefault(_hashable(item), item)
    return list(seen.values())


def _plain(value: Any) -> tuple[Any, bool]:
    """A value that is new in the document: without nulls and directives. False: a directive took all of it."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return None, False
        kept = {}
        for key, member in value.items():
            if member is None or key == _RETAIN_KEYS or key.startswith((_ORDER, _DELETE_PRIMITIVES)):
                continue
            plain, keep = _plain(member)
            if keep:
                kept[key] = plain
        return kept, True
    if isinstance(value, list):
        return [plain for plain, keep in map(_plain, value) if keep], True
    return value, True


def _field_of(directive: str, malformed: str) -> str:
    _, separator, field = directive.partition("/")
    if not separator:
        raise bad_request(malformed)
    return field


def _no_merge_key(item: dict[str, Any], merge_key: str) -> ApiError:
    return _unclassified(f"map: {go_format(item)} does not contain declared merge key: {merge_key}")


def go_type(value: Any) -> str:
    """The name of the Go type that a JSON value decodes to."""
    names = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64"}
    return names.get(type(value), "float64" if isinstance(value, float) else "nil")


def go_format(value: Any) -> str:
    """A JSON value as Go's `%v` prints it: `map[a:1 b:[x y]]`, keys sorted. Messages of upstream contain it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_format(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_format, value)) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
