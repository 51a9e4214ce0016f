"""What totals tell: of an attempt without an answer, of other servers, of a line's elsewhere."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.core.elsewhere import (
    OTHERS_MS,
    Found,
    Known,
    Total,
    decide,
    elsewhere,
    heard,
    units_before,
)
from gateway.core.model import Reset
from gateway.core.usage import Row

NOON_MS = 1_767_268_800_000  # 2026-01-01 12:00
DAY_MS = 86_400_000
MIDNIGHT_MS = NOON_MS + DAY_MS // 2
HOUR = NOON_MS // 3_600_000


def at(units: int, at_ms: int = NOON_MS, reset: Reset = Reset.DAILY) -> Total:
    return Total(units, at_ms, reset)


@pytest.mark.parametrize(
    ("before", "after", "units", "found"),
    [
        (at(29), at(34), 5, Found.APPLIED),
        (at(29), at(29), 5, Found.NOT_APPLIED),
        (at(29), at(30), 5, Found.AMBIGUOUS),
        (at(29), at(24), -5, Found.APPLIED),
        (at(29), at(5), 5, Found.AMBIGUOUS),  # an administrator's reset
        (at(29), at(5, NOON_MS + DAY_MS), 5, Found.APPLIED),
        (at(29), at(0, NOON_MS + DAY_MS), 5, Found.AMBIGUOUS),  # gone with it, or never there
        (at(29), at(34, NOON_MS + DAY_MS), 5, Found.AMBIGUOUS),
        (at(0), at(0, NOON_MS + DAY_MS), 5, Found.AMBIGUOUS),
        (at(29), at(34, NOON_MS + DAY_MS, Reset.NONE), 5, Found.APPLIED),
        (at(29), at(29, NOON_MS, Reset.MONTHLY), 5, Found.NOT_APPLIED),  # its rule was changed
        (at(29), at(34, NOON_MS, Reset.MONTHLY), 5, Found.APPLIED),
        (at(5), at(5, NOON_MS, Reset.NONE), 5, Found.AMBIGUOUS),  # never there, or reset before it
        (at(29, reset=Reset.NONE), at(29, NOON_MS + DAY_MS, Reset.NONE), 5, Found.NOT_APPLIED),
    ],
)
def test_an_attempt_is_decided_by_the_totals_around_it(
    before: Total, after: Total, units: int, found: Found
) -> None:
    assert decide(before, after, units) is found


@pytest.mark.parametrize("off_ms", [-60_000, -1, 0, 60_000])
def test_near_a_boundary_what_two_clocks_may_call_differently_is_ambiguous(off_ms: int) -> None:
    before = at(5, MIDNIGHT_MS - 600_000)
    after = MIDNIGHT_MS + off_ms
    assert decide(before, at(10, after), 5) is Found.APPLIED
    assert decide(before, at(5, after), 5) is Found.AMBIGUOUS
    assert decide(before, at(0, after), 5) is Found.AMBIGUOUS


def test_no_history_of_ours_is_decided_wrongly() -> None:
    """Whatever the sole writer did, in either period, a decision is right or there is none."""
    for start, units, applied, reset in product(range(-3, 9), (-2, 1, 5), (0, 1), (0, 1, 2)):
        total = start
        if reset == 1:
            total = 0  # before the attempt arrives
        total += units * applied
        if reset == 2:
            total = 0  # after it
        after = at(total, NOON_MS + (DAY_MS if reset else 1_000))
        right = Found.APPLIED if applied else Found.NOT_APPLIED
        assert decide(at(start), after, units) in (right, Found.AMBIGUOUS)
        # Nor where the rule was changed meanwhile, with or without a reset of the total.
        after = at(total, NOON_MS + 1_000, Reset.MONTHLY)
        assert decide(at(start), after, units) in (right, Found.AMBIGUOUS)


def test_a_total_that_moved_otherwise_was_moved_by_somebody_else() -> None:
    known = heard(None, at(0), 0, 1_000)
    assert known.others_ms == 0
    known = heard(known, at(7), 7, 2_000)
    assert (known.total, known.period, known.others_ms) == (7, "d20260101", 0)
    assert heard(known, at(7), 0, 3_000).others_ms == 0
    assert heard(known, at(8), 0, 3_000).others_ms == 3_000
    assert heard(known, at(14), 8, 3_000).others_ms == 3_000
    assert heard(known, at(2, NOON_MS + DAY_MS), 2, 3_000).others_ms == 0
    assert heard(known, at(3, NOON_MS + DAY_MS), 2, 3_000).others_ms == 3_000
    assert heard(None, at(5), 0, 3_000).others_ms == 3_000  # who used it before may go on


def test_what_others_consumed_in_one_period_is_not_told_of_the_next() -> None:
    known = Known(at_ms=0, total=9, period="d20260101", elsewhere=4, late=1)
    same = heard(known, at(9), 0, 1_000)
    assert (same.elsewhere, same.late) == (4, 1)
    following = heard(known, at(0, NOON_MS + DAY_MS), 0, 1_000)
    assert (following.period, following.elsewhere, following.late) == ("d20260102", 0, 0)


@pytest.mark.parametrize(("units", "others_ms"), [(9, 0), (2, 0), (8, 3_000), (0, 3_000)])
def test_another_rule_of_resets_is_nobody_elses_doing(units: int, others_ms: int) -> None:
    known = heard(heard(None, at(0), 0, 1_000), at(7), 7, 2_000)
    assert heard(known, at(units, reset=Reset.MONTHLY), 2, 3_000).others_ms == others_ms


def test_who_wrote_to_a_total_is_reckoned_with_for_a_month() -> None:
    known = Known(at_ms=0, others_ms=1_000)
    assert known.shared(OTHERS_MS)
    assert not known.shared(OTHERS_MS + 1_000)
    assert not Known(at_ms=0).shared(1_000)


def test_elsewhere_is_what_the_total_has_and_we_did_not_bring() -> None:
    yesterday, today = Row("L", HOUR - 24, "", 9), Row("L", HOUR, "", 4)
    assert elsewhere(at(10), 4, [today]) == 10
    assert elsewhere(at(10), 12, [yesterday, today]) == 2
    assert elsewhere(at(0), 12, []) == -12
    assert units_before([yesterday, today], at(0).since_ms) == 9
