"""Types of every part of an expression, and which overloads a call may mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peavine.machinery.cel.functions import Overload
from peavine.machinery.cel.names import escape, unescape
from peavine.machinery.cel.parser import dotted
from peavine.machinery.cel.syntax import Call, Const, Ident, ListOf, Macro, MapOf, Node, Select, Struct
from peavine.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    TYPE,
    UINT,
    A,
    B,
    Type,
    assignable,
    joined,
    list_of,
    map_of,
    optional_of,
    substitute,
)
from peavine.machinery.cel.values import UInt

TYPE_NAMES = {
    "int": "int",
    "uint": "uint",
    "double": "double",
    "bool": "bool",
    "string": "string",
    "bytes": "bytes",
    "list": "list",
    "map": "map",
    "null_type": "null_type",
    "type": "type",
    "optional_type": "optional_type",
    "google.protobuf.Timestamp": "google.protobuf.Timestamp",
    "google.protobuf.Duration": "google.protobuf.Duration",
    "kubernetes.Quantity": "kubernetes.Quantity",
    "kubernetes.URL": "kubernetes.URL",
    "net.IP": "net.IP",
    "net.CIDR": "net.CIDR",
}
_CONSTANTS: dict[type, Type] = {
    type(None): NULL,
    bool: BOOL,
    int: INT,
    UInt: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
}
# Messages that expressions may build: their members are whatever they are.
_MESSAGES = ("Object", "JSONPatch")


class Checker:
    """Sets `type` on every node and `overloads` on every call; what does not fit goes to `problems`."""

    def __init__(self, variables: Mapping[str, Type], functions: Mapping[str, list[Overload]]) -> None:
        self.variables, self.functions = variables, functions
        self.problems: list[tuple[int, str]] = []
        self._mixed: set[int] = set()  # lists whose items may differ in type: what is to be formatted

    def check(self, node: Node, scope: dict[str, Type]) -> Type:
        kind = type(node).__name__.lower()
        found: Type = getattr(self, "_" + kind)(node, scope)
        node.type = found
        return found

    def _problem(self, node: Node, message: str) -> Type:
        self.problems.append((node.place, message))
        return DYN

    def _const(self, node: Const, scope: dict[str, Type]) -> Type:
        return _CONSTANTS[type(node.value)]

    def _ident(self, node: Ident, scope: dict[str, Type]) -> Type:
        found = scope.get(node.name) or self.variables.get(node.name)
        if found is not None:
            return found
        if node.name in TYPE_NAMES:
            return TYPE
        return self._problem(node, f"undeclared reference to '{node.name}' (in container '')")

    def _select(self, node: Select, scope: dict[str, Type]) -> Type:
        name = dotted(node)
        if name in TYPE_NAMES and name.split(".")[0] not in self.variables:
            return TYPE
        if name is not None and name in self.variables:  # a variable whose name has a dot; its holder knows it
            self.check(node.operand, scope)
            return self.variables[name]
        found = self._member(node, self.check(node.operand, scope))
        if node.test:
            return BOOL
        if node.optional and found.kind != "optional":
            return optional_of(found)
        return found

    def _member(self, node: Select, holder: Type) -> Type:
        if holder.kind == "optional":
            inner = self._member(node, holder.params[0])
            return inner if inner.kind == "optional" else optional_of(inner)
        if holder.kind == "object":
            fields = holder.fields or {}
            name = node.field if node.field in fields else escape(node.field)
            if name is None or name not in fields:
                return self._problem(node, f"undefined field '{node.field}'")
            node.field = unescape(name)
            return fields[name]
        if holder.kind == "map":
            return holder.params[1]
        if holder.kind == "dyn":
            return DYN
        return self._problem(node, f"type '{holder}' does not support field selection")

    def _call(self, node: Call, scope: dict[str, Type]) -> Type:
        name, target = node.function, node.target
        if target is not None:
            prefix = dotted(target)
            root = prefix.split(".")[0] if prefix else ""
            if prefix and f"{prefix}.{name}" in self.functions and root not in scope and root not in self.variables:
                name = node.function = f"{prefix}.{name}"
                target = node.target = None
        if name == "format" and target is not None:
            self._mixed |= {id(arg) for arg in node.args if isinstance(arg, ListOf)}
        types = [self.check(target, scope)] if target is not None else []
        types += [self.check(arg, scope) for arg in node.args]
        operator = _OPERATORS.get(name)
        if operator is not None and target is None:
            result = operator(types)
            return result if result is not None else self._no_overload(node, types)
        overloads = [o for o in self.functions.get(name, ()) if o.member == (target is not None)]
        if not overloads:
            if name in self.functions:
                return self._no_overload(node, types)
            return self._problem(node, f"undeclared reference to '{name}' (in container '')")
        return self._resolve(node, overloads, types)

    def _resolve(self, node: Call, overloads: list[Overload], types: list[Type]) -> Type:
        fitting, results = [], []
        for overload in overloads:
            bound: dict[str, Type] = {}
            if len(overload.params) == len(types) and all(
                assignable(wanted, given, bound) for wanted, given in zip(overload.params, types)
            ):
                fitting.append(overload)
                results.append(substitute(overload.result, bound))
        if not fitting:
            return self._no_overload(node, types)
        node.overloads = fitting
        first = results[0]
        return first if all(str(result) == str(first) for result in results) else DYN

    def _no_overload(self, node: Call, types: list[Type]) -> Type:
        shown = list(map(str, types))
        if node.target is not None:
            text = f"{shown[0]}.({', '.join(shown[1:])})"
        else:
            text = f"({', '.join(shown)})"
        return self._problem(node, f"found no matching overload for '{node.function}' applied to '{text}'")

    def _listof(self, node: ListOf, scope: dict[str, Type]) -> Type:
        item: Type | None = None
        for place, element in enumerate(node.items):
            found = self.check(element, scope)
            if place in node.optional:
                found = found.params[0] if found.kind == "optional" else found
            item = joined(item, found) if id(node) in self._mixed else self._same(element, item, found)
        return list_of(item or DYN)

    def _mapof(self, node: MapOf, scope: dict[str, Type]) -> Type:
        key: Type | None = None
        value: Type | None = None
        for key_node, value_node, optional in node.entries:
            key = self._same(key_node, key, self.check(key_node, scope))
            found = self.check(value_node, scope)
            if optional and found.kind == "optional":
                found = found.params[0]
            value = self._same(value_node, value, found) if found.kind != "dyn" else DYN
        return map_of(key or DYN, value or DYN)

    def _same(self, node: Node, before: Type | None, found: Type) -> Type:
        """Literals hold one type; `dyn()` says otherwise."""
        if before is not None and not assignable(before, found) and not assignable(found, before):
            return self._problem(node, f"expected type '{before}' but found '{found}'")
        return joined(before, found)

    def _struct(self, node: Struct, scope: dict[str, Type]) -> Type:
        for _, value, _ in node.entries:
            self.check(value, scope)
        if node.name.split(".")[0] not in _MESSAGES:
            return self._problem(node, f"undeclared reference to '{node.name}' (in container '')")
        return DYN

    # ---- macros

    def _macro(self, node: Macro, scope: dict[str, Type]) -> Type:
        target = self.check(node.target, scope)
        if node.kind == "bind":
            return self.check(node.args[0], {**scope, node.variables[0]: target})
        if node.kind in ("optMap", "optFlatMap"):
            value = target.params[0] if target.kind == "optional" else DYN
            found = self.check(node.args[0], {**scope, node.variables[0]: value})
            return found if node.kind == "optFlatMap" else optional_of(found)
        kinds = _iterated(target, len(node.variables))
        if kinds is None:
            self._problem(
                node.target,
                f"expression of type '{target}' cannot be range of a comprehension (must be list, map, or dynamic)",
            )
            kinds = (DYN,) * len(node.variables)
        inner = {**scope, **dict(zip(node.variables, kinds))}
        types = [self.check(arg, inner) for arg in node.args]
        return self._macro_result(node, target, kinds, types)

    def _macro_result(self, node: Macro, target: Type, kinds: tuple[Type, ...], types: list[Type]) -> Type:
        name = node.kind
        if name in ("all", "exists", "exists_one", "existsOne", "filter"):
            operator = {"all": "_&&_", "exists": "_||_"}.get(name, "_?_:_")
            self._must_be_bool(node.args[0], types[0], operator)
            return BOOL if name != "filter" else list_of(kinds[0])
        if len(types) == 2 and name != "sortBy":
            self._must_be_bool(node.args[0], types[0], "_?_:_")
        if name in ("map", "transformList"):
            return list_of(types[-1])
        if name == "transformMap":
            return map_of(kinds[0], types[-1])
        if name == "transformMapEntry":
            return types[-1] if types[-1].kind == "map" else map_of(DYN, DYN)
        return target  # sortBy

    def _must_be_bool(self, node: Node, found: Type, operator: str) -> None:
        if found.kind not in ("bool", "dyn"):
            self._problem(node, f"found no matching overload for '{operator}' applied to '(bool, {found})'")


def _iterated(target: Type, variables: int) -> tuple[Type, ...] | None:
    """The types of a macro's variables over a value of that type."""
    if target.kind == "list":
        return (target.params[0],) if variables == 1 else (INT, target.params[0])
    if target.kind == "map":
        return target.params[:variables]
    return (DYN,) * variables if target.kind == "dyn" else None


