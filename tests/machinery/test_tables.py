import pytest

from peavine.machinery import tables
from peavine.machinery.duration import format_duration, human_duration, parse_duration, short_human_duration

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 86400 * 365


@pytest.mark.parametrize(
    ("seconds", "human", "short"),
    [
        (-5, "<invalid>", "<invalid>"), (-1, "0s", "0s"), (0, "0s", "0s"), (59, "59s", "59s"), (119, "119s", "1m"),
        (120, "2m", "2m"), (125, "2m5s", "2m"), (10 * MINUTE + 5, "10m", "10m"), (179 * MINUTE, "179m", "2h"),
        (3 * HOUR, "3h", "3h"), (3 * HOUR + 5 * MINUTE, "3h5m", "3h"), (47 * HOUR, "47h", "1d"), (2 * DAY, "2d", "2d"),
        (2 * DAY + HOUR, "2d1h", "2d"), (8 * DAY + HOUR, "8d", "8d"), (700 * DAY, "700d", "1y"),
        (3 * YEAR + 5 * DAY, "3y5d", "3y"), (9 * YEAR + DAY, "9y", "9y"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds, human, short):
    assert (human_duration(seconds), short_human_duration(seconds)) == (human, short)


@pytest.mark.parametrize(
    ("text", "seconds", "form"),
    [("1h30m", 5400, "1h30m0s"), ("300ms", 0.3, "300ms"), ("1.5s", 1.5, "1.5s"), ("-1m", -60, "-1m0s"),
     ("0", 0, "0s"), ("100us", 0.0001, "100µs"), ("36h", 129600, "36h0m0s")],
)  # fmt: skip
def test_durations_of_go(text, seconds, form):
    assert parse_duration(text) == pytest.approx(seconds)
    assert format_duration(parse_duration(text)) == form


@pytest.mark.parametrize(
    ("text", "message"),
    [("", 'time: invalid duration ""'), ("1", 'time: missing unit in duration "1"'),
     ("1d", 'time: unknown unit "d" in duration "1d"'), ("x", 'time: invalid duration "x"')],
)  # fmt: skip
def test_what_is_no_duration_is_refused_in_gos_words(text, message):
    with pytest.raises(ValueError, match="time:") as error:
        parse_duration(text)
    assert str(error.value) == message


def test_a_table_has_a_row_an_object_and_carries_what_was_asked_for():
    obj = {"kind": "X", "metadata": {"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {"s": 1}}
    made = tables.table(tables.default_columns(), [obj], tables.default_cells, list_meta={"resourceVersion": "7"})
    assert made["metadata"] == {"resourceVersion": "7"} and made["rows"][0]["cells"] == ["a", "2020-01-01T00:00:00Z"]
    assert made["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"],
    }  # fmt: skip
    whole = tables.table([], [obj], lambda o: [], include_object="Object")
    assert whole["rows"][0]["object"] is obj
    assert "object" not in tables.table([], [obj], lambda o: [], include_object="None")["rows"][0]


def test_age_of_an_object():
    assert tables.age("1970-01-01T00:00:00Z", 125) == "2m5s"
    assert tables.age(None) == "<unknown>"
