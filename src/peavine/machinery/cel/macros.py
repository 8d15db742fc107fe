"""The macros as loops: all, exists, map, filter and their kin over lists and maps, bind, optMap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from peavine.machinery.cel.errors import CelError
from peavine.machinery.cel.extensions import sorted_by
from peavine.machinery.cel.syntax import Macro, Node
from peavine.machinery.cel.values import NONE, Optional

_MISSING: Any = object()
_iteration_cost = 3  # of the loop itself, as upstream counts its fold
Run = Callable[[Any], Any]


def compile_macro(node: Macro, compile_node: Callable[[Node], Run], lifts: dict[str, Callable[[Any], Any]]) -> Run:
    target, parts = compile_node(node.target), [compile_node(arg) for arg in node.args]
    names = node.variables
    if node.kind == "bind":
        return lambda context: _with(context, names[0], target(context), parts[0])
    if node.kind in ("optMap", "optFlatMap"):
        flat = node.kind == "optFlatMap"
        return lambda context: _opt_map(context, names[0], target(context), parts[0], flat)
    lift = _item_lift(node, lifts)
    loop = _LOOPS[node.kind]

    def run(context: Any) -> Any:
        return loop(context, _rounds(context, target(context), names, lift), parts)

    return run


def _item_lift(node: Macro, lifts: dict[str, Callable[[Any], Any]]) -> Any:
    type = node.target.type
    if type is None or type.kind not in ("list", "map"):
        return None
    if type.kind == "map" and len(node.variables) == 1:
        return None
    return lifts.get(type.params[-1].kind)


@contextmanager
def _scoped(context: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    variables = context.variables
    before = [variables.get(name, _MISSING) for name in names]
    try:
        yield variables
    finally:
        for name, value in zip(names, before):
            if value is _MISSING:
                variables.pop(name, None)
            else:
                variables[name] = value


def _rounds(context: Any, holder: Any, names: list[str], lift: Any) -> Iterator[tuple[Any, Any]]:
    """Each item in turn, its variables set; gives (first variable, item)."""
    if isinstance(holder, list):
        pairs: Iterable[tuple[Any, Any]] = enumerate(holder) if len(names) == 2 else ((v, v) for v in holder)
    elif isinstance(holder, dict):
        pairs = holder.items() if len(names) == 2 else ((k, k) for k in holder)
    else:
        raise CelError("no such overload")
    with _scoped(context, names) as variables:
        for first, second in pairs:
            context.pay(_iteration_cost)
            if lift is not None:
                second = lift(second)
                if len(names) == 1:
                    first = second
            variables[names[-1]] = second
            if len(names) == 2:
                variables[names[0]] = first
            yield first, second


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError("no such overload")


def _settled(context: Any, rounds: Iterator[Any], parts: list[Run], settles: bool) -> bool:
    """all and exists: one item settles it, over any errors of the others."""
    error = None
    try:
        for _ in rounds:
            try:
                if _truth(parts[0](context)) is settles:
                    return settles
            except CelError as caught:
                error = error or caught
    finally:
        rounds.close()  # type: ignore[attr-defined]
    if error is not None:
        raise error
    return not settles


def _exists_one(context: Any, rounds: Iterator[Any], parts: list[Run]) -> bool:
    return sum(_truth(parts[0](context)) for _ in rounds) == 1


def _filter(context: Any, rounds: Iterator[Any], parts: list[Run]) -> list[Any]:
    return [first for first, _ in rounds if _truth(parts[0](context))]


def _chosen(context: Any, rounds: Iterator[Any], parts: list[Run]) -> Iterator[tuple[Any, Any]]:
    """The rounds that the filter, where there is one, lets through."""
    for pair in rounds:
        if len(parts) == 1 or _truth(parts[0](context)):
            yield pair


def _map(context: Any, rounds: Iterator[Any], parts: list[Run]) -> list[Any]:
    return [parts[-1](context) for _ in _chosen(context, rounds, parts)]


def _transform_map(context: Any, rounds: Iterator[Any], parts: list[Run]) -> dict[Any, Any]:
    return {first: parts[-1](context) for first, _ in _chosen(context, rounds, parts)}


def _transform_entry(context: Any, rounds: Iterator[Any], parts: list[Run]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for _ in _chosen(context, rounds, parts):
        for key, value in parts[-1](context).items():
            if key in found:
                raise CelError(f"insert failed: key {key} already exists")
            found[key] = value
    return found


def _sort_by(context: Any, rounds: Iterator[Any], parts: list[Run]) -> list[Any]:
    items, keys = [], []
    for _, item in rounds:
        items.append(item)
        keys.append(parts[0](context))
    return sorted_by(items, keys)


_LOOPS: dict[str, Callable[[Any, Iterator[Any], list[Run]], Any]] = {
    "all": lambda c, r, p: _settled(c, r, p, False),
    "exists": lambda c, r, p: _settled(c, r, p, True),
    "exists_one": _exists_one,
    "existsOne": _exists_one,
    "filter": _filter,
    "map": _map,
    "transformList": _map,
    "transformMap": _transform_map,
    "transformMapEntry": _transform_entry,
    "sortBy": _sort_by,
}


def _with(context: Any, name: str, value: Any, part: Run) -> Any:
    with _scoped(context, [name]) as variables:
        variables[name] = value
        return part(context)


def _opt_map(context: Any, name: str, holder: Any, part: Run, flat: bool) -> Any:
    if not isinstance(holder, Optional):
        raise CelError("no such overload")
    if not holder.present:
        return NONE
    value = _with(context, name, holder.value, part)
    return value if flat else Optional(value)
