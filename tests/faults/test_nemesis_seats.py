"""Seats that were told twice are found by the clients' answers alone; none where all is well."""

from __future__ import annotations

from tests.faults.checker import Kind
from tests.faults.nemesis_seats import Held, over_seats

CAPACITY = {("SEATS", "seats"): 3}


def told(host: str, at_ms: int, count: int, lapses_ms: int = 2**53) -> Held:
    return Held("SEATS", "seats", host, at_ms, count, lapses_ms)


def over(*held: Held) -> int:
    found = list(over_seats(held, CAPACITY))
    assert all(each.kind is Kind.OVER for each in found)
    return sum(each.units for each in found)


def test_more_seats_at_a_moment_than_there_are_is_found() -> None:
    assert over(told("a", 10, 2), told("b", 20, 2)) == 1


def test_a_seat_that_was_given_back_is_another_ones_also_in_the_same_ms() -> None:
    assert over(told("a", 10, 2), told("b", 30, 3), told("a", 30, 0)) == 0


def test_a_seat_that_lapsed_is_another_ones_and_not_a_ms_before() -> None:
    lapsing = told("a", 10, 2, lapses_ms=50)
    assert over(lapsing, told("b", 50, 3)) == 0
    assert over(lapsing, told("b", 49, 3)) == 2


def test_the_same_seat_held_on_is_one_seat_and_not_more() -> None:
    beats = [told("a", at_ms, 2, lapses_ms=at_ms + 15) for at_ms in (10, 20, 30)]
    assert over(*beats, told("b", 12, 1)) == 0
    assert over(*beats, told("b", 44, 2)) == 1


def test_answers_that_are_heard_late_count_from_when_they_were_true() -> None:
    assert over(told("a", 30, 0), told("b", 30, 3), told("a", 10, 3)) == 0


def test_lines_and_instances_have_seats_of_their_own() -> None:
    other = Held("OTHER", "seats", "a", 10, 3)
    found = list(over_seats([told("a", 10, 3), other], CAPACITY | {("OTHER", "seats"): 2}))
    assert [each.text for each in found] == [
        "I4: OTHER line seats: clients were told that they hold 3 of 2 at 10"
    ]
