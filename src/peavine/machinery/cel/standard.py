"""The standard library of CEL: operators, conversions, strings, regular expressions, times."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from peavine.machinery.cel.errors import CelError
from peavine.machinery.cel.functions import Library, search_cost, text_cost
from peavine.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    A,
    B,
    list_of,
    map_of,
)
from peavine.machinery.cel.values import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    Duration,
    Timestamp,
    TypeValue,
    UInt,
    double_text,
    type_name,
)

_SECOND = 1_000_000_000
_LIST_A, _STRINGS = list_of(A), list_of(STRING)


def build() -> Library:
    library = Library()
    _arithmetic(library)
    _comparisons(library)
    _conversions(library)
    _sizes_and_strings(library)
    _times(library)
    return library


# ---- arithmetic


def to_int(value: int) -> int:
    """`value` as an int of CEL. Raises CelError when it needs more than 64 bits."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise CelError("integer overflow")


def to_uint(value: int) -> UInt:
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise CelError("unsigned integer overflow")


def _quotient(a: int, b: int) -> int:
    if b == 0:
        raise CelError("division by zero")
    result = abs(a) // abs(b)
    return result if (a < 0) == (b < 0) else -result


def _remainder(a: int, b: int) -> int:
    if b == 0:
        raise CelError("modulus by zero")
    return a - b * _quotient(a, b)


def _divide_doubles(a: float, b: float) -> float:
    if b == 0:
        if a == 0 or math.isnan(a):
            return math.nan
        return math.inf if (a > 0) == (math.copysign(1, b) > 0) else -math.inf
    return a / b


def _arithmetic(library: Library) -> None:
    integer: list[tuple[str, Callable[[Any, Any], Any]]] = [
        ("_+_", operator.add),
        ("_-_", operator.sub),
        ("_*_", operator.mul),
        ("_/_", _quotient),
        ("_%_", _remainder),
    ]
    for name, function in integer:
        library.add(name, (INT, INT), INT, lambda a, b, f=function: to_int(f(a, b)))
        library.add(name, (UINT, UINT), UINT, lambda a, b, f=function: to_uint(f(int(a), int(b))))
    for name, function in (
        ("_+_", operator.add),
        ("_-_", operator.sub),
        ("_*_", operator.mul),
        ("_/_", _divide_doubles),
    ):
        library.add(name, (DOUBLE, DOUBLE), DOUBLE, function)
    library.add("-_", (INT,), INT, lambda a: to_int(-a))
    library.add("-_", (DOUBLE,), DOUBLE, operator.neg)
    library.add("!_", (BOOL,), BOOL, operator.not_)
    both: Callable[..., int] = lambda a, b: (len(a) + len(b)) // 10  # noqa: E731
    library.add("_+_", (STRING, STRING), STRING, operator.add, cost=both)
    library.add("_+_", (BYTES, BYTES), BYTES, operator.add, cost=both)
    library.add("_+_", (_LIST_A, _LIST_A), _LIST_A, operator.add, cost=lambda a, b: len(a) + len(b))
    library.add("_+_", (TIMESTAMP, DURATION), TIMESTAMP, lambda a, b: Timestamp(a.ns + b.ns))
    library.add("_+_", (DURATION, TIMESTAMP), TIMESTAMP, lambda a, b: Timestamp(a.ns + b.ns))
    library.add("_+_", (DURATION, DURATION), DURATION, lambda a, b: Duration(a.ns + b.ns))
    library.add("_-_", (TIMESTAMP, TIMESTAMP), DURATION, lambda a, b: Duration(a.ns - b.ns))
    library.add("_-_", (TIMESTAMP, DURATION), TIMESTAMP, lambda a, b: Timestamp(a.ns - b.ns))
    library.add("_-_", (DURATION, DURATION), DURATION, lambda a, b: Duration(a.ns - b.ns))


