"""Cron schedules as robfig/cron reads them."""

from datetime import datetime

import pytest

from peavine.api.batch.schedule import ScheduleError, parse_schedule

START = datetime(2026, 1, 1, 0, 0, 30)


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("*/5 * * * *", datetime(2026, 1, 1, 0, 5)),
        ("0 9-17/4 * * mon-fri", datetime(2026, 1, 1, 9, 0)),
        ("30 4 1,15 * 5", datetime(2026, 1, 1, 4, 30)),
        ("0 0 29 2 *", datetime(2028, 2, 29)),
        ("@hourly", datetime(2026, 1, 1, 1, 0)),
        ("@every 90s", datetime(2026, 1, 1, 0, 2)),
        ("0 0 31 jan ?", datetime(2026, 1, 31)),
    ],
)
def test_the_next_time_is_the_first_that_fits(text: str, then: datetime) -> None:
    assert parse_schedule(text).next(START) == then


def test_a_day_that_never_comes_has_no_next_time() -> None:
    assert parse_schedule("0 0 30 2 *").next(START) is None


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "@never", "a * * * *"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_schedule(text)
