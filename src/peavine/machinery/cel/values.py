"""The values of CEL that Python and JSON lack, equality, and the names of types at run time.

null, bool, int, double, string, bytes, list and map are Python's own; everything else is a class here.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import total_ordering
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from peavine.machinery.cel.errors import CelError

INT_MAX, INT_MIN, UINT_MAX = 2**63 - 1, -(2**63), 2**64 - 1
_SECOND = 1_000_000_000
_TIMESTAMP_MIN = int(datetime(1, 1, 1, tzinfo=UTC).timestamp()) * _SECOND
_TIMESTAMP_MAX = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()) * _SECOND + _SECOND - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UInt(int):
    """An unsigned integer: equal to the int of the same size, but another type to overloads."""

    __slots__ = ()


@total_ordering
class _Nanoseconds:
    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.ns == other.ns  # type: ignore[attr-defined]

    def __lt__(self, other: Any) -> bool:
        return self.ns < other.ns

    def __hash__(self) -> int:
        return hash((type(self), self.ns))


_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$")


class Timestamp(_Nanoseconds):
    """A point in time, nanoseconds since 1970."""

    __slots__ = ()

    def __init__(self, ns: int) -> None:
        if not _TIMESTAMP_MIN <= ns <= _TIMESTAMP_MAX:
            raise CelError("timestamp overflow")
        super().__init__(ns)

    @staticmethod
    def parse(text: str) -> Timestamp:
        match = _RFC3339.match(text)
        if not match:
            raise CelError(f"invalid timestamp {text!r}")
        date, time, fraction, zone = match.groups()
        try:
            at = datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone in 'Zz' else zone}")
        except ValueError as error:
            raise CelError(f"invalid timestamp {text!r}") from error
        return Timestamp((at - _EPOCH) // timedelta(seconds=1) * _SECOND + int((fraction or "").ljust(9, "0")))

    def at(self, zone: str = "UTC") -> datetime:
        """The calendar time in a zone: a name, or an offset such as `+01:00`."""
        moment = _EPOCH + timedelta(seconds=self.ns // _SECOND)
        if zone in ("UTC", ""):
            return moment
        offset = re.match(r"^([+-]?)(\d\d):(\d\d)$", zone)
        if offset:
            minutes = int(offset[2]) * 60 + int(offset[3])
            return moment + timedelta(minutes=-minutes if offset[1] == "-" else minutes)
        try:
            return moment.astimezone(ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise CelError(f"unknown time zone {zone}") from error

    def __str__(self) -> str:
        fraction = f".{self.ns % _SECOND:09d}".rstrip("0") if self.ns % _SECOND else ""
        return self.at().strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


_DURATION = re.compile(r"([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}


class Duration(_Nanoseconds):
    """A span of time in nanoseconds, of at most about 292 years."""

    __slots__ = ()

    def __init__(self, ns: int) -> None:
        if not INT_MIN <= ns <= INT_MAX:
            raise CelError("duration overflow")
        super().__init__(ns)

    @staticmethod
    def parse(text: str) -> Duration:
        from fractions import Fraction

        sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
        if rest == "0":
            return Duration(0)
        total, place = Fraction(0), 0
        while place < len(rest):
            match = _DURATION.match(rest, place)
            if not match:
                break
            total += Fraction(match[1]) * _UNITS[match[2]]
            place = match.end()
        if not rest or place != len(rest):
            raise CelError(f'time: invalid duration "{text}"')
        return Duration(sign * int(total))

    def __str__(self) -> str:
        """As CEL turns durations into strings: seconds with a fraction."""
        seconds, rest = divmod(abs(self.ns), _SECOND)
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return f"{'-' if self.ns < 0 else ''}{seconds}{fraction}s"


class Optional:
    """A value that may be absent."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any = None, present: bool = True) -> None:
        self.value, self.present = value, present

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Optional) or self.present != other.present:
            return False
        return not self.present or equal(self.value, other.value)

    def __hash__(self) -> int:
        return hash(self.present)


NONE = Optional(present=False)


class TypeValue:
    """A type as a value: what `type(x)` and the name `int` give."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


_NAMES: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Optional: "optional_type",
    TypeValue: "type",
}


def type_name(value: Any) -> str:
    return str(_NAMES.get(type(value)) or getattr(value, "cel_type", type(value).__name__))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(a: Any, b: Any) -> bool:
    """Equality across types: numbers by value, different types never, lists and maps by their members."""
    kind = type(a)
    if kind is type(b) and kind in (str, int, bool):
        return bool(a == b)
    if is_number(a) and is_number(b):
        return bool(a == b)
    if isinstance(a, dict):
        if not isinstance(b, dict) or len(a) != len(b):
            return False
        return all(k in b and equal(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, bool) or isinstance(b, bool) or is_number(a) or is_number(b):
        return False
    return bool(a == b)


def double_text(value: float) -> str:
    """A double as Go's shortest form prints it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)
