from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from peavine.controllers.cronjob import Times


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    "schedule, since, expected",
    [
        ("*/5 * * * *", "2026-01-01T00:01:30", "2026-01-01T00:05:00"),
        ("0 0 1 * *", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        ("30 4 * * mon-fri", "2026-01-02T05:00:00", "2026-01-05T04:30:00"),
        ("0 12 13 * 5", "2026-02-10T00:00:00", "2026-02-13T12:00:00"),
        ("0 12 14 * 5", "2026-02-10T00:00:00", "2026-02-13T12:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("@hourly", "2026-01-01T00:59:59", "2026-01-01T01:00:00"),
        ("0 9 * jan,jul sun", "2026-01-31T10:00:00", "2026-07-05T09:00:00"),
    ],
)
def test_the_next_time_of_a_schedule(schedule, since, expected):
    assert Times(schedule, None).after(at(since)) == at(expected)


def test_a_time_zone_moves_the_schedule():
    assert Times("0 9 * * *", "Asia/Shanghai").after(at("2026-01-01T00:00:00")) == at("2026-01-01T01:00:00")


def test_an_hour_that_daylight_saving_skips_does_not_happen():
    after = Times("30 2 * * *", "Europe/Berlin").after(at("2026-03-28T12:00:00"))
    assert after == at("2026-03-30T02:30:00", "Europe/Berlin")


def test_a_date_that_never_comes_has_no_next_time():
    assert Times("0 0 30 2 *", None).after(at("2026-01-01T00:00:00")) is None


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "@often", "a * * * *"]
)
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ValueError):
        Times(text, None)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises((ValueError, ZoneInfoNotFoundError)):
        Times("* * * * *", "Mars/Olympus")
