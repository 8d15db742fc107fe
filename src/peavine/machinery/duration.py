"""Durations: Go's text form (`1h30m`), and the short forms that tables and `describe` show.

Follows Go's `time.ParseDuration`/`Duration.String` and apimachinery's `util/duration`.
"""

from __future__ import annotations

import re

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_NANOS_MAX = 2**63 - 1


def parse_duration(text: str) -> float:
    """Seconds of `1h15m30.5s`, `-1.5h`, `300ms`, `0`. Raises ValueError with Go's wording."""
    return parse_duration_nanos(text) / 1e9


def parse_duration_nanos(text: str) -> int:
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0
    if not body:
        raise ValueError(f'time: invalid duration "{text}"')
    total, at = 0, 0
    while at < len(body):
        match = _PART.match(body, at)
        if not match or not (match[1] or match[2]):
            number = re.match(r"[0-9]+\.?[0-9]*|\.[0-9]+", body[at:])
            if not number:
                raise ValueError(f'time: invalid duration "{text}"')
            unit = re.match(r"[^0-9.]*", body[at + number.end() :])
            if not unit or not unit[0]:
                raise ValueError(f'time: missing unit in duration "{text}"')
            raise ValueError(f'time: unknown unit "{unit[0]}" in duration "{text}"')
        scale, fraction = _UNITS[match[3]], match[2] or ""
        total += int(match[1] or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
        at = match.end()
    if total > _NANOS_MAX:
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def format_duration(seconds: float) -> str:
    """Go's `Duration.String`: `1h0m0s`, `1m30s`, `1.5s`, `300ms`, `0s`."""
    nanos = round(seconds * 1e9)
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos == 0:
        return "0s"
    if nanos < 10**9:
        for unit, scale in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanos >= scale:
                return sign + _decimal(nanos, scale) + unit
    whole_minutes, rest = divmod(nanos, 60 * 10**9)
    text = _decimal(rest, 10**9) + "s"
    if whole_minutes:
        text = f"{whole_minutes % 60}m{text}"
    if whole_minutes >= 60:
        text = f"{whole_minutes // 60}h{text}"
    return sign + text


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    fraction = str(rest).zfill(len(str(scale)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def human_duration(seconds: float) -> str:
    """Two units at most, less exact the longer it is: `45s`, `5m30s`, `3h`, `2d5h`, `400d`, `3y12d`."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _two(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def short_human_duration(seconds: float) -> str:
    """One unit: `59s`, `59m`, `23h`, `364d`, `3y`."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 24 * 3600:
        return f"{whole // 3600}h"
    if whole < 365 * 24 * 3600:
        return f"{whole // (24 * 3600)}d"
    return f"{whole // (24 * 3600) // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
