"""The extensions of CEL that Kubernetes turns on: strings, lists, sets, math, optional values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from peavine.machinery.cel.errors import CelError
from peavine.machinery.cel.functions import Library, search_cost, text_cost
from peavine.machinery.cel.standard import to_int, to_uint
from peavine.machinery.cel.types import BOOL, DOUBLE, DYN, INT, STRING, UINT, A, list_of, optional_of
from peavine.machinery.cel.values import NONE, Duration, Optional, UInt, double_text, equal, is_number, type_name

_LIST_A, _STRINGS = list_of(A), list_of(STRING)


def build() -> Library:
    library = Library()
    _string_extensions(library)
    _list_extensions(library)
    _sets(library)
    _math(library)
    _optionals(library)
    return library


# ---- strings


def _at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise CelError(f"index out of range: {index}")
    return text[index : index + 1]


def _find(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _find_last(text: str, part: str, last: int | None = None) -> int:
    if last is None:
        return text.rfind(part)
    if not 0 <= last <= len(text):
        raise CelError(f"index out of range: {last}")
    return text.rfind(part, 0, last + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= len(text) or not 0 <= end <= len(text):
        raise CelError(f"index out of range: {start if not 0 <= start <= len(text) else end}")
    if start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    pieces = list(text) if separator == "" else text.split(separator, count - 1 if count > 0 else -1)
    if separator == "" and 0 < count < len(pieces):
        return pieces[: count - 1] + ["".join(pieces[count - 1 :])]
    return pieces


def _joined(items: list[Any], separator: str = "") -> str:
    if not all(isinstance(item, str) for item in items):
        raise CelError("join: invalid input: list elements must be strings")
    return separator.join(items)


_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _string_extensions(library: Library) -> None:
    library.method("charAt", (STRING, INT), STRING, _at)
    for name, function in (("indexOf", _find), ("lastIndexOf", _find_last)):
        library.method(name, (STRING, STRING), INT, function, search_cost)
        library.method(name, (STRING, STRING, INT), INT, function, search_cost)
    library.method("lowerAscii", (STRING,), STRING, lambda s: s.translate(_LOWER), text_cost)
    library.method("upperAscii", (STRING,), STRING, lambda s: s.translate(_UPPER), text_cost)
    library.method("replace", (STRING, STRING, STRING), STRING, str.replace, text_cost)
    library.method("replace", (STRING, STRING, STRING, INT), STRING, lambda s, a, b, n: s.replace(a, b, n), text_cost)
    library.method("split", (STRING, STRING), _STRINGS, _split, text_cost)
    library.method("split", (STRING, STRING, INT), _STRINGS, _split, text_cost)
    library.method("substring", (STRING, INT), STRING, _substring, text_cost)
    library.method("substring", (STRING, INT, INT), STRING, _substring, text_cost)
    library.method("trim", (STRING,), STRING, str.strip, text_cost)
    library.method("reverse", (STRING,), STRING, lambda s: s[::-1], text_cost)
    library.method("join", (_STRINGS,), STRING, _joined, text_cost)
    library.method("join", (_STRINGS, STRING), STRING, _joined, text_cost)
    library.add("strings.quote", (STRING,), STRING, quote, cost=text_cost)
    library.method("format", (STRING, list_of(DYN)), STRING, _formatted, text_cost)


def quote(text: str) -> str:
    """A string as a CEL literal."""
    escapes = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"}
    escapes |= {"\t": "\\t", "\v": "\\v"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


def _formatted(template: str, values: list[Any]) -> str:
    out: list[str] = []
    place = used = 0
    while place < len(template):
        letter = template[place]
        place += 1
        if letter != "%":
            out.append(letter)
            continue
        if template[place : place + 1] == "%":
            out.append("%")
            place += 1
            continue
        precision = None
        if template[place : place + 1] == ".":
            end = place + 1
            while template[end : end + 1].isdigit():
                end += 1
            precision, place = int(template[place + 1 : end] or 0), end
        verb = template[place : place + 1]
        place += 1
        if used >= len(values):
            raise CelError(f"index {used} out of range")
        out.append(_formatted_one(verb, values[used], precision))
        used += 1
    return "".join(out)


def _formatted_one(verb: str, value: Any, precision: int | None) -> str:
    if verb == "s":
        return shown(value)
    if verb == "d" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, int) else double_text(value)
    if verb in ("f", "e") and is_number(value):
        return format(float(value), f".{6 if precision is None else precision}{verb}")
    if verb == "b" and isinstance(value, int):
        return format(int(value), "b")
    if verb == "o" and isinstance(value, int) and not isinstance(value, bool):
        return format(int(value), "o")
    if verb in ("x", "X"):
        if isinstance(value, (str, bytes)):
            text = (value.encode() if isinstance(value, str) else value).hex()
            return text.upper() if verb == "X" else text
        if isinstance(value, int) and not isinstance(value, bool):
            return format(int(value), verb)
    raise CelError(f"error during formatting: %{verb} cannot format {type_name(value)}")


def shown(value: Any) -> str:
    """A value as `%s` prints it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{shown(k)}: {shown(v)}" for k, v in value.items())) + "}"
    if isinstance(value, int):
        return str(int(value))
    return str(value)


