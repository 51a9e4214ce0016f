"""Named periods, what they are compared with, and labels: every day in exactly one of each."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.reports_asked import UNITS, View, check_kept, read_asked, read_grouping
from gateway.core.reports_periods import (
    RANGE_DAYS_MAX,
    Days,
    Period,
    Unit,
    days_before,
    first_day,
    label_of,
    named_before,
    named_days,
    read_days,
)

DAY = timedelta(days=1)
TODAY = date(2026, 11, 22)  # a Sunday
days = st.dates(date(1971, 1, 1), date(2090, 12, 31))
untimed = settings(deadline=None)


def span(first: str, last: str) -> Days:
    return Days(date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    ("period", "is_", "before"),
    [
        ("today", ("2026-11-22", "2026-11-22"), ("2026-11-21", "2026-11-21")),
        ("yesterday", ("2026-11-21", "2026-11-21"), ("2026-11-20", "2026-11-20")),
        ("this-week", ("2026-11-16", "2026-11-22"), ("2026-11-09", "2026-11-15")),
        ("last-week", ("2026-11-09", "2026-11-15"), ("2026-11-02", "2026-11-08")),
        ("month-to-date", ("2026-11-01", "2026-11-22"), ("2026-10-01", "2026-10-22")),
        ("last-month", ("2026-10-01", "2026-10-31"), ("2026-09-01", "2026-09-30")),
        ("quarter-to-date", ("2026-10-01", "2026-11-22"), ("2026-07-01", "2026-08-22")),
        ("last-quarter", ("2026-07-01", "2026-09-30"), ("2026-04-01", "2026-06-30")),
        ("year-to-date", ("2026-01-01", "2026-11-22"), ("2025-01-01", "2025-11-22")),
        ("last-year", ("2025-01-01", "2025-12-31"), ("2024-01-01", "2024-12-31")),
    ],
)
def test_each_period_is_what_its_name_says(
    period: str, is_: tuple[str, str], before: tuple[str, str]
) -> None:
    assert named_days(Period(period), TODAY) == span(*is_)
    assert named_before(Period(period), TODAY) == span(*before)


@pytest.mark.parametrize(
    ("today", "period", "before"),
    [
        ("2026-03-31", Period.MONTH_TO_DATE, ("2026-02-01", "2026-02-28")),
        ("2024-03-30", Period.MONTH_TO_DATE, ("2024-02-01", "2024-02-29")),
        ("2024-02-29", Period.YEAR_TO_DATE, ("2023-01-01", "2023-02-28")),
        ("2026-05-31", Period.QUARTER_TO_DATE, ("2026-01-01", "2026-02-28")),
        ("2026-01-01", Period.YEAR_TO_DATE, ("2025-01-01", "2025-01-01")),
        ("2026-01-01", Period.THIS_WEEK, ("2025-12-22", "2025-12-25")),
    ],
)
def test_a_period_half_over_is_compared_up_to_the_same_place(
    today: str, period: Period, before: tuple[str, str]
) -> None:
    assert named_before(period, date.fromisoformat(today)) == span(*before)


@given(days, st.sampled_from(Period))
@untimed
def test_periods_end_where_the_next_ones_begin(today: date, period: Period) -> None:
    now, before = named_days(period, today), named_before(period, today)
    assert now.first <= now.last <= today
    assert before.first <= before.last < now.first
    if period.startswith(("last-", "yesterday")):
        assert before.last + DAY == now.first
        assert named_days(period, now.last) == before
    else:
        assert now.last == today


@given(days, st.sampled_from(UNITS))
@untimed
def test_a_label_changes_exactly_where_its_unit_begins(day: date, unit: Unit) -> None:
    for one, two in pairwise(day + n * DAY for n in range(-100, 100)):
        assert (label_of(unit, one) != label_of(unit, two)) == (first_day(unit, two) == two)
        assert label_of(unit, one) <= label_of(unit, two)


@pytest.mark.parametrize(
    ("day", "unit", "label"),
    [
        ("2026-11-22", "day", "2026-11-22"),
        ("2026-11-22", "week", "2026-W47"),
        ("2027-01-03", "week", "2026-W53"),
        ("2024-12-30", "week", "2025-W01"),
        ("2026-11-22", "month", "2026-11"),
        ("2026-12-31", "quarter", "2026-Q4"),
        ("2026-01-01", "quarter", "2026-Q1"),
    ],
)
def test_labels_are_spelt_as_told(day: str, unit: str, label: str) -> None:
    assert label_of(Unit(unit), date.fromisoformat(day)) == label


def test_a_range_is_compared_with_as_many_days_before() -> None:
    assert days_before(span("2026-03-01", "2026-03-10")) == span("2026-02-19", "2026-02-28")
    with pytest.raises(BadRequest):
        days_before(span("1900-01-05", "1900-02-10"))


@given(days, st.integers(0, 800))
@untimed
def test_months_of_a_range_are_those_of_its_days(first: date, more: int) -> None:
    range_ = Days(first, first + more * DAY)
    assert range_.months == sorted({day.year * 100 + day.month for day in range_})
    assert len(list(range_)) == len(range_) == more + 1


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"period": ["next-week"]}, "period"),
        ({"period": ["today", "today"]}, "period"),
        ({"period": ["today"], "from": ["2026-01-01"], "to": ["2026-01-01"]}, "period"),
        ({"from": ["2026-01-01"]}, "to"),
        ({"to": ["2026-01-01"]}, "from"),
        ({"from": ["20260101"], "to": ["2026-01-02"]}, "from"),
        ({"from": ["2026-01-01"], "to": ["2026-02-30"]}, "to"),
        ({"from": ["2026-01-02"], "to": ["2026-01-01"]}, "to"),
        ({"from": ["1899-12-31"], "to": ["1900-01-01"]}, "from"),
        ({"from": ["2000-01-01"], "to": ["2026-01-01"]}, "from"),
        ({"by": ["year"]}, "by"),
        ({"by": ["day,week"]}, "by"),
        ({"by": ["feature,line"]}, "by"),
        ({"by": ["code,code"]}, "by"),
        ({"by": [","]}, "by"),
        ({"compare": ["yes"]}, "compare"),
        ({"feature": [f"f{n}" for n in range(65)]}, "feature"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(members: dict[str, list[str]], named: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read_asked(View.USAGE, members)
    assert raised.value.arguments == (named,)


def test_ten_years_of_days_can_be_asked_for() -> None:
    assert len(read_days("2016-01-01", "2026-01-07")) == RANGE_DAYS_MAX
    with pytest.raises(BadRequest, match="at most 3660 days"):
        read_days("2016-01-01", "2026-01-08")


def test_columns_are_those_that_the_grouping_does_not_leave_open() -> None:
    counts = ("units", "undone", "peak", "denied")
    expected = {
        "feature": ("feature", *counts),
        "line": ("feature", "line", *counts),
        "month": ("label", *counts),
        "line,week": ("label", "feature", "line", *counts),
        "feature,code": ("feature", "code", "denied"),
    }
    for by, columns in expected.items():
        assert read_asked(View.USAGE, {"by": [by]}).columns == columns
    assert read_asked(View.PEAKS, {}).columns == ("label", "feature", "line", "peak")
    assert read_asked(View.DENIALS, {}).columns == ("label", "feature", "code", "denied")


@pytest.mark.parametrize(
    ("days_", "by", "named"),
    [
        (span("2025-06-01", "2025-07-31"), "day", "by"),
        (span("2025-06-01", "2025-07-31"), "week,line", "by"),
        (span("2025-06-02", "2025-12-31"), "month", "from"),
        (span("2025-05-01", "2025-06-29"), "line", "to"),
        (span("2025-06-01", "2025-07-31"), "month", None),
        (span("2025-05-01", "2025-06-30"), "quarter", None),
        (span("2025-06-01", "2025-07-12"), "feature", None),
        (span("2025-07-01", "2025-07-12"), "day", None),
    ],
)
def test_days_that_are_kept_as_months_are_told_by_months_only(
    days_: Days, by: str, named: str | None
) -> None:
    grouping = read_grouping(View.USAGE, by)
    check_kept(days_, grouping, 0)
    if named is None:
        check_kept(days_, grouping, 202506)
        return
    with pytest.raises(BadRequest, match="days are kept from 2025-07-01 on") as raised:
        check_kept(days_, grouping, 202506)
    assert raised.value.arguments == (named,)
