"""Every moment is in one day and one period, in every zone, whatever its clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import InvalidInput
from gateway.core.model import Reset
from gateway.core.periods import (
    DATE_MAX,
    DATE_MIN,
    DAYS_MAX,
    day_number,
    days_between,
    expires_ms,
    hour_of,
    local_day,
    midnight_ms,
    reset_periods,
    starts_ms,
    zone,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ONE_DAY = timedelta(days=1)

untimed = settings(deadline=None)  # a busy machine is no failure

# Zones, and for each a moment near which properties look closely.
ZONES = {
    "UTC": "2024-02-29T00:00Z",
    "Europe/Paris": "2025-12-31T23:00Z",
    "America/New_York": "2026-03-08T07:00Z",
    "America/Sao_Paulo": "2018-11-04T03:00Z",  # clocks jump over midnight
    "America/St_Johns": "2009-11-01T02:31Z",  # they are put back at 00:01, to the day before
    "America/Havana": "2024-11-03T05:00Z",  # they show midnight twice
    "Asia/Kolkata": "2024-02-28T18:30Z",
    "Australia/Lord_Howe": "2026-04-04T15:00Z",  # they move by half an hour
    "Pacific/Kiritimati": "1994-12-31T10:00Z",  # 12-31 is left out
    "Pacific/Apia": "2011-12-30T10:00Z",  # 12-30 is left out
    "Africa/Cairo": "2024-04-25T22:00Z",
}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%MZ")


zones = st.sampled_from(sorted(ZONES)).map(zone)
days = st.dates(date(1971, 1, 1), date(2090, 12, 31))
moments = st.one_of(
    st.integers(ms("1971-01-01T00:00Z"), ms("2090-12-31T00:00Z")),
    st.builds(
        lambda text, off_s: ms(text) + off_s * 1_000,
        st.sampled_from(sorted(ZONES.values())),
        st.integers(-90_000, 90_000),
    ),
)
resets = st.sampled_from([Reset.DAILY, Reset.WEEKLY, Reset.MONTHLY, Reset.ANNUALLY])


@pytest.mark.parametrize(
    ("name", "day", "first_moment"),
    [
        ("UTC", date(2026, 11, 22), "2026-11-22T00:00Z"),
        ("Europe/Paris", date(2026, 11, 22), "2026-11-21T23:00Z"),
        ("Europe/Paris", date(2026, 7, 1), "2026-06-30T22:00Z"),
        ("Asia/Kolkata", date(2026, 11, 22), "2026-11-21T18:30Z"),
        ("Pacific/Kiritimati", date(2026, 11, 22), "2026-11-21T10:00Z"),
        ("Etc/GMT+12", date(2026, 11, 22), "2026-11-22T12:00Z"),
    ],
)
def test_day_begins_at_its_midnight(name: str, day: date, first_moment: str) -> None:
    assert iso(midnight_ms(day, zone(name))) == first_moment


@pytest.mark.parametrize(
    ("name", "day", "first_moment"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00Z"),  # begins at 01:00
        ("Asia/Beirut", date(2022, 3, 27), "2022-03-26T22:00Z"),
        ("Africa/Cairo", date(2024, 4, 26), "2024-04-25T22:00Z"),
        ("America/Toronto", date(1919, 3, 31), "1919-03-31T04:30Z"),  # 23:30 is followed by 00:30
    ],
)
def test_day_without_midnight_begins_where_clocks_jump(
    name: str, day: date, first_moment: str
) -> None:
    tz = zone(name)
    begins_ms = midnight_ms(day, tz)
    assert iso(begins_ms) == first_moment
    assert local_day(begins_ms, tz) == day
    assert local_day(begins_ms - 1, tz) == day - ONE_DAY


def test_day_with_two_midnights_begins_at_the_first() -> None:
    havana = zone("America/Havana")
    begins_ms = midnight_ms(date(2024, 11, 3), havana)
    assert iso(begins_ms) == "2024-11-03T04:00Z"
    assert midnight_ms(date(2024, 11, 4), havana) - begins_ms == 25 * HOUR_MS


def test_day_that_has_begun_goes_on_while_the_clock_shows_the_one_before_again() -> None:
    st_johns = zone("America/St_Johns")
    begins_ms = midnight_ms(date(2009, 11, 1), st_johns)
    assert iso(begins_ms) == "2009-11-01T02:30Z"  # a minute later it is 23:01 of 10-31 once more
    shown = datetime.fromtimestamp(begins_ms // 1_000 + 600, st_johns)
    assert shown.date() == date(2009, 10, 31)
    assert local_day(begins_ms + 600_000, st_johns) == date(2009, 11, 1)
    assert local_day(begins_ms - 1, st_johns) == date(2009, 10, 31)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("Pacific/Apia", date(2011, 12, 30)),
        ("Pacific/Kiritimati", date(1994, 12, 31)),
    ],
)
def test_day_that_a_zone_left_out_is_empty_and_in_no_table(name: str, left_out: date) -> None:
    tz = zone(name)
    begins_ms = midnight_ms(left_out, tz)
    day_before, day_after = left_out - ONE_DAY, left_out + ONE_DAY
    assert midnight_ms(day_after, tz) == begins_ms
    assert starts_ms(left_out, tz) == expires_ms(left_out, tz) == begins_ms
    assert local_day(begins_ms - 1, tz) == day_before
    assert local_day(begins_ms, tz) == day_after
    # As the end of a table, in the middle of one and as its beginning.
    for at_ms in (begins_ms - 1, begins_ms, begins_ms + DAY_MS):
        around = reset_periods(Reset.DAILY, tz, at_ms)
        assert len(around) == 4
        assert f"d{day_number(left_out)}" not in [label for _, label in around]
    assert days_between(begins_ms - 1, begins_ms - 1, tz) == [
        (begins_ms - DAY_MS, day_number(day_before)),
        (begins_ms, day_number(day_after)),
    ]


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Paris", date(2026, 3, 29), 23),
        ("Europe/Paris", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("Africa/Cairo", date(2024, 4, 26), 23),
        ("Africa/Cairo", date(2024, 10, 31), 25),
        ("UTC", date(2016, 12, 31), 24),  # leap seconds are nobody's
    ],
)
def test_day_is_as_long_as_the_clocks_there_make_it(name: str, day: date, hours: float) -> None:
    tz = zone(name)
    assert expires_ms(day, tz) - starts_ms(day, tz) == hours * HOUR_MS


def test_date_without_time_starts_a_line_before_that_day_and_expires_it_after() -> None:
    paris = zone("Europe/Paris")
    assert iso(starts_ms(date(2026, 1, 1), paris)) == "2025-12-31T23:00Z"
    assert iso(expires_ms(date(2026, 12, 31), paris)) == "2026-12-31T23:00Z"
    assert iso(expires_ms(date(2028, 2, 28), paris)) == "2028-02-28T23:00Z"  # a leap day follows


@pytest.mark.parametrize("day", [date.min, DATE_MIN - ONE_DAY, DATE_MAX + ONE_DAY, date.max])
def test_date_that_no_answer_could_spell_is_refused(day: date) -> None:
    for refuse in (starts_ms, expires_ms):
        with pytest.raises(InvalidInput, match=day.isoformat()):
            refuse(day, zone("UTC"))


@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Amsterdam"])
def test_first_and_last_date_are_taken_in_every_zone(name: str) -> None:
    assert starts_ms(DATE_MIN, zone(name)) < expires_ms(DATE_MIN, zone(name))
    assert expires_ms(DATE_MAX, zone(name)) < ms("9999-12-31T23:59Z")


PATHS = ["", ".", "..", "/etc/passwd", "../UTC", "Europe/../UTC", "Europe/", "Europe//Paris"]
NO_ZONES = [
    "Europe",
    "Europe/paris",
    "Mars/Olympus",
    "zone.tab",
    "leapseconds",
    "a/b/c/d",
    "Zürich",
]
MACHINE_DEPENDENT = ["localtime", "posixrules", "right/UTC"]
HOSTILE = ["Europe/Paris\n", "UTC\0", "x" * 100_000]


@pytest.mark.parametrize("name", PATHS + NO_ZONES + MACHINE_DEPENDENT + HOSTILE)
def test_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        zone(name)
    assert refusal.value.problems == (f"unknown time zone {name[:64]!r}",)


@pytest.mark.parametrize(
    ("at_ms", "hour"),
    [(0, 0), (HOUR_MS - 1, 0), (HOUR_MS, 1), (ms("2026-11-22T06:59Z"), 498_702)],
)
def test_hour_is_counted_from_the_epoch(at_ms: int, hour: int) -> None:
    assert hour_of(at_ms) == hour


def test_days_of_a_span_are_listed_to_the_one_after_it() -> None:
    table = days_between(ms("2026-10-24T12:00Z"), ms("2026-10-26T12:00Z"), zone("Europe/Paris"))
    assert [(iso(start_ms), number) for start_ms, number in table] == [
        ("2026-10-23T22:00Z", 20261024),
        ("2026-10-24T22:00Z", 20261025),
        ("2026-10-25T23:00Z", 20261026),
        ("2026-10-26T23:00Z", 20261027),
    ]


@pytest.mark.parametrize("span_ms", [-1, DAYS_MAX * DAY_MS + 1])
def test_span_reversed_or_over_a_century_is_refused(span_ms: int) -> None:
    with pytest.raises(ValueError, match="span"):
        days_between(0, span_ms, zone("UTC"))


@pytest.mark.parametrize(
    ("reset", "day", "labels"),
    [
        (Reset.DAILY, "2026-11-22", "d20261121 d20261122 d20261123 d20261124"),
        (Reset.DAILY, "2028-02-29", "d20280228 d20280229 d20280301 d20280302"),
        # A Sunday belongs to the Monday before it; a week may lie over the year's end.
        (Reset.WEEKLY, "2026-11-22", "w20261109 w20261116 w20261123 w20261130"),
        (Reset.WEEKLY, "2027-01-01", "w20261221 w20261228 w20270104 w20270111"),
        (Reset.MONTHLY, "2026-11-22", "m20261001 m20261101 m20261201 m20270101"),
        (Reset.MONTHLY, "2027-01-31", "m20261201 m20270101 m20270201 m20270301"),
        (Reset.ANNUALLY, "2028-02-29", "a20270101 a20280101 a20290101 a20300101"),
    ],
)
def test_periods_are_labelled_by_their_first_day(reset: Reset, day: str, labels: str) -> None:
    periods = reset_periods(reset, zone("UTC"), ms(f"{day}T12:00Z"))
    assert [label for _, label in periods] == labels.split()
    for start_ms, label in periods:
        assert iso(start_ms) == f"{label[1:5]}-{label[5:7]}-{label[7:]}T00:00Z"


def test_month_begins_at_local_midnight_of_its_first_day() -> None:
    table = reset_periods(Reset.MONTHLY, zone("America/New_York"), ms("2026-11-01T03:59Z"))
    assert [(iso(start_ms), label) for start_ms, label in table] == [
        ("2026-09-01T04:00Z", "m20260901"),
        ("2026-10-01T04:00Z", "m20261001"),
        ("2026-11-01T04:00Z", "m20261101"),
        ("2026-12-01T05:00Z", "m20261201"),
    ]


@pytest.mark.parametrize("at_ms", [0, ms("2026-11-22T12:00Z")])
def test_without_resets_there_is_one_period(at_ms: int) -> None:
    assert reset_periods(Reset.NONE, zone("Europe/Paris"), at_ms) == [(0, "0")]


@untimed
@given(zones, moments)
def test_every_moment_is_in_exactly_one_day(tz: ZoneInfo, at_ms: int) -> None:
    day = local_day(at_ms, tz)
    assert midnight_ms(day, tz) <= at_ms < midnight_ms(day + ONE_DAY, tz)


@untimed
@given(zones, days)
def test_boundary_of_two_days_belongs_to_the_later(tz: ZoneInfo, day: date) -> None:
    begins_ms, ends_ms = midnight_ms(day, tz), midnight_ms(day + ONE_DAY, tz)
    if begins_ms == ends_ms:  # left out
        return
    assert local_day(begins_ms, tz) == day
    assert local_day(begins_ms - 1, tz) < day
    assert local_day(ends_ms - 1, tz) == day


@untimed
@given(zones, days)
def test_day_begins_at_the_first_moment_that_shows_it(tz: ZoneInfo, day: date) -> None:
    begins_ms = midnight_ms(day, tz)
    assert datetime.fromtimestamp(begins_ms // 1_000, tz).date() >= day
    assert datetime.fromtimestamp(begins_ms // 1_000 - 1, tz).date() < day


@untimed
@given(zones, st.dates(date(1990, 1, 1), date(2090, 12, 31)))
def test_days_are_23_to_25_hours_long_or_left_out(tz: ZoneInfo, day: date) -> None:
    length_ms = expires_ms(day, tz) - starts_ms(day, tz)
    assert length_ms in {half_hours * HOUR_MS // 2 for half_hours in (0, 46, 47, 48, 49, 50)}


@untimed
@given(zones, moments, st.integers(0, 40 * DAY_MS))
def test_table_of_days_covers_its_span_without_holes(
    tz: ZoneInfo, from_ms: int, span_ms: int
) -> None:
    to_ms = from_ms + span_ms
    table = days_between(from_ms, to_ms, tz)
    assert table[0][0] <= from_ms < table[1][0]
    assert table[-2][0] <= to_ms < table[-1][0]
    for (start_ms, number), (end_ms, following) in pairwise(table):
        assert start_ms < end_ms
        assert number < following
        assert number == day_number(local_day(start_ms, tz))
        assert number == day_number(local_day(end_ms - 1, tz))


@untimed
@given(zones, moments, resets, st.integers(0, 3), st.integers(1, 4))
def test_every_moment_is_in_exactly_one_period(
    tz: ZoneInfo, at_ms: int, reset: Reset, before: int, after: int
) -> None:
    table = reset_periods(reset, tz, at_ms, before, after)
    starts = [start_ms for start_ms, _ in table]
    labels = [label for _, label in table]
    assert len(table) == before + 1 + after
    assert starts[before] <= at_ms < starts[before + 1]
    assert starts == sorted(set(starts))
    assert labels == sorted(set(labels))


@untimed
@given(zones, moments, resets)
def test_tables_made_at_different_moments_agree(tz: ZoneInfo, at_ms: int, reset: Reset) -> None:
    previous, current, following, end = reset_periods(reset, tz, at_ms)
    # On the boundary it is already the later period, a moment before it still the earlier one.
    assert reset_periods(reset, tz, current[0])[:3] == [previous, current, following]
    assert reset_periods(reset, tz, following[0] - 1)[:3] == [previous, current, following]
    assert reset_periods(reset, tz, following[0])[:3] == [current, following, end]


@untimed
@given(zones, moments)
def test_daily_periods_are_the_local_days(tz: ZoneInfo, at_ms: int) -> None:
    current, following = reset_periods(Reset.DAILY, tz, at_ms, before=0, after=1)
    assert days_between(at_ms, at_ms, tz) == [
        (current[0], int(current[1][1:])),
        (following[0], int(following[1][1:])),
    ]