# ---- lists and sets


def order(a: Any, b: Any) -> int:
    """Less, equal, greater, for values that have an order among each other."""
    if (is_number(a) and is_number(b)) or type(a) is type(b):
        try:
            return -1 if a < b else 1 if a > b else 0
        except TypeError:
            pass
    raise CelError("no such overload")


def _is_sorted(items: list[Any]) -> bool:
    return all(order(a, b) <= 0 for a, b in pairwise(items))


def _sum(items: list[Any]) -> Any:
    if not items:
        return 0
    if all(isinstance(item, Duration) for item in items):
        return Duration(sum(item.ns for item in items))
    if not all(map(is_number, items)):
        raise CelError("no such overload")
    if any(isinstance(item, float) for item in items):
        return float(sum(items))
    total = sum(items)
    return to_uint(total) if isinstance(items[0], UInt) else to_int(total)


def _extreme(items: list[Any], sign: int, name: str) -> Any:
    if not items:
        raise CelError(f"{name} called on empty list")
    best = items[0]
    for item in items[1:]:
        if order(item, best) == sign:
            best = item
    return best


def _index(items: list[Any], value: Any, last: bool = False) -> int:
    places = range(len(items) - 1, -1, -1) if last else range(len(items))
    return next((place for place in places if equal(items[place], value)), -1)


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not any(equal(item, other) for other in found):
            found.append(item)
    return found


