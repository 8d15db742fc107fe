"""What the parser makes of an expression. `place` is an offset into the source; `type` is set by the checker."""

from __future__ import annotations

from typing import Any


class Node:
    __slots__ = ("place", "type")

    def __init__(self, place: int) -> None:
        self.place = place
        self.type: Any = None


class Const(Node):
    __slots__ = ("value",)

    def __init__(self, place: int, value: Any) -> None:
        super().__init__(place)
        self.value = value


class Ident(Node):
    __slots__ = ("name",)

    def __init__(self, place: int, name: str) -> None:
        super().__init__(place)
        self.name = name


class Select(Node):
    """`operand.field`; `test` for has(), `optional` for `.?`."""

    __slots__ = ("field", "operand", "optional", "test")

    def __init__(self, place: int, operand: Node, field: str, optional: bool = False, test: bool = False) -> None:
        super().__init__(place)
        self.operand, self.field, self.optional, self.test = operand, field, optional, test


class Call(Node):
    """A function or, with a target, a method; operators are functions named `_+_`, `_[_]`, `_?_:_`."""

    __slots__ = ("args", "function", "overloads", "target")

    def __init__(self, place: int, function: str, args: list[Node], target: Node | None = None) -> None:
        super().__init__(place)
        self.function, self.args, self.target = function, args, target
        self.overloads: Any = None


class ListOf(Node):
    __slots__ = ("items", "optional")

    def __init__(self, place: int, items: list[Node], optional: set[int]) -> None:
        super().__init__(place)
        self.items, self.optional = items, optional


class MapOf(Node):
    __slots__ = ("entries",)

    def __init__(self, place: int, entries: list[tuple[Node, Node, bool]]) -> None:
        super().__init__(place)
        self.entries = entries


class Struct(Node):
    __slots__ = ("entries", "name")

    def __init__(self, place: int, name: str, entries: list[tuple[str, Node, bool]]) -> None:
        super().__init__(place)
        self.name, self.entries = name, entries


class Macro(Node):
    """all, exists, exists_one, map, filter, ... over `target`, with one or two variables; bind; optMap."""

    __slots__ = ("args", "kind", "target", "variables")

    def __init__(self, place: int, kind: str, target: Node, variables: list[str], args: list[Node]) -> None:
        super().__init__(place)
        self.kind, self.target, self.variables, self.args = kind, target, variables, args