def _comparisons(library: Library) -> None:
    numbers = (INT, UINT, DOUBLE)
    for name, function in (("_<_", operator.lt), ("_<=_", operator.le), ("_>_", operator.gt), ("_>=_", operator.ge)):
        for kind in (BOOL, TIMESTAMP, DURATION):
            library.add(name, (kind, kind), BOOL, function)
        for kind in (STRING, BYTES):
            library.add(name, (kind, kind), BOOL, function, cost=lambda a, b: min(len(a), len(b)) // 10)
        for left in numbers:
            for right in numbers:
                library.add(name, (left, right), BOOL, function)


# ---- conversions


def _int_of_double(value: float) -> int:
    if math.isnan(value) or math.isinf(value) or not -(2.0**63) < value < 2.0**63:
        raise CelError("integer overflow")
    return int(value)


def _number_of(text: str, kind: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") and kind == "int" else text
    if not digits.isascii() or not digits.isdigit():
        raise CelError(f'strconv.Parse{kind.title()}: parsing "{text}": invalid syntax')
    return int(text)


def _double_of(text: str) -> float:
    try:
        if "_" in text or text != text.strip():
            raise ValueError
        return float(text)
    except ValueError:
        raise CelError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None


_TRUE, _FALSE = {"1", "t", "T", "true", "TRUE", "True"}, {"0", "f", "F", "false", "FALSE", "False"}


def _bool_of(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise CelError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _conversions(library: Library) -> None:
    def same(value: Any) -> Any:
        return value

    library.add("int", (INT,), INT, same)
    library.add("int", (UINT,), INT, lambda v: to_int(int(v)))
    library.add("int", (DOUBLE,), INT, _int_of_double)
    library.add("int", (STRING,), INT, lambda v: to_int(_number_of(v, "int")), cost=text_cost)
    library.add("int", (TIMESTAMP,), INT, lambda v: v.ns // _SECOND)
    library.add("uint", (UINT,), UINT, same)
    library.add("uint", (INT,), UINT, to_uint)
    library.add("uint", (DOUBLE,), UINT, lambda v: to_uint(_int_of_double(v)))
    library.add("uint", (STRING,), UINT, lambda v: to_uint(_number_of(v, "uint")), cost=text_cost)
    library.add("double", (DOUBLE,), DOUBLE, same)
    library.add("double", (INT,), DOUBLE, float)
    library.add("double", (UINT,), DOUBLE, float)
    library.add("double", (STRING,), DOUBLE, _double_of, cost=text_cost)
    library.add("string", (STRING,), STRING, same)
    library.add("string", (INT,), STRING, str)
    library.add("string", (UINT,), STRING, lambda v: str(int(v)))
    library.add("string", (DOUBLE,), STRING, double_text)
    library.add("string", (BOOL,), STRING, lambda v: "true" if v else "false")
    library.add("string", (BYTES,), STRING, _text_of, cost=text_cost)
    library.add("string", (TIMESTAMP,), STRING, str)
    library.add("string", (DURATION,), STRING, str)
    library.add("bytes", (BYTES,), BYTES, same)
    library.add("bytes", (STRING,), BYTES, lambda v: v.encode(), cost=text_cost)
    library.add("bool", (BOOL,), BOOL, same)
    library.add("bool", (STRING,), BOOL, _bool_of)
    library.add("timestamp", (TIMESTAMP,), TIMESTAMP, same)
    library.add("timestamp", (STRING,), TIMESTAMP, Timestamp.parse)
    library.add("timestamp", (INT,), TIMESTAMP, lambda v: Timestamp(v * _SECOND))
    library.add("duration", (DURATION,), DURATION, same)
    library.add("duration", (STRING,), DURATION, Duration.parse)
    library.add("duration", (INT,), DURATION, lambda v: Duration(v * _SECOND))
    library.add("dyn", (A,), DYN, same)
    library.add("type", (A,), TYPE, lambda v: TypeValue(type_name(v)))


# ---- sizes, strings, regular expressions


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """A regular expression of RE2: linear time, whatever the text. Raises CelError for one that is none."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise CelError(f"error parsing regexp: {error}") from error


def _matches(text: str, pattern: str) -> bool:
    return compiled(pattern).search(text) is not None


def _regex_cost(text: str, pattern: str) -> int:
    return (len(text) // 10 + 1) * (len(pattern) // 4 + 1)


def _sizes_and_strings(library: Library) -> None:
    for kind in (STRING, BYTES, list_of(A), map_of(A, B)):
        library.add("size", (kind,), INT, len)
        library.method("size", (kind,), INT, len)
    library.method("contains", (STRING, STRING), BOOL, lambda a, b: b in a, search_cost)
    library.method("startsWith", (STRING, STRING), BOOL, str.startswith, lambda a, b: len(b) // 10)
    library.method("endsWith", (STRING, STRING), BOOL, str.endswith, lambda a, b: len(b) // 10)
    library.add("matches", (STRING, STRING), BOOL, _matches, cost=_regex_cost)
    library.method("matches", (STRING, STRING), BOOL, _matches, _regex_cost)


# ---- times


def _times(library: Library) -> None:
    parts: dict[str, Callable[[Any], int]] = {
        "getFullYear": lambda t: t.year,
        "getMonth": lambda t: t.month - 1,
        "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
        "getDayOfMonth": lambda t: t.day - 1,
        "getDate": lambda t: t.day,
        "getDayOfWeek": lambda t: t.isoweekday() % 7,
        "getHours": lambda t: t.hour,
        "getMinutes": lambda t: t.minute,
        "getSeconds": lambda t: t.second,
    }
    for name, part in parts.items():
        library.method(name, (TIMESTAMP,), INT, lambda t, p=part: p(t.at()))
        library.method(name, (TIMESTAMP, STRING), INT, lambda t, zone, p=part: p(t.at(zone)))
    library.method("getMilliseconds", (TIMESTAMP,), INT, lambda t: t.ns % _SECOND // 1_000_000)
    library.method("getMilliseconds", (TIMESTAMP, STRING), INT, lambda t, _zone: t.ns % _SECOND // 1_000_000)
    for name, unit in (("getHours", 3600 * _SECOND), ("getMinutes", 60 * _SECOND), ("getSeconds", _SECOND)):
        library.method(name, (DURATION,), INT, lambda d, u=unit: _quotient(d.ns, u))
    library.method("getMilliseconds", (DURATION,), INT, lambda d: _quotient(d.ns, 1_000_000))