def _flat(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    flat: list[Any] = []
    for item in items:
        if isinstance(item, list) and depth > 0:
            flat += _flat(item, depth - 1)
        else:
            flat.append(item)
    return flat


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _range(count: int) -> list[int]:
    if count > 100_000:
        raise CelError("lists.range: too long")
    return list(range(count))


def sorted_by(items: list[Any], keys: list[Any]) -> list[Any]:
    by_key: Any = cmp_to_key(lambda a, b: order(keys[a], keys[b]))
    places: list[int] = sorted(range(len(items)), key=by_key)
    return [items[place] for place in places]


def _list_extensions(library: Library) -> None:
    library.method("isSorted", (_LIST_A,), BOOL, _is_sorted, text_cost)
    library.method("sum", (_LIST_A,), A, _sum, text_cost)
    library.method("min", (_LIST_A,), A, lambda v: _extreme(v, -1, "min"), text_cost)
    library.method("max", (_LIST_A,), A, lambda v: _extreme(v, 1, "max"), text_cost)
    library.method("indexOf", (_LIST_A, A), INT, _index, lambda a, _b: len(a))
    library.method("lastIndexOf", (_LIST_A, A), INT, lambda v, x: _index(v, x, True), lambda a, _b: len(a))
    library.method("distinct", (_LIST_A,), _LIST_A, _distinct, lambda a: len(a) ** 2)
    library.method("flatten", (list_of(DYN),), list_of(DYN), _flat, lambda a: len(a))
    library.method("flatten", (list_of(DYN), INT), list_of(DYN), _flat, lambda a, _d: len(a))
    library.method("slice", (_LIST_A, INT, INT), _LIST_A, _slice, lambda a, *_: len(a))
    library.method("reverse", (_LIST_A,), _LIST_A, lambda v: v[::-1], lambda a: len(a))
    library.method("sort", (_LIST_A,), _LIST_A, lambda v: sorted_by(v, v), lambda a: len(a) * 4)
    library.method("first", (_LIST_A,), optional_of(A), lambda v: Optional(v[0]) if v else NONE)
    library.method("last", (_LIST_A,), optional_of(A), lambda v: Optional(v[-1]) if v else NONE)
    library.add("lists.range", (INT,), list_of(INT), _range, cost=lambda n: max(n, 0))


def _contains_all(items: list[Any], wanted: list[Any]) -> bool:
    return all(any(equal(item, other) for item in items) for other in wanted)


def _sets(library: Library) -> None:
    product: Callable[..., int] = lambda a, b: len(a) * len(b)  # noqa: E731
    library.add("sets.contains", (_LIST_A, _LIST_A), BOOL, _contains_all, cost=product)
    library.add(
        "sets.equivalent",
        (_LIST_A, _LIST_A),
        BOOL,
        lambda a, b: _contains_all(a, b) and _contains_all(b, a),
        cost=lambda a, b: 2 * len(a) * len(b),
    )
    library.add(
        "sets.intersects",
        (_LIST_A, _LIST_A),
        BOOL,
        lambda a, b: any(equal(x, y) for x in a for y in b),
        cost=product,
    )


# ---- math


def _greatest(*values: Any) -> Any:
    return _extreme(_numbers(values), 1, "math.greatest")


def _least(*values: Any) -> Any:
    return _extreme(_numbers(values), -1, "math.least")


def _numbers(values: tuple[Any, ...]) -> list[Any]:
    found = list(values[0]) if len(values) == 1 and isinstance(values[0], list) else list(values)
    if not all(map(is_number, found)):
        raise CelError("no such overload")
    return found


def _rounded(value: float) -> float:
    return float(math.floor(abs(value) + 0.5)) * math.copysign(1, value) if math.isfinite(value) else value


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda value: float(function(value)) if math.isfinite(value) else value


def _math(library: Library) -> None:
    for count in range(1, 6):
        library.add("math.greatest", (DYN,) * count, DYN, _greatest)
        library.add("math.least", (DYN,) * count, DYN, _least)
    library.add("math.abs", (INT,), INT, lambda v: to_int(abs(v)))
    library.add("math.abs", (UINT,), UINT, lambda v: v)
    library.add("math.abs", (DOUBLE,), DOUBLE, abs)
    library.add("math.sign", (INT,), INT, lambda v: (v > 0) - (v < 0))
    library.add("math.sign", (DOUBLE,), DOUBLE, lambda v: float((v > 0) - (v < 0)))
    library.add("math.ceil", (DOUBLE,), DOUBLE, _whole(math.ceil))
    library.add("math.floor", (DOUBLE,), DOUBLE, _whole(math.floor))
    library.add("math.trunc", (DOUBLE,), DOUBLE, _whole(math.trunc))
    library.add("math.round", (DOUBLE,), DOUBLE, _rounded)
    library.add("math.isNaN", (DOUBLE,), BOOL, math.isnan)
    library.add("math.isInf", (DOUBLE,), BOOL, math.isinf)
    library.add("math.isFinite", (DOUBLE,), BOOL, math.isfinite)


# ---- optional values


def _value_of(optional: Optional) -> Any:
    if not optional.present:
        raise CelError("optional.none() dereference")
    return optional.value


_ZEROS: tuple[Any, ...] = (None, False, 0, 0.0, "", b"", [], {})


def _optionals(library: Library) -> None:
    maybe = optional_of(A)
    library.add("optional.of", (A,), maybe, Optional)
    library.add("optional.none", (), optional_of(DYN), lambda: NONE)
    library.add(
        "optional.ofNonZeroValue",
        (A,),
        maybe,
        lambda v: NONE if any(type(v) is type(z) and v == z for z in _ZEROS) else Optional(v),
    )
    library.method("hasValue", (maybe,), BOOL, lambda o: o.present)
    library.method("value", (maybe,), A, _value_of)
    library.method("or", (maybe, maybe), maybe, lambda a, b: a if a.present else b)
    library.method("orValue", (maybe, A), A, lambda o, v: o.value if o.present else v)
