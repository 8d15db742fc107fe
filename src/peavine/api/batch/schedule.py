"""Cron schedules as robfig/cron's standard parser reads them: five fields, `@daily` and the like, `@every 90s`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from peavine.machinery.duration import parse_duration

MONTHS = {
    m: i for i, m in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
DAYS = {d: i for i, d in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
YEARS_AHEAD_MAX = 5


class ScheduleError(ValueError):
    """The text is no schedule; the words are the parser's."""


class Schedule(NamedTuple):
    """A parsed schedule. `every` is a fixed interval in seconds, else the sets of allowed values count."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = False
    any_weekday: bool = False
    every: float = 0

    def next(self, after: datetime) -> datetime | None:
        """The first time strictly after `after`, in its time zone; None if there is none within five years."""
        if self.every:
            return (after + timedelta(seconds=self.every)).replace(microsecond=0)
        moment = (after + timedelta(minutes=1)).replace(second=0, microsecond=0)
        limit = after.year + YEARS_AHEAD_MAX
        while moment.year <= limit:
            if moment.month not in self.months:
                year, month = divmod(moment.month, 12)
                moment = moment.replace(year=moment.year + year, month=month + 1, day=1, hour=0, minute=0)
            elif not self._day_fits(moment):
                moment = (moment + timedelta(days=1)).replace(hour=0, minute=0)
            elif moment.hour not in self.hours:
                moment = (moment + timedelta(hours=1)).replace(minute=0)
            elif moment.minute not in self.minutes or _skipped(moment):
                moment += timedelta(minutes=1)
            else:
                return moment
        return None

    def _day_fits(self, moment: datetime) -> bool:
        """Day of month and weekday both restrict only where neither is a star; otherwise either may fit."""
        day, weekday = moment.day in self.days, (moment.weekday() + 1) % 7 in self.weekdays
        return (day and weekday) if self.any_day or self.any_weekday else (day or weekday)


def _skipped(moment: datetime) -> bool:
    """A time that the clocks of its zone jump over, where daylight saving begins."""
    if moment.tzinfo is None:
        return False
    return datetime.fromtimestamp(moment.timestamp(), moment.tzinfo).replace(fold=0) != moment.replace(fold=0)


def parse_schedule(text: str) -> Schedule:
    """Raises ScheduleError with robfig/cron's words."""
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith("@"):
        if text in DESCRIPTORS:
            return parse_schedule(DESCRIPTORS[text])
        if text.startswith("@every "):
            try:
                seconds = parse_duration(text.removeprefix("@every "))
            except ValueError as error:
                raise ScheduleError(f"failed to parse duration {text}: {error}") from None
            return Schedule(every=max(1, int(seconds)))
        raise ScheduleError(f"unrecognized descriptor: {text}")
    fields = text.split()
    if len(fields) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: {shown(fields)}")
    minutes, _ = _field(fields[0], 0, 59, {})
    hours, _ = _field(fields[1], 0, 23, {})
    days, any_day = _field(fields[2], 1, 31, {})
    months, _ = _field(fields[3], 1, 12, MONTHS)
    weekdays, any_weekday = _field(fields[4], 0, 6, DAYS)
    return Schedule(minutes, hours, days, months, weekdays, any_day, any_weekday)


def shown(fields: list[str]) -> str:
    return "[" + " ".join(fields) + "]"


def _field(text: str, low: int, high: int, names: dict[str, int]) -> tuple[frozenset[int], bool]:
    values: set[int] = set()
    star = False
    for part in text.split(","):
        if not part:
            continue
        found, starred = _range(part, low, high, names)
        values |= found
        star |= starred
    return frozenset(values), star


def _range(text: str, low: int, high: int, names: dict[str, int]) -> tuple[set[int], bool]:
    span, slash, step_text = text.partition("/")
    if "/" in step_text:
        raise ScheduleError(f"too many slashes: {text}")
    first, dash, last = span.partition("-")
    star = first in ("*", "?")
    if star:
        start, end = low, high
    else:
        start = _number(first, names)
        end = _number(last, names) if dash else start
        if "-" in last:
            raise ScheduleError(f"too many hyphens: {text}")
    step = 1
    if slash:
        step = _number(step_text, {})
        if not dash and not star:
            end = high
        star = star and step == 1
    if start < low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ScheduleError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")
    return set(range(start, end + 1, step)), star


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.lstrip("-").isdigit():
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise ScheduleError(f"negative number ({number}) not allowed: {text}")
    return number
