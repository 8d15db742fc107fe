"""The registry of functions: what each takes, gives and costs. Libraries fill it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peavine.machinery.cel.types import DYN, Type
from peavine.machinery.cel.values import Duration, Optional, Timestamp, TypeValue, UInt, type_name

Implementation = Callable[..., Any]


class Overload:
    """One signature of a function. `cost` gives what a call costs beyond 1, from its arguments."""

    __slots__ = ("cost", "impl", "member", "params", "result")

    def __init__(
        self, params: tuple[Type, ...], result: Type, impl: Implementation, member: bool, cost: Implementation | None
    ) -> None:
        self.params, self.result, self.impl, self.member, self.cost = params, result, impl, member, cost


class Library:
    """Functions by name; a name with a dot is in a namespace (`sets.contains`)."""

    def __init__(self) -> None:
        self.functions: dict[str, list[Overload]] = {}

    def add(
        self,
        name: str,
        params: tuple[Type, ...],
        result: Type,
        impl: Implementation,
        *,
        member: bool = False,
        cost: Implementation | None = None,
    ) -> None:
        self.functions.setdefault(name, []).append(Overload(params, result, impl, member, cost))

    def method(
        self,
        name: str,
        params: tuple[Type, ...],
        result: Type,
        impl: Implementation,
        cost: Implementation | None = None,
    ) -> None:
        self.add(name, params, result, impl, member=True, cost=cost)


_CLASSES: dict[str, Any] = {
    "string": str,
    "list": list,
    "map": dict,
    "object": dict,
    "double": float,
    "bytes": bytes,
    "timestamp": Timestamp,
    "duration": Duration,
    "optional": Optional,
    "type": TypeValue,
    "null": type(None),
}


def accepts(wanted: Type, value: Any) -> bool:
    """Whether a value at run time fits a parameter."""
    kind = wanted.kind
    if kind in ("dyn", "param"):
        return True
    if kind == "int":
        return type(value) is int
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "uint":
        return isinstance(value, UInt)
    if kind == "opaque":
        return type_name(value) == wanted.name
    return isinstance(value, _CLASSES[kind])


def text_cost(*args: Any) -> int:
    """A tenth of a unit a character of the first argument: what walking a string costs."""
    return len(args[0]) // 10 if isinstance(args[0], (str, bytes, list, dict)) else 0


def search_cost(*args: Any) -> int:
    """Walking the first string once for the second."""
    return (len(args[0]) // 10 + 1) * (len(args[1]) // 10 + 1) if isinstance(args[1], (str, bytes)) else len(args[0])


__all__ = ["DYN", "Library", "Overload", "accepts", "search_cost", "text_cost"]
