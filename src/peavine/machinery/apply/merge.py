"""Merging an applied configuration into a live object, and checking that it has the shape of its type."""

from __future__ import annotations

from typing import Any

from peavine.machinery.apply.fieldset import show_element
from peavine.machinery.apply.plan import DEDUCED, LEAF, MAP, STRUCT, Plan, deduce, plan_of
from peavine.machinery.patches.strategic import go_format, go_type
from peavine.machinery.schema import Type

_ABSENT: Any = object()


def merge(live: dict[str, Any], config: dict[str, Any], type: Type | None) -> dict[str, Any]:
    """`live` with everything that `config` states; both stay as they were, the result shares unchanged parts.

    Items of keyed lists and sets keep the order of `config` where it names them, and of `live` around that.
    """
    return _merge(live, config, plan_of(type))


def _merge(live: Any, config: Any, plan: Plan) -> Any:
    if live is _ABSENT or plan.mode == LEAF:
        return config
    if plan.mode == DEDUCED:
        plan = deduce(config)
        if plan.mode == LEAF:
            return config
    if plan.mode in (STRUCT, MAP):
        return _merge_maps(live, config, plan)
    return _merge_lists(live, config, plan)


def _merge_maps(live: Any, config: Any, plan: Plan) -> Any:
    if not isinstance(live, dict) or not live:
        return config
    if not isinstance(config, dict) or not config:
        return live
    merged = dict(live)
    for name, value in config.items():
        merged[name] = _merge(live.get(name, _ABSENT), value, plan.children[name][1])
    return merged


def _merge_lists(live: Any, config: Any, plan: Plan) -> Any:
    if not isinstance(live, list) or not live:
        return config
    if not isinstance(config, list) or not config:
        return live
    item = plan.item
    theirs = [_element(plan, value) for value in live]
    ours = [_element(plan, value) for value in config]
    live_by, config_by = dict(zip(reversed(theirs), reversed(live))), dict(zip(ours, config))
    shared = iter([element for element in ours if element in live_by])
    next_shared = next(shared, None)
    merged: list[Any] = []
    done: set[str] = set()
    left = right = 0
    while left < len(theirs) or right < len(ours):
        if left < len(theirs):
            element = theirs[left]
            if right < len(ours):
                if element == ours[right]:
                    merged.append(_merge(live[left], config[right], item))
                    done.add(element)
                    left, right, next_shared = left + 1, right + 1, next(shared, None)
                    continue
                if element in config_by and next_shared is not None and next_shared != element:
                    left += 1  # named by config, but later: it comes when its turn does
                    continue
            if element not in config_by:
                merged.append(live[left])
                left += 1
                continue
            if element in done:
                left += 1
        if right < len(ours):
            element = ours[right]
            done.add(element)
            merged.append(_merge(live_by.get(element, _ABSENT), config[right], item))
            right += 1
            if next_shared == element:
                next_shared = next(shared, None)
    return merged


def _element(plan: Plan, item: Any) -> str:
    try:
        return plan.element_of(item)
    except ValueError:
        return "v:null"


# ---- the shape of a configuration

_NUMERIC = {"integer", "number"}
_UNTYPED = {"any", "int-or-string", "quantity"}


def shape_errors(config: Any, type: Type | None) -> list[str]:
    """What of a configuration its type cannot hold, in the words of upstream's typed converter."""
    errors: list[str] = []
    _check(config, plan_of(type), "", errors)
    return errors


def describe(errors: list[str]) -> str:
    return errors[0] if len(errors) == 1 else "errors:\n" + "\n".join("  " + error for error in errors)


def _check(value: Any, plan: Plan, path: str, errors: list[str]) -> None:
    if value is None or plan.mode == DEDUCED:
        return
    prefix = f"{path}: " if path else ""
    shape = plan.leaf_shape or ("map" if plan.mode in (STRUCT, MAP) else "list")
    if shape == "scalar":
        problem = _scalar_problem(value, plan.scalar)
        if problem:
            errors.append(prefix + problem)
    elif not _has_shape(value, shape):
        errors.append(f"{prefix}expected {shape}, got &{{{go_format(value)}}}")
    elif plan.mode in (STRUCT, MAP):
        for name, member in value.items():
            if plan.mode == STRUCT and plan.closed and not plan.children.declared(name):
                errors.append(f"{path}.{name}: field not declared in schema")
            else:
                _check(member, plan.children[name][1], f"{path}.{name}", errors)
    elif plan.mode != LEAF:
        _check_items(value, plan, path, errors)


def _has_shape(value: Any, shape: str) -> bool:
    return isinstance(value, dict if shape == "map" else list)


def _check_items(items: list[Any], plan: Plan, path: str, errors: list[str]) -> None:
    seen: set[str] = set()
    prefix = f"{path}: " if path else ""
    for place, item in enumerate(items):
        try:
            element = plan.element_of(item)
        except ValueError as error:
            errors.append(f"{prefix}element {place}: {error}")
            return
        if element in seen:
            errors.append(f"{prefix}duplicate entries for key {show_element(element)}")
        seen.add(element)
        _check(item, plan.item, path + show_element(element), errors)


def _scalar_problem(value: Any, kind: str) -> str:
    if kind in _NUMERIC:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"expected numeric (int or float), got {go_type(value)}"
    elif kind == "boolean":
        if not isinstance(value, bool):
            return f"expected boolean, got &{{{go_format(value)}}}"
    elif kind in _UNTYPED:
        if isinstance(value, (dict, list)):
            return f"expected any scalar, got &{{{go_format(value)}}}"
    elif not isinstance(value, str):
        shown = f'"{value}"' if isinstance(value, str) else go_format(value)
        return f"expected string, got &value.valueUnstructured{{Value:{shown}}}"
    return ""
