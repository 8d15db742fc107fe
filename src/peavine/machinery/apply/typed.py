"""Objects walked along their type: what differs between two, which paths one holds, merging, removing.

Follows structured-merge-diff. Two objects of one type are compared as trees whose lists are ordered (atomic: one
leaf), sets, or keyed by fields of their items; absent, null and empty stay apart where that project keeps them apart.
No function changes its arguments; results share unchanged parts with them.
"""

from __future__ import annotations

from typing import Any

from peavine.machinery.apply.fieldset import FieldSet, is_member
from peavine.machinery.apply.plan import DEDUCED, KEYED, LEAF, MAP, SET, STRUCT, Plan, deduce, plan_of
from peavine.machinery.schema import Type

_ABSENT: Any = object()


def compare(old: dict[str, Any], new: dict[str, Any], type: Type | None) -> tuple[FieldSet, FieldSet]:
    """The paths that `new` adds or changes, and those that it lacks."""
    changed, removed = _compare(old, new, plan_of(type))
    return changed or {}, removed or {}


def field_set(obj: dict[str, Any], type: Type | None) -> FieldSet:
    """The paths that an applied object states: leaves, members of maps, items of lists, and empty objects."""
    return _field_set(obj, plan_of(type))


# ---- comparing

_Pair = tuple[FieldSet | None, FieldSet | None]


def _whole(value: Any, plan: Plan) -> FieldSet:
    """The node of a value that is only on one side: it and everything below."""
    if plan.mode == LEAF:
        return {}
    if plan.mode == DEDUCED:
        plan = deduce(value)
        if plan.mode == LEAF:
            return {}
    if plan.mode in (STRUCT, MAP):
        if not value or not isinstance(value, dict):
            return {}
        node: FieldSet = {".": {}}
        children = plan.children
        for name, member in value.items():
            element, below = children[name]
            node[element] = {} if below.mode == LEAF else _whole(member, below)
        return node
    if not value or not isinstance(value, list):
        return {}
    node = {".": {}}
    for item in value:
        node[_element(plan, item)] = _whole(item, plan.item)
    return node


def _compare(old: Any, new: Any, plan: Plan) -> _Pair:
    if plan.mode == LEAF:
        return (None, None) if _equal(old, new) else ({}, None)
    if plan.mode == DEDUCED:
        return _compare_deduced(old, new)
    if old is new:
        return None, None
    if not old and not new:
        return (None, None) if type(old) is type(new) else ({}, None)
    if plan.mode in (STRUCT, MAP):
        return _compare_maps(old, new, plan)
    return _compare_lists(old, new, plan)


def _compare_deduced(old: Any, new: Any) -> _Pair:
    before, after = deduce(old), deduce(new)
    if before is after or old is None or new is None:
        return _compare(old, new, before if new is None else after)
    # The shape changed: the path itself changed, and what was or is below it went or came.
    changed: FieldSet = {}
    if after.mode != LEAF and new:
        changed = _whole(new, after)
    removed = _children(_whole(old, before)) if before.mode != LEAF and old else {}
    return changed, removed or None


def _children(node: FieldSet) -> FieldSet:
    return {element: below for element, below in node.items() if element != "."}


def _compare_maps(old: Any, new: Any, plan: Plan) -> _Pair:
    old = old if isinstance(old, dict) else {}
    new = new if isinstance(new, dict) else {}
    changed: FieldSet = {}
    removed: FieldSet = {}
    children = plan.children
    for name, after in new.items():
        before = old.get(name, _ABSENT)
        if before is after:
            continue
        element, below = children[name]
        if before is _ABSENT:
            changed[element] = {} if below.mode == LEAF else _whole(after, below)
        elif below.mode == LEAF:
            if not _equal(before, after):
                changed[element] = {}
        else:
            here, gone = _compare(before, after, below)
            if here is not None:
                changed[element] = here
            if gone is not None:
                removed[element] = gone
    for name, before in old.items():
        if name not in new:
            element, below = children[name]
            removed[element] = _whole(before, below)
    return changed or None, removed or None


