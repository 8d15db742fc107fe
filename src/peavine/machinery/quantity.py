"""Resource quantities (`500m`, `1Gi`, `12e6`): exact values, canonical form, arithmetic.

Follows apimachinery's `api/resource`: three families of suffixes, values rounded up to a nano, at most 2^63-1 in size,
and the canonical form that the server stores.
"""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(.*)", re.DOTALL)
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {power: suffix for suffix, power in _DECIMAL.items()}
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_NANO = 10**9
_NANOS_MAX = (2**63 - 1) * _NANO

BINARY_SI, DECIMAL_SI, DECIMAL_EXPONENT = "BinarySI", "DecimalSI", "DecimalExponent"

FORMAT_MESSAGE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_MESSAGE = "unable to parse quantity's suffix"


class QuantityError(ValueError):
    """The string is no quantity; the text is upstream's."""


@total_ordering
class Quantity:
    """An exact number of nanos with the family of suffixes it was written in. Immutable.

    Equality and order are of the number alone: `Quantity("1") == Quantity("1000m")`.
    """

    __slots__ = ("format", "nanos")

    def __init__(self, nanos: int, format: str = DECIMAL_SI) -> None:
        self.nanos, self.format = nanos, format

    @staticmethod
    def of(number: int, format: str = DECIMAL_SI) -> Quantity:
        """A whole number."""
        return Quantity(number * _NANO, format)

    @staticmethod
    def of_milli(millis: int, format: str = DECIMAL_SI) -> Quantity:
        return Quantity(millis * 10**6, format)

    def value(self) -> int:
        """The number, rounded up (away from zero) to a whole one."""
        return _round_up(self.nanos, _NANO)

    def milli(self) -> int:
        """The number of thousandths, rounded up."""
        return _round_up(self.nanos, 10**6)

    def sign(self) -> int:
        return (self.nanos > 0) - (self.nanos < 0)

    def is_integer(self) -> bool:
        return self.nanos % _NANO == 0

    def __str__(self) -> str:
        return _canonical(self.nanos, self.format)

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.format)


ZERO = Quantity(0)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Quantity:
    if not text:
        raise QuantityError(FORMAT_MESSAGE)
    match = _NUMBER.fullmatch(text)
    assert match  # every part is optional
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4]
    if not re.fullmatch(r"[eEinumkKMGTP]*[-+]?[0-9]*", suffix):
        raise QuantityError(FORMAT_MESSAGE)
    if len(text) > 512:  # a bound on the arithmetic; the value could not be held anyway
        raise QuantityError(FORMAT_MESSAGE)
    digits, scale = int(whole + fraction or "0"), len(fraction)  # no digits at all ("k") mean zero, as upstream
    if suffix in _BINARY:
        format = BINARY_SI
        numerator, denominator = (digits << _BINARY[suffix]) * _NANO, 10**scale
    else:
        exponent = _EXPONENT.fullmatch(suffix)
        if suffix in _DECIMAL:
            format, power = DECIMAL_SI, _DECIMAL[suffix]
        elif exponent and -(2**31) <= int(exponent[1]) < 2**31:
            format, power = DECIMAL_EXPONENT, max(-600, min(600, int(exponent[1])))
        else:
            raise QuantityError(SUFFIX_MESSAGE)
        power += 9
        numerator, denominator = digits * 10 ** max(power, 0), 10 ** (scale + max(-power, 0))
    nanos = min(_round_up(numerator, denominator), _NANOS_MAX)
    return Quantity(-nanos if sign == "-" else nanos, format)


def parse_quantity(text: str | int | float | Quantity) -> Quantity:
    """The quantity of a string, or of a JSON number as its decimal text. Raises QuantityError."""
    if isinstance(text, Quantity):
        return text
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise QuantityError(FORMAT_MESSAGE)
    return _parse(text if isinstance(text, str) else repr(text))


def canonical(text: str | int | float) -> str:
    """The canonical form of a quantity string: what the server stores and shows."""
    return _canonical_text(text if isinstance(text, str) else repr(text))


@lru_cache(maxsize=4096)
def _canonical_text(text: str) -> str:
    return str(_parse(text))


def _round_up(numerator: int, denominator: int) -> int:
    """Division rounding away from zero."""
    return -(-numerator // denominator) if numerator >= 0 else numerator // denominator


def _canonical(nanos: int, format: str) -> str:
    if nanos == 0:
        return "0"
    sign, size = ("-", -nanos) if nanos < 0 else ("", nanos)
    if format == BINARY_SI and (size < 1024 * _NANO or size % _NANO):
        format = DECIMAL_SI  # too small, or a fraction: decimal suffixes say it exactly
    if format == BINARY_SI:
        number, power = size // _NANO, 0
        while number % 1024 == 0 and power < 60:
            number, power = number >> 10, power + 10
        suffix = next((name for name, bits in _BINARY.items() if bits == power), "")
        return f"{sign}{number}{suffix}"
    number, power = size, -9
    while number % 1000 == 0 and power < (18 if format == DECIMAL_SI else 600):
        number, power = number // 1000, power + 3
    if format == DECIMAL_EXPONENT:
        return f"{sign}{number}e{power}" if power else f"{sign}{number}"
    return f"{sign}{number}{_DECIMAL_NAMES[power]}"
