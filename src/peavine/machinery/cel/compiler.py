"""Checked syntax to closures. Each closure takes the context of one evaluation and gives a value."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from peavine.machinery.cel.checker import TYPE_NAMES
from peavine.machinery.cel.errors import CelError, CostExceeded
from peavine.machinery.cel.functions import Overload, accepts
from peavine.machinery.cel.parser import dotted
from peavine.machinery.cel.syntax import Call, Const, Ident, ListOf, Macro, MapOf, Node, Select, Struct
from peavine.machinery.cel.types import Type
from peavine.machinery.cel.values import NONE, Duration, Optional, Timestamp, TypeValue, UInt, equal

Run = Callable[["Context"], Any]

_MISSING: Any = object()


class Context:
    """One evaluation: the variables, and the cost so far."""

    __slots__ = ("cost", "cost_max", "variables")

    def __init__(self, variables: dict[str, Any], cost_max: int) -> None:
        self.variables, self.cost_max = variables, cost_max
        self.cost = 0

    def pay(self, cost: int) -> None:
        self.cost += cost
        if self.cost > self.cost_max:
            raise CostExceeded(f"operation cancelled: actual cost limit exceeded: {self.cost_max}")


def compile_node(node: Node) -> Run:
    return _COMPILERS[type(node)](node)


# ---- values that JSON writes as something else


def _of_bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except binascii.Error as error:
        raise CelError(f"invalid base64: {error}") from error


_LIFTS: dict[str, Callable[[Any], Any]] = {
    "timestamp": lambda v: Timestamp.parse(v) if isinstance(v, str) else v,
    "duration": lambda v: Duration.parse(v) if isinstance(v, str) else v,
    "double": lambda v: float(v) if type(v) is int else v,
    "bytes": _of_bytes,
}


def _lifted(run: Run, type: Type | None) -> Run:
    """`run`, its value made what the type says where JSON cannot."""
    lift = _LIFTS.get(type.kind) if type is not None else None
    return (lambda context: lift(run(context))) if lift is not None else run


# ---- names and members


def _const(node: Const) -> Run:
    value = node.value
    return lambda context: value


def _ident(node: Ident) -> Run:
    name = node.name

    def run(context: Context) -> Any:
        context.cost += 1
        found = context.variables.get(name, _MISSING)
        if found is _MISSING:
            if name in TYPE_NAMES:
                return TypeValue(name)
            raise CelError(f"no such attribute(s): {name}")
        return found

    return _lifted(run, node.type)


def _select(node: Select) -> Run:
    name = dotted(node)
    if node.type is not None and node.type.kind == "type" and name in TYPE_NAMES:
        value = TypeValue(TYPE_NAMES[name])
        return lambda context: value
    operand, field = compile_node(node.operand), node.field
    if node.test:
        return lambda context: _has(operand(context), field, context)
    if node.optional:
        kind = node.type.params[0] if node.type is not None else None
        lift = _LIFTS.get(kind.kind) if kind is not None else None
        return lambda context: _optional_member(operand(context), field, lift, context)

    def run(context: Context) -> Any:
        context.cost += 1
        holder = operand(context)
        if type(holder) is dict:
            found = holder.get(field, _MISSING)
            if found is _MISSING:
                raise CelError(f"no such key: {field}")
            return found
        return _member(holder, field, context)

    return _lifted(run, node.type)


def _member(holder: Any, field: str, context: Context) -> Any:
    if isinstance(holder, Optional):
        return _optional_member(holder, field, None, context)
    member = getattr(holder, "cel_member", None)
    if member is not None:
        return member(field)
    raise CelError("no such overload")


def _optional_member(holder: Any, field: Any, lift: Any, context: Context) -> Any:
    context.cost += 1
    if isinstance(holder, Optional):
        if not holder.present:
            return NONE
        holder = holder.value
    if isinstance(holder, list):
        found = holder[field] if type(field) is int and 0 <= field < len(holder) else _MISSING
    elif isinstance(holder, dict):
        found = holder.get(field, _MISSING)
    else:
        raise CelError("no such overload")
    if found is _MISSING:
        return NONE
    return Optional(lift(found) if lift is not None else found)


def _has(holder: Any, field: str, context: Context) -> bool:
    context.cost += 1
    if isinstance(holder, Optional):
        return holder.present and _has(holder.value, field, context)
    if isinstance(holder, dict):
        return field in holder
    test = getattr(holder, "cel_has", None)
    if test is not None:
        return bool(test(field))
    raise CelError("no such overload")


def _index(holder: Any, index: Any) -> Any:
    if isinstance(holder, list):
        if isinstance(index, float) and index.is_integer():
            index = int(index)
        if isinstance(index, bool) or not isinstance(index, int):
            raise CelError("no such overload")
        if not 0 <= index < len(holder):
            raise CelError(f"index out of bounds: {index}")
        return holder[index]
    if isinstance(holder, dict):
        found = holder.get(_key(index), _MISSING)
        if found is _MISSING:
            raise CelError(f"no such key: {index}")
        return found
    if isinstance(holder, Optional):
        return _index(holder.value, index) if holder.present else NONE
    raise CelError("no such overload")


def _key(value: Any) -> Any:
    if isinstance(value, (list, dict)) or value is None:
        raise CelError("no such overload")
    return value


# ---- calls


def _call(node: Call) -> Run:
    special = _SPECIAL.get(node.function)
    if special is not None and node.target is None:
        return _lifted(special(node), node.type if node.function == "_[_]" else None)
    nodes = ([node.target] if node.target is not None else []) + node.args
    runs = [compile_node(arg) for arg in nodes]
    overloads: list[Overload] = node.overloads or []
    unique = nodes[0].type.unique if node.function == "_+_" and nodes[0].type is not None else None
    if unique is not None:
        return lambda context: _merged(runs[0](context), runs[1](context), unique, context)
    sure = len(overloads) == 1 and all(_is_sure(arg.type) for arg in nodes)
    if sure and len(runs) <= 2:
        return _direct(runs, overloads[0])
    function = node.function

    def run(context: Context) -> Any:
        args = [arg(context) for arg in runs]
        for overload in overloads:
            if sure or all(map(accepts, overload.params, args)):
                context.pay(1 if overload.cost is None else 1 + overload.cost(*args))
                return overload.impl(*args)
        raise CelError(f"no such overload: {function}")

    return run


def _direct(runs: list[Run], overload: Overload) -> Run:
    impl, cost = overload.impl, overload.cost
    if len(runs) == 1 and cost is None:
        (only,) = runs

        def run_one(context: Context) -> Any:
            context.pay(1)
            return impl(only(context))

        return run_one
    if len(runs) == 2 and cost is None:
        left, right = runs

        def run_two(context: Context) -> Any:
            context.pay(1)
            return impl(left(context), right(context))

        return run_two

    def run(context: Context) -> Any:
        args = [arg(context) for arg in runs]
        context.pay(1 if cost is None else 1 + cost(*args))
        return impl(*args)

    return run


def _is_sure(type: Type | None) -> bool:
    """Whether values of that static type need no look at run time."""
    return type is not None and type.kind not in ("dyn", "param", "null")


def _merged(a: Any, b: Any, unique: Any, context: Context) -> list[Any]:
    """`a + b` for lists that are sets, or maps by key: an item of `b` takes the place of its like in `a`."""
    context.pay(1 + len(a) + len(b))

    def identity(item: Any) -> Any:
        return item if unique == "set" else [item.get(key) for key in unique]

    merged = list(a)
    for item in b:
        for place, other in enumerate(merged):
            if equal(identity(item), identity(other)):
                merged[place] = item
                break
        else:
            merged.append(item)
    return merged


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError("no such overload")


def _and(node: Call) -> Run:
    left, right = map(compile_node, node.args)

    def run(context: Context) -> bool:
        """False wins over an error, whichever side it is on."""
        try:
            if not _truth(left(context)):
                return False
        except CelError:
            if not _truth(right(context)):
                return False
            raise
        return _truth(right(context))

    return run


def _or(node: Call) -> Run:
    left, right = map(compile_node, node.args)

    def run(context: Context) -> bool:
        try:
            if _truth(left(context)):
                return True
        except CelError:
            if _truth(right(context)):
                return True
            raise
        return _truth(right(context))

    return run


def _conditional(node: Call) -> Run:
    condition, yes, no = map(compile_node, node.args)
    return lambda context: yes(context) if _truth(condition(context)) else no(context)


def _equality(node: Call) -> Run:
    left, right = map(compile_node, node.args)
    negated = node.function == "_!=_"
    type = node.args[0].type
    unique = type.unique if type is not None else None

    def run(context: Context) -> bool:
        context.cost += 1
        a, b = left(context), right(context)
        if unique is not None and isinstance(a, list) and isinstance(b, list):
            context.pay(len(a) * len(b) // 10)
            same = len(a) == len(b) and all(any(equal(x, y) for y in b) for x in a)
        else:
            if isinstance(a, (str, list, dict)):
                context.pay(len(a) // 10)
            same = equal(a, b)
        return same is not negated

    return run


def _indexing(node: Call) -> Run:
    holder, index = map(compile_node, node.args)

    def run(context: Context) -> Any:
        context.pay(1)
        return _index(holder(context), index(context))

    return run


def _optional_indexing(node: Call) -> Run:
    holder, index = map(compile_node, node.args)
    kind = node.type.params[0] if node.type is not None and node.type.params else None
    lift = _LIFTS.get(kind.kind) if kind is not None else None
    return lambda context: _optional_member(holder(context), _key(index(context)), lift, context)


def _membership(node: Call) -> Run:
    value, holder = map(compile_node, node.args)

    def run(context: Context) -> bool:
        wanted, within = value(context), holder(context)
        context.pay(1 + (len(within) if isinstance(within, list) else 0))
        if isinstance(within, list):
            return any(equal(wanted, item) for item in within)
        if isinstance(within, dict):
            return not isinstance(wanted, (list, dict)) and wanted in within
        raise CelError("no such overload")

    return run


_SPECIAL: dict[str, Callable[[Call], Run]] = {
    "_&&_": _and,
    "_||_": _or,
    "_?_:_": _conditional,
    "_==_": _equality,
    "_!=_": _equality,
    "_[_]": _indexing,
    "_[?_]": _optional_indexing,
    "@in": _membership,
}


# ---- literals


def _optional(value: Any) -> Optional:
    """What stands behind a `?` in a literal."""
    if isinstance(value, Optional):
        return value
    raise CelError("no such overload")


def _list(node: ListOf) -> Run:
    items = [compile_node(item) for item in node.items]
    optional = node.optional
    if not optional:

        def run(context: Context) -> Any:
            context.pay(10)
            return [item(context) for item in items]

        return run

    def run_optional(context: Context) -> Any:
        context.pay(10)
        found = []
        for place, item in enumerate(items):
            value = item(context)
            if place not in optional:
                found.append(value)
            elif _optional(value).present:
                found.append(value.value)
        return found

    return run_optional


def _map(node: MapOf) -> Run:
    entries = [(compile_node(key), compile_node(value), optional) for key, value, optional in node.entries]

    def run(context: Context) -> Any:
        context.pay(30)
        found: dict[Any, Any] = {}
        for key_run, value_run, optional in entries:
            key, value = _key(key_run(context)), value_run(context)
            if optional:
                if not _optional(value).present:
                    continue
                value = value.value
            if key in found:
                raise CelError(f"insert failed: key {key} already exists")
            found[key] = value
        return found

    return run


def _struct(node: Struct) -> Run:
    entries = [(name, compile_node(value), optional) for name, value, optional in node.entries]

    def run(context: Context) -> Any:
        context.pay(40)
        found = {}
        for name, value_run, optional in entries:
            value = value_run(context)
            if optional:
                if not _optional(value).present:
                    continue
                value = value.value
            found[name] = value
        return found

    return run


# ---- macros


def _macro(node: Macro) -> Run:
    from peavine.machinery.cel.macros import compile_macro

    return compile_macro(node, compile_node, _LIFTS)


_COMPILERS: dict[type, Callable[[Any], Run]] = {
    Const: _const,
    Ident: _ident,
    Select: _select,
    Call: _call,
    ListOf: _list,
    MapOf: _map,
    Struct: _struct,
    Macro: _macro,
}

__all__ = ["Context", "UInt", "compile_node"]
