"""Sets of field paths, in the form that `metadata.managedFields[].fieldsV1` has on the wire.

A set is a dict from path element to node: `f:NAME` a field, `k:{"name":"web"}` a list item by its keys, `v:VALUE` an
item of a set by its value, `i:N` by index. A node is again such a dict; its own path is a member of the set when it is
empty or holds the key `.`. So the wire form needs no decoding, and unchanged parts are shared: no function here
changes its arguments, and nobody else may change a set in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

FieldSet = dict[str, Any]
SETS_REMEMBERED_MAX = 1024


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """The paths of either."""
    if not a or a is b:
        return b
    if not b:
        return a
    result = dict(a)
    for element, node in b.items():
        mine = result.get(element)
        result[element] = node if mine is None else _union_node(mine, node)
    return result


def _union_node(a: FieldSet, b: FieldSet) -> FieldSet:
    if not a:
        return b if not b or "." in b else {".": {}, **b}
    if not b:
        return a if "." in a else {".": {}, **a}
    return union(a, b)


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """The paths of `a` that are not in `b`. A path in `b` does not take its children with it."""
    if not a or not b:
        return a
    result = {}
    for element, node in a.items():
        other = b.get(element)
        if other is None:
            result[element] = node
        else:
            rest = _difference_node(node, other)
            if rest is not None:
                result[element] = rest
    return result


def _difference_node(a: FieldSet, b: FieldSet) -> FieldSet | None:
    member = is_member(a) and not is_member(b)
    return _node(member, {} if not a else difference({k: v for k, v in a.items() if k != "."}, b))


def recursive_difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """The paths of `a` that are neither in `b` nor below a path in `b`."""
    if not a or not b:
        return a
    result = {}
    for element, node in a.items():
        other = b.get(element)
        if other is None:
            result[element] = node
        elif not is_member(other):
            children = recursive_difference({k: v for k, v in node.items() if k != "."}, other)
            rest = _node(is_member(node), children)
            if rest is not None:
                result[element] = rest
    return result


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """The paths of both."""
    result: FieldSet = {}
    for element, node in a.items():
        other = b.get(element)
        if other is not None and element != ".":
            rest = _node(is_member(node) and is_member(other), intersection(node, other))
            if rest is not None:
                result[element] = rest
    return result


def is_member(node: FieldSet) -> bool:
    """Whether the node's own path is in the set."""
    return not node or "." in node


def _node(member: bool, children: FieldSet) -> FieldSet | None:
    if not children:
        return {} if member else None
    return {".": {}, **children} if member else children


def from_paths(paths: Iterator[tuple[str, ...]] | tuple[tuple[str, ...], ...]) -> FieldSet:
    """The set of these paths of field names."""
    result: FieldSet = {}
    for path in paths:
        node: FieldSet = {}
        for name in reversed(path):
            node = {"f:" + name: node}
        result = union(result, node)
    return result


def key_element(keys: dict[str, Any]) -> str:
    """The path element of a list item with these key fields; `keys` sorted by name."""
    return "k:" + _text(keys)


def value_element(value: Any) -> str:
    return "v:" + _text(value)


def _text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Every path as a message shows it (`.spec.ports[port=80,protocol="TCP"].name`), members before children."""
    elements = sorted((e for e in fields if e != "."), key=_order)
    for element in elements:
        if is_member(fields[element]):
            yield prefix + show_element(element)
    for element in elements:
        if fields[element]:
            yield from paths(fields[element], prefix + show_element(element))


def show_element(element: str) -> str:
    """One path element as upstream's messages write it."""
    kind, _, rest = element.partition(":")
    if kind == "f":
        return "." + rest
    if kind == "k":
        return "[" + ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in json.loads(rest).items()) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"


_ORDER = {"f": 0, "k": 1, "v": 2, "i": 3}


def _order(element: str) -> tuple[int, Any]:
    kind, _, rest = element.partition(":")
    return (_ORDER.get(kind, 4), int(rest) if kind == "i" else rest)


def sorted_set(fields: FieldSet) -> FieldSet:
    """The same set with its elements in order, as upstream writes it."""
    if len(fields) < 2:
        return {element: sorted_set(node) for element, node in fields.items()}
    return {element: sorted_set(fields[element]) if fields[element] else {} for element in sorted(fields)}


def decode(fields: Any) -> FieldSet:
    """A client's `fieldsV1` as a set, its elements in canonical form. Raises ValueError for what is no set.

    Objects of one maker have the same sets: those are decoded once and shared."""
    try:
        data = orjson.dumps(fields)
    except TypeError:
        return _decode(fields)
    return _decoded(data)


@lru_cache(maxsize=SETS_REMEMBERED_MAX)
def _decoded(data: bytes) -> FieldSet:
    return _decode(orjson.loads(data))


def _decode(fields: Any) -> FieldSet:
    if not isinstance(fields, dict):
        raise ValueError("fieldsV1 is not an object")
    result: FieldSet = {}
    for element, node in fields.items():
        if element == ".":
            result["."] = {}
        else:
            result[_canonical(element)] = _decode(node)
    return result


def _canonical(element: str) -> str:
    kind, separator, rest = element.partition(":")
    if not separator or kind not in _ORDER:
        raise ValueError(f"{element!r} is no path element")
    if kind == "f":
        return element
    value = orjson.loads(rest)
    if kind == "i":
        if not isinstance(value, int):
            raise ValueError(f"{element!r} is no index")
        return element
    if kind == "k":
        if not isinstance(value, dict):
            raise ValueError(f"{element!r} has no keys")
        value = dict(sorted(value.items()))
    return f"{kind}:{orjson.dumps(value).decode()}"
