"""What a rule may cost at worst, from its text and the limits that the schema declares: asked before it is accepted.

Sizes that a schema leaves open are as large as a request lets them be. The model is that of the evaluation
(`compiler`, `macros`, the libraries' own costs) with every list, map and string at its largest.
"""

from __future__ import annotations

from typing import Any

from peavine.machinery.cel.syntax import Call, Const, Ident, ListOf, Macro, MapOf, Node, Select, Struct
from peavine.machinery.structural import Structural

request_bytes_max = 3 * 1024 * 1024
rule_cost_max = 10_000_000
schema_cost_max = 100_000_000
_ITERATION_COST = 3
_FIXED_STRINGS = {"date": 10, "date-time": 30, "duration": 32, "uuid": 36, "ipv4": 15, "ipv6": 45}


class Bound:
    """How large a value can be: its own size (characters, items), and that of what is in it."""

    __slots__ = ("fields", "item", "size")

    def __init__(self, size: int = 1, item: Bound | None = None, fields: dict[str, Bound] | None = None) -> None:
        self.size, self.item, self.fields = size, item, fields or {}

    def at(self, name: str) -> Bound:
        return self.fields.get(name) or self.item or ANYTHING


ANYTHING = Bound(request_bytes_max)
SCALAR = Bound(1)


def bound_of(schema: Structural | None) -> Bound:
    """The bound of values of a schema."""
    if schema is None:
        return ANYTHING
    raw = schema.schema
    if schema.type == "string":
        enum = [len(value) for value in raw.get("enum") or [] if isinstance(value, str)]
        fixed = _FIXED_STRINGS.get(raw.get("format") or "")
        # A character may take four bytes.
        declared = raw["maxLength"] * 4 if isinstance(raw.get("maxLength"), int) else None
        return Bound(declared if declared is not None else max(enum) if enum else fixed or request_bytes_max - 2)
    if schema.type == "array":
        return Bound(items_max(schema), bound_of(schema.items))
    if schema.type == "object":
        if schema.value_schema is not None:
            return Bound(properties_max(schema), bound_of(schema.value_schema))
        return Bound(len(schema.properties) or 1, None, {n: bound_of(c) for n, c in schema.properties.items()})
    return SCALAR if schema.type else ANYTHING


def items_max(schema: Structural) -> int:
    declared = schema.schema.get("maxItems")
    if isinstance(declared, int):
        return declared
    return (request_bytes_max - 2) // (_bytes_min(schema.items) + 1)


def properties_max(schema: Structural) -> int:
    declared = schema.schema.get("maxProperties")
    if isinstance(declared, int):
        return declared
    return (request_bytes_max - 2) // (_bytes_min(schema.value_schema) + 6)  # "": and a comma


def _bytes_min(schema: Structural | None) -> int:
    """The fewest bytes that a value takes in JSON."""
    if schema is None or schema.nullable:
        return 4
    if schema.type == "object":
        required = [n for n in schema.schema.get("required") or () if n in schema.properties]
        return 2 + sum(len(name) + 4 + _bytes_min(schema.properties[name]) for name in required)
    return {"boolean": 4, "integer": 1, "number": 1}.get(schema.type, 2)


class _Text(str):
    """Stands for a string of a length, without being that long."""

    length = 0

    def __len__(self) -> int:
        return self.length


class _Items(list[Any]):
    length = 0

    def __len__(self) -> int:
        return self.length


def estimate(tree: Node, variables: dict[str, Bound]) -> int:
    """The most that evaluating a checked expression costs."""
    return _cost(tree, variables)[0]


def _cost(node: Node, scope: dict[str, Bound]) -> tuple[int, Bound]:
    if isinstance(node, Const):
        return 0, Bound(len(node.value) if isinstance(node.value, (str, bytes)) else 1)
    if isinstance(node, Ident):
        return 1, scope.get(node.name, SCALAR)
    if isinstance(node, Select):
        cost, holder = _cost(node.operand, scope)
        return cost + 1, SCALAR if node.test else holder.at(node.field)
    if isinstance(node, ListOf):
        parts = [_cost(item, scope) for item in node.items]
        largest = max((bound for _, bound in parts), key=lambda bound: bound.size, default=SCALAR)
        return 10 + sum(cost for cost, _ in parts), Bound(len(parts), largest)
    if isinstance(node, MapOf):
        pairs = [(_cost(key, scope), _cost(value, scope)) for key, value, _ in node.entries]
        largest = max((value[1] for _, value in pairs), key=lambda bound: bound.size, default=SCALAR)
        return 30 + sum(key[0] + value[0] for key, value in pairs), Bound(len(pairs), largest)
    if isinstance(node, Struct):
        return 40 + sum(_cost(value, scope)[0] for _, value, _ in node.entries), ANYTHING
    if isinstance(node, Macro):
        return _macro(node, scope)
    assert isinstance(node, Call)
    return _call(node, scope)


