"""Lines near capacity are named with what is known, and a forecast only where enough is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import UNITS_MAX, Catalogue, Line, Model, Reset
from gateway.core.reports_capacity import (
    WINDOW_DAYS,
    NearCapacity,
    Recent,
    fullest_first,
    near_capacity,
    window,
)

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 16, tzinfo=PARIS)  # a Monday, half of November to go
LONG_AGO = datetime(2020, 1, 1, tzinfo=PARIS)
BASE = Line(
    id="L1",
    feature="sessions",
    version="1",
    model=Model.METERED,
    count=1_000,
    capacity=1_000,
    reset=Reset.MONTHLY,
    reset_timezone="Europe/Paris",
)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def days(units: int, every: int = 1, count: int = WINDOW_DAYS) -> Recent:
    """Use `units` on every so-many-th of the last whole days."""
    last = window(NOW.date()).last
    found = {str(last - timedelta(days=n)): units for n in range(0, count, every)}
    return Recent(found)


def judge(
    *lines: Line,
    used: int,
    recent: Recent | None = None,
    since: datetime = LONG_AGO,
    at: datetime = NOW,
) -> list[NearCapacity]:
    index = CatalogueIndex(Catalogue(id="DEMO", timezone="Europe/Paris", lines=lines))
    label = {Reset.MONTHLY: "m20261101", Reset.NONE: "0", Reset.DAILY: "d20261116"}
    keys = {
        f"{x.id}|{label[x.reset]}" + (f".{x.reset_epoch}" if x.reset_epoch else ""): used
        for x in lines
    }
    of_lines = {x.id: recent for x in lines} if recent else {}
    return near_capacity(index, lines, keys, of_lines, since_ms=ms(since), now_ms=ms(at))


@pytest.mark.parametrize(
    ("used", "level"),
    [(0, None), (799, None), (800, 80), (949, 80), (950, 95), (999, 95), (1_000, 100)],
)
def test_levels_begin_exactly_where_they_say(used: int, level: int | None) -> None:
    found = judge(BASE, used=used)
    assert [near.level for near in found] == ([] if level is None else [level])


def test_a_forecast_goes_on_as_the_last_four_weeks_did() -> None:
    (near,) = judge(BASE, used=850, recent=days(10))
    assert (near.per_day, near.forecast) == (10, 850 + 15 * 10)
    assert (near.until, near.full_on, near.why) == ("2026-11-30T23:00:00.000Z", None, "")
    (near,) = judge(BASE, used=850, recent=days(20))
    assert (near.forecast, near.full_on) == (850 + 15 * 20, "2026-11-23")


def test_a_line_that_will_be_full_is_named_before_it_is_near() -> None:
    (near,) = judge(BASE, used=400, recent=days(50))
    assert (near.percent, near.level, near.forecast) == (40, 0, 400 + 15 * 50)
    assert near.full_on == "2026-11-28"
    assert judge(BASE, used=400, recent=days(39)) == []


@pytest.mark.parametrize("shift", range(7))
def test_weekly_posts_are_not_taken_for_growth(shift: int) -> None:
    """On whatever weekday one asks, four posts are in the window."""
    at = NOW + timedelta(days=shift)
    mondays = [date(2026, 11, 16) - timedelta(weeks=n) for n in range(9)]
    inside = window(at.date())
    posts = Recent({str(day): 70 for day in mondays if inside.first <= day <= inside.last})
    (near,) = judge(BASE, used=900, recent=posts, at=at)
    assert near.per_day == 10


@pytest.mark.parametrize(
    ("since_days", "recent", "why"),
    [
        (0, days(10, count=1), "too little data: 0 whole days, 14 needed"),
        (13, days(10, count=13), "too little data: 13 whole days, 14 needed"),
        (100, days(10, every=28), "too little data: used on fewer than 2 of 28 days"),
        (100, Recent({}), "too little data: used on fewer than 2 of 28 days"),
        (
            100,
            Recent({"2026-11-10": 5, "2026-11-11": 5, "2026-11-12": -10}),
            "nothing is used, net of what was undone",
        ),
    ],
)
def test_too_little_data_is_said_and_nothing_made_of_it(
    since_days: int, recent: Recent, why: str
) -> None:
    since = NOW - timedelta(days=since_days)
    (near,) = judge(BASE, used=900, recent=recent, since=since)
    assert (near.why, near.forecast, near.full_on, near.per_day) == (why, None, None, None)
    assert near.level == 80


def test_a_young_line_is_judged_by_its_own_days() -> None:
    starts = ms(NOW - timedelta(days=20))
    (near,) = judge(replace(BASE, starts_ms=starts), used=900, recent=days(10, count=20))
    assert near.per_day == 10
    assert judge(replace(BASE, starts_ms=ms(NOW) + 1), used=900, recent=days(10)) == []


def test_without_a_reset_the_end_is_the_expiry_or_none() -> None:
    line = replace(BASE, reset=Reset.NONE)
    (near,) = judge(line, used=900, recent=days(10))
    assert (near.until, near.forecast, near.full_on) == (None, None, "2026-11-26")
    expires = ms(NOW + timedelta(days=5))
    (near,) = judge(replace(line, expires_ms=expires), used=900, recent=days(10))
    assert (near.forecast, near.full_on) == (950, None)
    assert judge(replace(line, expires_ms=ms(NOW)), used=900) == []


def test_a_reset_in_another_period_of_the_line_is_followed() -> None:
    (near,) = judge(replace(BASE, reset_epoch=7), used=900)
    assert near.used == 900
    (near,) = judge(replace(BASE, reset=Reset.DAILY), used=900, recent=days(2_400))
    assert near.forecast == 900 + 2_400
    assert near.until == "2026-11-16T23:00:00.000Z"


def test_seats_are_told_by_their_peak_and_without_a_trend() -> None:
    line = replace(BASE, model=Model.CONCURRENT, reset=Reset.NONE, capacity=10)
    (near,) = judge(line, used=2, recent=Recent({}, peak=9))
    assert (near.used, near.peak, near.percent, near.level) == (2, 9, 90, 80)
    assert near.forecast is None
    assert "no trend" in near.why
    assert judge(line, used=2, recent=Recent({}, peak=7)) == []
    (near,) = judge(replace(line, model=Model.METERED_REUSABLE), used=8)
    assert (near.peak, near.level, near.forecast) == (None, 80, None)


@pytest.mark.parametrize(
    "changes", [{"retired": True}, {"capacity": UNITS_MAX}, {"capacity": 0}], ids=str
)
def test_lines_without_a_limit_or_out_of_force_are_left_out(changes: Mapping[str, Any]) -> None:
    assert judge(replace(BASE, **changes), used=5_000, recent=days(100)) == []


def test_the_fullest_comes_first_and_then_by_name() -> None:
    small = replace(BASE, id="L2", feature="users", capacity=900)
    same = replace(BASE, id="L0")
    found = sorted(judge(BASE, small, same, used=860), key=fullest_first)
    assert [near.line for near in found] == ["L2", "L0", "L1"]


@pytest.mark.parametrize(
    ("recorded_days", "per_day", "forecast"),
    [(5, None, None), (13, None, None), (14, 170, 850 + 15 * 170), (28, 170, 850 + 15 * 170)],
)
def test_a_line_is_judged_from_its_first_record_on(
    recorded_days: int, per_day: int | None, forecast: int | None
) -> None:
    """However old its instance is, and when nothing says when the line starts."""
    first = NOW.date() - timedelta(days=recorded_days)
    units = days(170, count=recorded_days).units
    (near,) = judge(BASE, used=850, recent=Recent(units, since=first))
    assert (near.per_day, near.forecast) == (per_day, forecast)
    why = f"too little data: {recorded_days} whole days, 14 needed"
    assert near.why == ("" if per_day else why)


def test_a_line_first_used_today_has_no_whole_day() -> None:
    (near,) = judge(BASE, used=850, recent=Recent({}, since=NOW.date()))
    assert near.why == "too little data: 0 whole days, 14 needed"


def test_what_is_not_whole_is_rounded_down() -> None:
    """10 units in 28 days; in the 15 that are left 5.36 more."""
    (near,) = judge(BASE, used=850, recent=days(1, every=3))
    assert (near.per_day, near.forecast, near.percent) == (0, 855, 85)
    (near,) = judge(BASE, used=850, recent=days(3, every=1, count=19))  # 57: 30.5 more
    assert (near.per_day, near.forecast) == (2, 880)
    assert [near.percent for near in judge(BASE, used=999)] == [99]
