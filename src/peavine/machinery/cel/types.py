"""The types that an expression's parts have before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Type:
    """A type. `params` of list, map and optional; `fields` of an object whose fields are known.

    `unique` is "set" or the tuple of keys for a list whose items are told apart by value or by keys.
    """

    __slots__ = ("fields", "kind", "name", "params", "unique")

    def __init__(
        self,
        kind: str,
        params: tuple[Type, ...] = (),
        *,
        name: str = "",
        fields: Mapping[str, Type] | None = None,
        unique: Any = None,
    ) -> None:
        self.kind, self.params, self.name, self.fields, self.unique = kind, params, name or kind, fields, unique

    def __str__(self) -> str:
        if self.params:
            return f"{self.name}({', '.join(map(str, self.params))})"
        return self.name

    def __repr__(self) -> str:
        return f"Type({self})"


DYN = Type("dyn")
INT, UINT, DOUBLE, BOOL = Type("int"), Type("uint"), Type("double"), Type("bool")
STRING, BYTES, NULL, TYPE = Type("string"), Type("bytes"), Type("null"), Type("type")
TIMESTAMP, DURATION = Type("timestamp"), Type("duration")
# Parameters of generic functions: whatever they meet first, within one call.
A, B = Type("param", name="A"), Type("param", name="B")


def list_of(item: Type, unique: Any = None) -> Type:
    return Type("list", (item,), unique=unique)


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("optional", (value,), name="optional_type")


def object_of(fields: Mapping[str, Type], name: str = "object") -> Type:
    return Type("object", name=name, fields=fields)


def opaque(name: str) -> Type:
    return Type("opaque", name=name)


def assignable(wanted: Type, given: Type, bound: dict[str, Type] | None = None) -> bool:
    """Whether a value of type `given` may stand where `wanted` is asked for; binds type parameters in `bound`."""
    if wanted.kind == "param":
        if bound is None:
            return True
        known = bound.get(wanted.name)
        if known is None or known.kind == "dyn":
            bound[wanted.name] = given
            return True
        if assignable(known, given):
            return True
        if assignable(given, known):
            bound[wanted.name] = given
            return True
        return False
    if wanted.kind == "dyn" or given.kind == "dyn":
        return True
    if given.kind == "null":
        return wanted.kind in ("null", "object", "opaque", "timestamp", "duration", "optional")
    if wanted.kind != given.kind:
        return False
    if wanted.kind in ("object", "opaque"):
        return wanted.kind == "object" or wanted.name == given.name
    return all(assignable(w, g, bound) for w, g in zip(wanted.params, given.params))


def joined(a: Type | None, b: Type) -> Type:
    """The type of a value that is either."""
    if a is None or a is b:
        return b
    if a.kind == "dyn" or b.kind == "dyn":
        return DYN
    if assignable(a, b):
        return a
    return b if assignable(b, a) else DYN


def substitute(type: Type, bound: dict[str, Type]) -> Type:
    """`type` with its parameters replaced by what they are bound to."""
    if type.kind == "param":
        return bound.get(type.name, DYN)
    if type.params:
        return Type(type.kind, tuple(substitute(p, bound) for p in type.params), name=type.name)
    return type