# ---- operators that are not in the registry


def _logical(types: list[Type]) -> Type | None:
    return BOOL if all(t.kind in ("bool", "dyn") for t in types) else None


def _conditional(types: list[Type]) -> Type | None:
    condition, yes, no = types
    if condition.kind not in ("bool", "dyn") or not (assignable(yes, no) or assignable(no, yes)):
        return None
    return joined(yes, no)


def _equality(types: list[Type]) -> Type | None:
    return BOOL if assignable(types[0], types[1]) or assignable(types[1], types[0]) else None


def _indexing(types: list[Type]) -> Type | None:
    holder, index = types
    if holder.kind == "optional":
        inner = _indexing([holder.params[0], index])
        return optional_of(inner) if inner is not None else None
    if holder.kind == "list":
        return holder.params[0] if index.kind in ("int", "uint", "dyn") else None
    if holder.kind == "map":
        return holder.params[1] if assignable(holder.params[0], index) else None
    return DYN if holder.kind == "dyn" else None


def _optional_indexing(types: list[Type]) -> Type | None:
    found = _indexing(types)
    if found is None:
        return None
    return found if found.kind == "optional" else optional_of(found)


def _membership(types: list[Type]) -> Type | None:
    value, holder = types
    for wanted in (list_of(A), map_of(A, B)):
        bound: dict[str, Type] = {"A": value}
        if assignable(wanted, holder, bound):
            return BOOL
    return None


_OPERATORS: dict[str, Any] = {
    "_&&_": _logical,
    "_||_": _logical,
    "_?_:_": _conditional,
    "_==_": _equality,
    "_!=_": _equality,
    "_[_]": _indexing,
    "_[?_]": _optional_indexing,
    "@in": _membership,
}