def _compare_lists(old: Any, new: Any, plan: Plan) -> _Pair:
    if old == new:
        return None, None
    before, after = _indexed(old or [], plan), _indexed(new or [], plan)
    changed: FieldSet = {}
    removed: FieldSet = {}
    item = plan.item
    for element, values in after.items():
        others = before.get(element)
        if others is None:
            changed[element] = _whole(values[0], item)
        elif len(values) > 1 or len(others) > 1:
            if values != others:
                changed[element] = _whole(values[0], item)
        else:
            here, gone = _compare(others[0], values[0], item)
            if here is not None:
                changed[element] = here
            if gone is not None:
                removed[element] = gone
    for element, values in before.items():
        if element not in after:
            removed[element] = _whole(values[0], item)
    return changed or None, removed or None


def _indexed(items: Any, plan: Plan) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in items if isinstance(items, list) else ():
        found.setdefault(_element(plan, item), []).append(item)
    return found


def _element(plan: Plan, item: Any) -> str:
    """Objects that are stored have been validated; an item without a path element would be an old server's."""
    try:
        return plan.element_of(item)
    except ValueError:
        return "v:null"


def _equal(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


# ---- the paths of one object


def _field_set(value: Any, plan: Plan) -> FieldSet:
    """The children of the value's path that are in the set. A leaf has none: its parent puts its path in."""
    if plan.mode == DEDUCED:
        plan = deduce(value)
    node: FieldSet = {}
    if plan.mode in (STRUCT, MAP):
        if isinstance(value, dict):
            children, is_map = plan.children, plan.mode == MAP
            declared = children.declared
            for name, member in value.items():
                element, below = children[name]
                own = below.mode == LEAF or _is_leaf(member, below)
                inner = {} if own else _field_set(member, below)
                if is_map or own or not declared(name) or member is None or member == {}:
                    node[element] = {".": {}, **inner} if inner else {}
                elif inner:
                    node[element] = inner
    elif plan.mode != LEAF and isinstance(value, list):
        for item in value:
            inner = {} if plan.item.mode == LEAF else _field_set(item, plan.item)
            node[_element(plan, item)] = {".": {}, **inner} if inner else {}
    return node


def _is_leaf(value: Any, plan: Plan) -> bool:
    return plan.mode == DEDUCED and deduce(value).mode == LEAF


def with_named_fields(fields: FieldSet, plan: Plan) -> FieldSet:
    """`fields` with each struct field that leads to a member made a member too (not members of maps)."""
    if plan.mode == DEDUCED:
        return fields
    result: FieldSet = {}
    for element, node in fields.items():
        if not node:
            result[element] = node
            continue
        kind, _, name = element.partition(":")
        below = plan
        named = False
        if kind == "f" and plan.mode in (STRUCT, MAP):
            named = plan.children.declared(name)
            below = plan.children[name][1]
        elif kind in "kv" and plan.mode in (SET, KEYED):
            below = plan.item
        inner = with_named_fields(node, below)
        result[element] = {".": {}, **inner} if named and "." not in inner else inner
    return result


# ---- removing


def remove(obj: dict[str, Any], fields: FieldSet, type: Type | None) -> dict[str, Any]:
    """`obj` without the paths in `fields`. An object or list that this empties stays, unless its own path is named."""
    return _remove(obj, fields, plan_of(type)) if fields else obj


def _remove(value: Any, fields: FieldSet, plan: Plan) -> Any:
    if plan.mode == DEDUCED:
        plan = deduce(value)
    if plan.mode in (STRUCT, MAP) and isinstance(value, dict):
        kept: Any = {}
        for name, member in value.items():
            element, below = plan.children[name]
            node = fields.get(element)
            if node is not None:
                if is_member(node):
                    continue
                member = _remove(member, node, below)
            kept[name] = member
        return kept
    if plan.mode in (SET, KEYED) and isinstance(value, list):
        kept = []
        for item in value:
            node = fields.get(_element(plan, item))
            if node is not None:
                if is_member(node):
                    continue
                item = _remove(item, node, plan.item)
            kept.append(item)
        return kept
    return value


# ---- schema changes


def reconciled(fields: FieldSet, plan: Plan) -> FieldSet:
    """A set from before a field became atomic: what it had below that field becomes the field itself."""
    if plan.mode == DEDUCED:
        return fields
    result: FieldSet = {}
    for element, node in fields.items():
        kind, _, name = element.partition(":")
        if not node or element == ".":
            result[element] = node
            continue
        if kind == "f" and plan.mode in (STRUCT, MAP):
            below = plan.children[name][1]
        elif kind in "kv" and plan.mode in (SET, KEYED):
            below = plan.item
        else:
            result[element] = node
            continue
        result[element] = {} if below.mode == LEAF else reconciled(node, below)
    return result
