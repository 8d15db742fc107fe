"""Small rules that the validation of many kinds shares, each in the words of upstream's validators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required
from peavine.machinery.quantity import Quantity, QuantityError, parse_quantity

Object = dict[str, Any]
Errors = list[FieldError]

IMMUTABLE = "field is immutable"
NON_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"


def broken(field: str, value: Any, messages: Iterable[str]) -> Errors:
    """One error for each message about the same value."""
    return [invalid_value(field, value, message) for message in messages]


def named(field: str, value: str | None, rule: Callable[[str], list[str]], detail: str = "") -> Errors:
    """A required string that follows a rule for names."""
    if not value:
        return [required(field, detail)]
    return broken(field, value, rule(value))


def subdomain(field: str, value: str | None) -> Errors:
    return named(field, value, rules.is_dns1123_subdomain)


def non_negative(field: str, value: int | None) -> Errors:
    return [] if (value or 0) >= 0 else [invalid_value(field, value, NON_NEGATIVE)]


def positive(field: str, value: int | None) -> Errors:
    return [] if (value or 0) > 0 else [invalid_value(field, value or 0, POSITIVE)]


def one_of(field: str, value: Any, supported: Sequence[str], *, detail: str = "", optional: bool = False) -> Errors:
    """A required enumeration; an empty value is Required, an unknown one NotSupported."""
    if not value:
        return [] if optional else [required(field, detail)]
    return [] if value in supported else [not_supported(field, value, sorted(supported))]


def supported(field: str, value: Any, choices: Sequence[str]) -> Errors:
    """An enumeration whose empty value is just another unsupported one."""
    return [] if value in choices else [not_supported(field, value or "", sorted(choices))]


def immutable(field: str, new: Any, old: Any) -> Errors:
    return rules.validate_immutable(new, old, field)


def same(field: str, new: Any, old: Any, detail: str = IMMUTABLE) -> Errors:
    """Equal where empty and absent are the same, or an Invalid with `detail`."""
    return [] if strip(new) == strip(old) else [invalid_value(field, new, detail)]


def frozen(field: str, new: Any, old: Any, detail: str) -> Errors:
    """The same as a Forbidden."""
    return [] if strip(new) == strip(old) else [forbidden_field(field, detail)]


def strip(value: Any) -> Any:
    """Without what means nothing: null, {}, [] and "" inside of maps; for comparing what users wrote."""
    if isinstance(value, dict):
        kept = {k: strip(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in (None, {}, [], "")} or None
    if isinstance(value, list):
        return [strip(v) for v in value] or None
    return value if value != "" else None


def quantity(value: Any) -> Quantity:
    """A quantity of a decoded object; what is none counts as zero (decoding has refused it)."""
    try:
        return parse_quantity(value)
    except QuantityError:
        return Quantity(0)


def non_negative_quantity(field: str, value: Any) -> Errors:
    return [] if quantity(value).nanos >= 0 else [invalid_value(field, str(value), NON_NEGATIVE)]


def positive_quantity(field: str, value: Any) -> Errors:
    return [] if quantity(value).nanos > 0 else [invalid_value(field, str(value), "must be greater than zero")]


def selector_matches(label_selector: Object | None, labels: dict[str, str] | None) -> bool:
    """Whether a LabelSelector selects these labels; a broken or missing one selects nothing."""
    from peavine.machinery.selectors import SelectorError, selector_of

    try:
        return selector_of(label_selector).matches(labels or {})
    except SelectorError:
        return False


def path_of(field: str, *parts: str | int) -> str:
    """`path_of("spec", "ports", 0, "name")` -> `spec.ports[0].name`."""
    for part in parts:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else part
    return field


def items(obj: Object | None, name: str, field: str) -> Iterable[tuple[str, Any]]:
    """(path, item) of a list field, an absent list being empty."""
    for i, item in enumerate((obj or {}).get(name) or []):
        yield f"{field}.{name}[{i}]" if field else f"{name}[{i}]", item
