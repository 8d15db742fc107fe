"""Cron schedules as CronJob takes them: five fields, names, steps, `@hourly` and its like, in a time zone. Pure.

Upstream: "CronJob" (schedule syntax), github.com/robfig/cron v3. Day of month and day of week: if both are restricted,
either is enough.
"""

from __future__ import annotations

from calendar import day_abbr, month_abbr
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

YEARS_AHEAD_MAX = 5
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {month_abbr[i].lower(): i for i in range(1, 13)}
_DAYS = {day_abbr[(i - 1) % 7].lower(): i for i in range(7)}
# (name, least, most, names)
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)


class Schedule(NamedTuple):
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    every: int
    zone: ZoneInfo | None

    def after(self, moment: float) -> float | None:
        """The first time (Unix seconds) of the schedule after `moment`; None if there is none in five years."""
        if self.every:
            return moment + self.every - (moment % 1)
        t = datetime.fromtimestamp(int(moment), self.zone or ZoneInfo("UTC")).replace(second=0, microsecond=0)
        t = _forward(t, timedelta(minutes=1))
        last = t.year + YEARS_AHEAD_MAX
        while t.year <= last:
            if t.month not in self.months:
                t = (t.replace(day=1, hour=0, minute=0) + timedelta(days=32)).replace(day=1)
            elif not self._day_matches(t):
                t = (t + timedelta(days=1)).replace(hour=0, minute=0)
            elif t.hour not in self.hours:
                t = _forward(t.replace(minute=0), timedelta(hours=1))
            elif t.minute not in self.minutes:
                t = _forward(t, timedelta(minutes=1))
            else:
                return t.timestamp()
        return None

    def _day_matches(self, t: datetime) -> bool:
        in_month, in_week = t.day in self.days, (t.weekday() + 1) % 7 in self.weekdays
        return in_month and in_week if self.any_day or self.any_weekday else in_month or in_week


def _forward(t: datetime, step: timedelta) -> datetime:
    """`step` later in real time: the wall clock may jump where daylight saving begins or ends."""
    return datetime.fromtimestamp(t.timestamp() + step.total_seconds(), t.tzinfo)


def parse_schedule(text: str, zone: str | None = None) -> Schedule:
    """Raises ValueError for what is no schedule, or no time zone."""
    try:
        tz = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {zone}") from error
    text = text.strip()
    if text.startswith("@every "):
        seconds = _duration(text.removeprefix("@every "))
        empty: frozenset[int] = frozenset()
        return Schedule(empty, empty, empty, empty, empty, True, True, seconds, tz)
    fields = MACROS.get(text, text).split()
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: {fields}")
    minutes, hours, days, months, weekdays = (_field(value, *spec) for value, spec in zip(fields, _FIELDS, strict=True))
    return Schedule(minutes, hours, days, months, weekdays, fields[2][0] in "*?", fields[4][0] in "*?", 0, tz)


def _field(text: str, name: str, least: int, most: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        if slash and (not step_text.isdigit() or int(step_text) == 0):
            raise ValueError(f"step of {name} should be a positive number: {part}")
        step = int(step_text) if slash else 1
        if span in ("*", "?"):
            first, last = least, most
        else:
            low, dash, high = span.partition("-")
            first = _number(low, name, names)
            last = _number(high, name, names) if dash else (most if slash else first)
        if first < least or last > most:
            raise ValueError(f"{name} out of range ({least}-{most}): {part}")
        if first > last:
            raise ValueError(f"beginning of range ({first}) beyond end of range ({last}): {part}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isdigit():
        raise ValueError(f"failed to parse {name} from {text!r}")
    return int(text)


def _duration(text: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    seconds, number = 0, ""
    for char in text.strip():
        if char.isdigit():
            number += char
        elif char in units and number:
            seconds, number = seconds + int(number) * units[char], ""
        else:
            raise ValueError(f"failed to parse duration {text!r}")
    if number or seconds <= 0:
        raise ValueError(f"failed to parse duration {text!r}")
    return seconds
