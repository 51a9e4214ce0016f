"""Limits of a cloud in lines, and a schedule's time."""

from __future__ import annotations

import pytest

from gateway.core.model import UNITS_MAX, Catalogue, FloatingLicense, Line, Model, Reset
from gateway.core.pulling import Limits, kept_limits, pulled_catalogue, with_limits
from gateway.core.syncing import Schedule


def line(**changes: object) -> Line:
    stands_for = FloatingLicense(77, "PROD", "", "KEY")
    told = {"model": Model.METERED, "count": 7, "capacity": 7, "licensespring": stands_for}
    return Line(id="L1", feature="f", version="1", **(told | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "overdraft", "capacity"),
    [
        (Limits(count=10), "0", 10),
        (Limits(count=10, overdraft="3"), "3", 13),
        (Limits(count=10, overdraft="unlimited"), "unlimited", UNITS_MAX),
        (Limits(count=None), "0", UNITS_MAX),
        (Limits(count=UNITS_MAX, overdraft="3"), "3", UNITS_MAX),
    ],
)
def test_limits_become_a_capacity(limits: Limits, overdraft: str, capacity: int) -> None:
    pulled = with_limits(line(), limits, 5, by="cloud")
    assert (pulled.count, pulled.overdraft, pulled.capacity) == (limits.count, overdraft, capacity)
    assert pulled.pulled == "cloud"


def test_a_reset_of_the_cloud_begins_a_period_and_is_in_utc() -> None:
    before = line(reset=Reset.DAILY, reset_timezone="Europe/Paris")
    pulled = with_limits(before, Limits(count=1, reset=Reset.DAILY), 5, by="cloud")
    assert (pulled.reset, pulled.reset_timezone, pulled.reset_epoch) == (Reset.DAILY, "UTC", 5)
    again = with_limits(pulled, Limits(count=2, reset=Reset.DAILY), 6, by="cloud")
    assert again.reset_epoch == 5


def test_a_reusable_line_has_no_reset() -> None:
    pulled = with_limits(
        line(model=Model.METERED_REUSABLE), Limits(count=1, reset=Reset.DAILY), 5, by="cloud"
    )
    assert (pulled.count, pulled.reset) == (1, Reset.NONE)


def test_what_is_not_told_of_or_retired_stays() -> None:
    catalogue = Catalogue(id="D", version=4, lines=(line(), line(retired=True)))
    assert pulled_catalogue(catalogue, {"other": Limits(count=1)}, by="cloud") == catalogue
    new = pulled_catalogue(catalogue, {"L1": Limits(count=1)}, by="cloud")
    assert [each.count for each in new.lines] == [1, 7]
    assert pulled_catalogue(new, {"L1": Limits(count=1)}, by="cloud") == new


def test_what_was_pulled_holds_while_the_cloud_it_is_from_is_attached() -> None:
    pulled = with_limits(line(), Limits(count=1), 5, by="cloud")
    assert kept_limits(pulled, line(), {"cloud", "collector"}) == pulled
    assert kept_limits(pulled, line(), {"collector"}) == line()
    assert kept_limits(line(), line(), {"cloud"}) == line()


def test_a_schedule_is_due_by_its_span_or_when_it_is_asked() -> None:
    schedule = Schedule(begun_ms=1_000, now_ms=3_600_999)
    assert not schedule.due(3_600_000)
    assert Schedule(begun_ms=1_000, now_ms=3_601_000).due(3_600_000)
    assert Schedule(begun_ms=5_000, now_ms=1_000).due(3_600_000)  # the clock went back
    assert Schedule(hours=0, minutes=10, begun_ms=1, now_ms=600_001).due(3_600_000)
    assert Schedule(hours=0, minutes=0).span_ms(1) == 60_000
    assert not Schedule(enabled=False, begun_ms=1, now_ms=10**12).due(1)
    assert Schedule(enabled=False, asked=2, answered=1).due(1)