def _macro(node: Macro, scope: dict[str, Bound]) -> tuple[int, Bound]:
    cost, target = _cost(node.target, scope)
    if node.kind in ("bind", "optMap", "optFlatMap"):
        inner, bound = _cost(node.args[0], {**scope, node.variables[0]: target})
        return cost + inner, bound
    item = target.item or (ANYTHING if target is ANYTHING else SCALAR)
    is_map = node.target.type is not None and node.target.type.kind == "map"
    first = Bound(request_bytes_max // max(target.size, 1)) if is_map else item
    values = [first, item] if is_map else [item]
    if len(node.variables) == 2 and not is_map:
        values = [SCALAR, item]
    inner_scope = {**scope, **dict(zip(node.variables, values))}
    parts = [_cost(arg, inner_scope) for arg in node.args]
    total = cost + target.size * (_ITERATION_COST + sum(part for part, _ in parts))
    if node.kind in ("all", "exists", "exists_one", "existsOne"):
        return total, SCALAR
    if node.kind in ("filter", "sortBy"):
        return total, Bound(target.size, first)
    return total, Bound(target.size, parts[-1][1])


# What gives something as large as its first argument.
_SAME = {"lowerAscii", "upperAscii", "trim", "reverse", "sort", "distinct", "slice", "dyn", "string", "bytes"}
_SAME |= {"substring", "value", "orValue", "or", "first", "last"}


def _call(node: Call, scope: dict[str, Bound]) -> tuple[int, Bound]:
    nodes = ([node.target] if node.target is not None else []) + node.args
    parts = [_cost(arg, scope) for arg in nodes]
    cost, bounds = sum(part for part, _ in parts), [bound for _, bound in parts]
    name = node.function
    if name in ("_&&_", "_||_"):
        return cost, SCALAR
    if name == "_?_:_":
        return parts[0][0] + max(parts[1][0], parts[2][0]), max(bounds[1:], key=lambda bound: bound.size)
    if name in ("_[_]", "_[?_]"):
        return cost + 1, bounds[0].item or ANYTHING
    if name in ("_==_", "_!=_"):
        return cost + 1 + min(bounds[0].size, bounds[1].size) // 10, SCALAR
    if name == "@in":
        is_list = nodes[1].type is not None and nodes[1].type.kind == "list"
        return cost + 1 + (bounds[1].size if is_list else 0), SCALAR
    own = max((_own_cost(overload, nodes, bounds) for overload in node.overloads or ()), default=0)
    return cost + 1 + own, _result(name, node, bounds)


def _own_cost(overload: Any, nodes: list[Node], bounds: list[Bound]) -> int:
    if overload.cost is None:
        return 0
    stands = []
    for arg, bound in zip(nodes, bounds):
        kind = arg.type.kind if arg.type is not None else "dyn"
        stand: Any = _Items() if kind in ("list", "map") else _Text()
        stand.length = bound.size
        stands.append(stand)
    try:
        return int(overload.cost(*stands))
    except TypeError:  # a cost that goes by a number, which is not known
        return 0


def _result(name: str, node: Call, bounds: list[Bound]) -> Bound:
    kind = node.type.kind if node.type is not None else "dyn"
    if name == "_+_" and len(bounds) == 2:
        return Bound(bounds[0].size + bounds[1].size, bounds[0].item or bounds[1].item)
    if name in _SAME and bounds:
        return bounds[0]
    if name in ("split", "findAll") and bounds:
        return Bound(bounds[0].size, Bound(bounds[0].size))
    if name == "replace" and len(bounds) >= 3:
        return Bound(bounds[0].size * max(bounds[2].size, 1))
    if name == "join" and bounds:
        return Bound(bounds[0].size * (bounds[0].item or SCALAR).size)
    if kind in ("string", "bytes", "list", "map", "dyn") and bounds:
        return Bound(max(bound.size for bound in bounds))
    return SCALAR


def exceeds(what: str, cost: int, cost_max: int) -> str | None:
    """The words of upstream for a cost over its limit."""
    if cost <= cost_max:
        return None
    factor = cost / cost_max
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown}"
