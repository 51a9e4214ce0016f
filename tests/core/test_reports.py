"""A report is what a journal of two years adds up to, in every zone and grouping, folded or not."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.reports import Fold
from gateway.core.reports_asked import Asked, View, read_asked
from gateway.core.reports_periods import Days, Period, Unit, label_of, named_before, named_days
from tests.core.reports_journal import (
    FEATURE,
    LINES,
    Journal,
    folded,
    journal,
    lines_of,
    report,
)

ZONES = (
    "Europe/Paris",
    "Asia/Kolkata",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
)
FIRST, LAST = date(2024, 12, 15), date(2026, 12, 20)
SEATS = {"C1", "C2", "C3"}
TODAYS = (date(2025, 3, 31), date(2026, 1, 1), date(2026, 11, 22), LAST)


@cache
def told(name: str) -> Journal:
    return journal(ZoneInfo(name), FIRST, LAST, name)


def asked(by: str, *features: str, view: View = View.USAGE) -> Asked:
    return read_asked(view, {"by": [by], "feature": features})


def check(made: Journal, one: Asked, days: Days, today: date, last_folded: int = 0) -> None:
    """Hold each row, and the total, against the journal; and that no row is missing."""
    record = folded(made.months(), last_folded)
    rows, total = report(one, days, today, record, last_folded)
    places: dict[str, list[date]] = defaultdict(list)
    for day in days:
        places[label_of(one.by.unit, day) if one.by.unit else ""].append(day)
    labels = list(places)
    seen = set()
    for row in rows:
        assert labels[row.place] == row.label
        of_row = Days(places[row.label][0], min(places[row.label][-1], today))
        expected = made.sums(of_row, lines_of(row, one), row.code)
        if one.by.code:
            assert row.sums.denied == expected.denied
        else:
            counts = (row.sums.units, row.sums.undone, row.sums.denied)
            assert counts == (expected.units, expected.undone, expected.denied)
            assert row.sums.least <= expected.most <= row.sums.most
            if len(SEATS.intersection(lines_of(row, one))) < 2:
                assert row.sums.peak == expected.most
        seen.add((row.label, row.feature, row.line, row.code))
    everything = [name for name, of in FEATURE.items() if not one.features or of in one.features]
    whole = made.sums(Days(days.first, min(days.last, today)), everything)
    assert total.denied == whole.denied
    if not one.by.code:
        assert (total.units, total.undone) == (whole.units, whole.undone)
        assert total.least <= whole.most <= total.most
    assert len(seen) == len(rows)
    if one.by.unit and not one.by.thing and not one.by.code:
        assert [row.label for row in rows] == labels


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("today", TODAYS)
def test_named_periods_are_what_the_journal_adds_up_to(name: str, today: date) -> None:
    for period in Period:
        for days in (named_days(period, today), named_before(period, today)):
            check(told(name), asked("feature"), days, today)


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(
    "by", ["day", "week", "month", "quarter", "line", "month,line", "week,feature", "code"]
)
def test_groupings_are_what_the_journal_adds_up_to(name: str, by: str) -> None:
    check(told(name), asked(by), Days(date(2025, 2, 11), date(2025, 11, 9)), LAST)


@pytest.mark.parametrize("by", ["month,feature,code", "quarter", "line", "month,line"])
@pytest.mark.parametrize("last_folded", [202412, 202506, 202510])
def test_folded_months_change_no_sum(by: str, last_folded: int) -> None:
    days = Days(date(2025, 1, 1), date(2026, 10, 31))
    for name in ("Europe/Paris", "Australia/Lord_Howe"):
        check(told(name), asked(by), days, LAST, last_folded)


def test_a_month_half_folded_changes_no_sum() -> None:
    """Some lines of the month are folded, the others are not yet."""
    made = told("Europe/Paris")
    record = made.months()
    whole = folded(record, 202503)[202503]
    moved = {b"M1", b"C1"}
    record[202503] = {
        **{name: n for name, n in record[202503].items() if name.split(b"|")[0] not in moved},
        **{name: n for name, n in whole.items() if name.split(b"|")[0] in moved},
    }
    days = Days(date(2025, 1, 1), date(2025, 6, 30))
    for by in ("month,line", "line", "quarter"):
        found = report(asked(by), days, LAST, record, 202503)
        assert found == report(asked(by), days, LAST, folded(made.months(), 202503), 202503)


def test_days_sum_up_to_weeks_months_and_quarters() -> None:
    """Whatever the grouping, the same units: nothing is lost between two buckets."""
    made = told("America/New_York")
    days = Days(date(2025, 1, 1), date(2026, 6, 30))
    sums = set()
    for by in ("day", "week", "month", "quarter", "feature", "line", "day,line"):
        rows, total = report(asked(by), days, LAST, made.months(), 0)
        sums.add((sum(row.sums.units for row in rows), total.units, total.undone, total.denied))
    assert len(sums) == 1


# Where days, weeks, months, quarters and years end, and days on which clocks change.
EDGES = [
    *(date(2025, month, 1) for month in range(1, 13)),
    *(date(2024, 12, 30), date(2026, 1, 1), date(2025, 6, 30), date(2025, 7, 1)),
    *(date(2025, 3, 9), date(2025, 11, 2), date(2026, 3, 8), date(2026, 11, 1)),  # New York
    *(date(2025, 3, 30), date(2025, 10, 26), date(2026, 3, 29), date(2026, 10, 25)),  # Paris
    *(date(2025, 4, 6), date(2025, 10, 5), date(2026, 4, 5), date(2026, 10, 4)),  # Lord Howe
]
near_edges = st.builds(
    lambda day, off: min(max(day + timedelta(days=off), FIRST), LAST),
    st.sampled_from(EDGES),
    st.integers(-2, 2),
)
groupings = st.sampled_from(["day", "week", "month", "quarter", "feature", "line", "week,line"])


@given(st.sampled_from(ZONES), near_edges, near_edges, groupings)
@settings(deadline=None, max_examples=60)
def test_ranges_that_end_at_boundaries_lose_nothing_and_count_nothing_twice(
    name: str, one: date, other: date, by: str
) -> None:
    check(told(name), asked(by), Days(min(one, other), max(one, other)), LAST)


@given(st.sampled_from(ZONES), near_edges, near_edges, near_edges)
@settings(deadline=None, max_examples=60)
def test_a_range_is_its_parts(name: str, one: date, two: date, three: date) -> None:
    """Cut anywhere, also on the day on which clocks change: the sums of the parts are the whole's,
    and its peak is the greatest of theirs.
    """
    first, middle, last = sorted((one, two, three))
    parts = [Days(first, middle)]
    if middle < last:
        parts.append(Days(middle + timedelta(days=1), last))
    record, of = told(name).months(), asked("line", "editor", "users")
    whole, *others = (report(of, days, LAST, record, 0)[1] for days in (Days(first, last), *parts))
    assert whole.units == sum(each.units for each in others)
    assert whole.undone == sum(each.undone for each in others)
    assert whole.denied == sum(each.denied for each in others)
    assert whole.peak == max(each.peak or 0 for each in others)


def test_seats_of_a_quiet_day_are_those_held_at_last() -> None:
    made = Journal(ZoneInfo("Europe/Paris"), date(2026, 1, 1), date(2026, 12, 31))
    made.hold(made.ms(date(2026, 2, 3)), "C1", 5)
    made.hold(made.ms(date(2026, 2, 4)) - 1, "C1", 2)
    made.hold(made.ms(date(2026, 5, 6)) + 1, "C1", 0)
    days = Days(date(2026, 2, 2), date(2026, 5, 8))
    rows, total = report(asked("day", "editor"), days, LAST, made.months(), 0)
    peaks = {row.label: row.sums.peak for row in rows}
    shown = [(before, after) for before, after in pairwise(peaks) if peaks[before] != peaks[after]]
    assert shown == [
        ("2026-02-02", "2026-02-03"),
        ("2026-02-03", "2026-02-04"),
        ("2026-05-06", "2026-05-07"),
    ]
    assert (peaks["2026-02-03"], peaks["2026-03-31"], peaks["2026-05-07"]) == (5, 2, 0)
    assert total.peak == 5


def test_seats_are_not_told_of_days_to_come() -> None:
    made = Journal(ZoneInfo("UTC"), date(2026, 1, 1), date(2026, 12, 31))
    made.hold(made.ms(date(2026, 2, 3)), "C1", 5)
    days = Days(date(2026, 2, 3), date(2026, 2, 5))
    rows, _ = report(asked("day"), days, date(2026, 2, 4), made.months(), 0)
    assert [row.sums.peak for row in rows] == [5, 5, 0]


def test_lines_that_took_turns_are_told_together_and_others_are_not_made_up() -> None:
    made = Journal(ZoneInfo("UTC"), date(2026, 1, 1), date(2026, 12, 31))
    made.hold(made.ms(date(2026, 2, 3)), "C2", 5)
    made.hold(made.ms(date(2026, 2, 4)) - 1, "C2", 0)
    made.hold(made.ms(date(2026, 2, 5)), "C3", 3)
    days = Days(date(2026, 2, 1), date(2026, 2, 28))
    (row,), total = report(asked("feature"), days, LAST, made.months(), 0)
    assert (row.feature, row.sums.peak, total.peak) == ("viewer", 5, 5)
    made.hold(made.ms(date(2026, 2, 6)), "C2", 4)
    (row,), total = report(asked("feature"), days, LAST, made.months(), 0)
    assert (row.sums.peak, row.sums.least, row.sums.most) == (None, 5, 7)
    assert (row.feature, row.peak) == ("viewer", None)
    by_line, _ = report(asked("line"), days, LAST, made.months(), 0)
    assert [(row.line, row.sums.peak) for row in by_line] == [("C2", 5), ("C3", 3)]


def test_a_feature_that_is_named_has_a_row_also_when_there_was_nothing() -> None:
    made = Journal(ZoneInfo("UTC"), date(2026, 1, 1), date(2026, 12, 31))
    made.use(made.ms(date(2026, 2, 3)), "M1", 7)
    days = Days(date(2026, 2, 1), date(2026, 2, 28))
    rows, _ = report(asked("feature", "sessions", "users"), days, LAST, made.months(), 0)
    assert [(row.feature, row.sums.units) for row in rows] == [("sessions", 7), ("users", 0)]
    rows, _ = report(asked("feature"), days, LAST, made.months(), 0)
    assert [row.feature for row in rows] == ["sessions"]
    rows, total = report(asked("month"), days, LAST, {}, 0)
    assert [(row.label, row.sums.units) for row in rows] == [("2026-02", 0)]
    assert (total.units, total.peak) == (0, 0)


def test_what_nobody_has_is_denied_under_no_line() -> None:
    made = Journal(ZoneInfo("UTC"), date(2026, 1, 1), date(2026, 12, 31))
    made.use(made.ms(date(2026, 2, 3)), "M1", 7)
    for line_id, code in (("", "FEATURE_NOT_FOUND"), ("M1", "LICENSE_LAPSED"), ("", "X")):
        made.deny(made.ms(date(2026, 2, 4)), line_id, code)
    days = Days(date(2026, 2, 1), date(2026, 2, 28))
    one = read_asked(View.DENIALS, {})
    rows, total = report(one, days, LAST, made.months(), 0)
    assert [tuple(getattr(row, name) for name in one.columns) for row in rows] == [
        ("2026-02-04", "", "FEATURE_NOT_FOUND", 1),
        ("2026-02-04", "", "X", 1),
        ("2026-02-04", "sessions", "LICENSE_LAPSED", 1),
    ]
    assert total.denied == 3
    one = read_asked(View.DENIALS, {"feature": ["sessions"], "by": ["code"]})
    rows, total = report(one, days, LAST, made.months(), 0)
    assert ([row.code for row in rows], total.denied) == (["LICENSE_LAPSED"], 1)


def test_retired_lines_stay_in_reports() -> None:
    made = told("Europe/Paris")
    assert [each.id for each in LINES if each.retired] == ["M3"]
    rows, _ = report(asked("line"), Days(FIRST, LAST), LAST, made.months(), 0)
    assert "M3" in {row.line for row in rows}


@pytest.mark.parametrize("unit", [Unit.WEEK, Unit.QUARTER])
def test_rows_come_in_order_and_as_soon_as_nothing_is_added_to_them(unit: Unit) -> None:
    """So that a long report need not be kept whole."""
    made = told("Europe/Paris")
    days = Days(date(2025, 1, 13), date(2026, 2, 20))
    one = asked(f"{unit},line")
    record = made.months()
    fold = Fold(one, days, LAST, LINES)
    order: list[tuple[int, str, str]] = []
    for month in days.months:
        fold.begin_month(month, folded=False)
        fold.take(record[month].items())
        rows = [row for of_place in fold.end_month() for row in of_place]
        order += [(row.place, row.feature, row.line) for row in rows]
        begun = {label_of(unit, day) for day in days if day.year * 100 + day.month > month}
        assert begun.isdisjoint(row.label for row in rows)
        waiting = label_of(unit, date(2026, 2, 20)) if month == 202602 else None
        assert waiting is None or waiting in {row.label for row in rows}
    assert order == sorted(order)
    assert len({place for place, *_ in order}) == len({label_of(unit, day) for day in days})
