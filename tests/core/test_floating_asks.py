"""What operations of floating clients do to the counters, by the ledger's own specification.

No store and no wire: a plan is applied by core/ledger.py. Source: protocols/licensespring.md 4, 9
and 10, SEMANTICS 9.
"""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import ledger
from gateway.core.calendar import make_calendar
from gateway.core.calls import Ask, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.counters import State
from gateway.core.fingerprint import fingerprint
from gateway.core.floating import License, Refusal, licenses_of
from gateway.core.floating_asks import (
    Asking,
    Operation,
    Plan,
    Refused,
    meaning,
    plan,
    refusal_of,
)
from gateway.core.model import UNITS_MAX, Catalogue, Outcome, Reset
from tests.vectors.loader import applied, ms

T0 = ms("2026-03-02T10:00:00.000Z")
HOUR = 3_600_000
DAY = 24 * HOUR


class Desk:
    """One instance in memory, asked as the service asks."""

    def __init__(self) -> None:
        self.state = State(version=1)
        self.index = CatalogueIndex(applied("FLOATING", "FLOATING", Catalogue(id="FLOATING")))
        self.index = CatalogueIndex(_versioned(self.index.catalogue, 1))
        self.ids = itertools.count()

    def ask(self, operation: Operation, at_ms: int = T0, **more: Any) -> Refusal | Outcome:
        asking = Asking(operation=operation, **{"license_id": 77, "user": "alice"} | more)
        license_ = licenses_of(self.index).find(asking.product, asking.license_id)
        assert isinstance(license_, License)
        planned = plan(self.index, license_, asking)
        if isinstance(planned, Refused):
            return planned.refusal
        outcome = self._apply(planned, at_ms)
        return refusal_of(asking, outcome) or outcome

    def _apply(self, planned: Plan, at_ms: int) -> Outcome:
        context = make_calendar(self.index, min(at_ms, self.state.last_ms or at_ms), at_ms).context
        tables = [resolved.table for resolved, _ in planned.wants]
        ask = Ask(
            context=0,
            id=f"id {next(self.ids)}",
            ttl_ms=1000,
            fingerprint="",
            echo="",
            host=planned.echo.host.canonical,
            flags=planned.flags,
            wants=[(at, units) for at, (_, units) in enumerate(planned.wants)],
            catalogue=b"" if planned.index is None else b"next",
        )
        self.state, reply = ledger.apply(self.state, context, tables, ask, at_ms)
        assert reply.verdict is Verdict.DONE
        assert reply.outcome is not None
        if planned.index is not None and not reply.outcome.shortfalls:
            catalogue = _versioned(planned.index.catalogue, self.state.version)
            self.index = CatalogueIndex(catalogue)
        return reply.outcome

    def held(self, user: str = "alice") -> dict[str, tuple[int, int]]:
        """Give what a user holds, by line: how many, and until when from T0 on."""
        holds = self.state.holds.get(f"LICENSESPRING:{user}", {})
        return {line: (hold.count, hold.lapses_ms - T0) for line, hold in holds.items()}

    @property
    def used(self) -> dict[str, int]:
        return {line: units for (line, _), units in self.state.used.items() if units}


def _versioned(catalogue: Catalogue, version: int) -> Catalogue:
    return replace(catalogue, version=version)


def test_a_registration_is_a_seat_for_the_floating_timeout_and_again_is_the_heartbeat() -> None:
    desk = Desk()
    desk.ask(Operation.REGISTER)
    assert desk.held() == {"seats": (1, 2 * HOUR)}
    desk.ask(Operation.REGISTER, T0 + HOUR)
    assert desk.held() == {"seats": (1, 3 * HOUR)}
    assert desk.used == {"seats": 1}


def test_a_heartbeat_does_not_shorten_a_borrow_and_a_borrow_may() -> None:
    desk = Desk()
    desk.ask(Operation.BORROW, until_ms=T0 + 5 * DAY)
    assert desk.held() == {"seats": (1, 5 * DAY)}
    desk.ask(Operation.REGISTER, T0 + HOUR)
    assert desk.held() == {"seats": (1, 5 * DAY)}
    desk.ask(Operation.BORROW, T0 + HOUR, until_ms=T0 + DAY)
    assert desk.held() == {"seats": (1, DAY)}


def test_a_borrow_is_cut_at_the_instances_maximum() -> None:
    desk = Desk()
    for until_ms in (None, T0 + 400 * DAY):
        desk.ask(Operation.BORROW, until_ms=until_ms)
        assert desk.held() == {"seats": (1, 30 * DAY)}


def test_a_borrow_and_a_heartbeat_end_with_the_line() -> None:
    desk = Desk()
    lines = tuple(
        replace(line, expires_ms=T0 + 5 * DAY + 1) if line.id == "seats" else line
        for line in desk.index.catalogue.lines
    )
    desk.index = CatalogueIndex(replace(desk.index.catalogue, lines=lines))
    for until_ms in (None, T0 + 6 * DAY):
        desk.ask(Operation.BORROW, until_ms=until_ms)
        assert desk.held() == {"seats": (1, 5 * DAY + 1)}
    desk.ask(Operation.REGISTER, T0 + 5 * DAY)
    assert desk.held() == {"seats": (1, 5 * DAY + 1)}
    for until_ms in (None, T0 + 6 * DAY):
        over = desk.ask(Operation.BORROW, T0 + 5 * DAY + 1, until_ms=until_ms)
        assert over is Refusal.LICENSE_NOT_ACTIVE
    assert desk.ask(Operation.REGISTER, T0 + 5 * DAY + 1) is Refusal.LICENSE_NOT_ACTIVE
    assert desk.held() == {}


def test_a_feature_may_be_borrowed_too_and_never_for_longer_than_may_be() -> None:
    desk = Desk()
    desk.ask(Operation.REGISTER)
    desk.ask(Operation.REGISTER_FEATURE, feature="cad", until_ms=T0 + 3 * DAY)
    assert desk.held()["cad"] == (1, 3 * DAY)
    desk.ask(Operation.REGISTER_FEATURE, T0 + HOUR, feature="cad")
    assert desk.held()["cad"] == (1, 3 * DAY)
    desk.ask(Operation.REGISTER_FEATURE, feature="cad", until_ms=T0 + 99 * DAY)
    assert desk.held()["cad"][1] == 30 * DAY + HOUR
    past = desk.ask(Operation.REGISTER_FEATURE, T0 + HOUR, feature="cad", until_ms=T0)
    assert past is Refusal.BORROW_UNTIL
    assert desk.held()["cad"][1] == 30 * DAY + HOUR
    desk.ask(Operation.REGISTER_FEATURE, T0 + HOUR, feature="cad", until_ms=T0 + 2 * HOUR)
    assert desk.held()["cad"][1] == 2 * HOUR


def test_a_borrow_until_a_moment_that_is_over_changes_nothing() -> None:
    desk = Desk()
    assert desk.ask(Operation.BORROW, until_ms=T0) is Refusal.BORROW_UNTIL
    for until_ms in (1, 0, -1):
        assert desk.ask(Operation.BORROW, until_ms=until_ms) is Refusal.BORROW_UNTIL
    assert desk.held() == {}


def test_a_feature_is_for_who_is_registered_in_one_step() -> None:
    desk = Desk()
    assert desk.ask(Operation.REGISTER_FEATURE, feature="cad") is Refusal.LICENSE_NOT_FOUND
    assert desk.held() == {}
    desk.ask(Operation.REGISTER)
    desk.ask(Operation.REGISTER_FEATURE, T0 + HOUR, feature="cad")
    assert desk.held() == {"seats": (1, 2 * HOUR), "cad": (1, 3 * HOUR)}
    lapsed = desk.ask(Operation.REGISTER_FEATURE, T0 + 2 * HOUR, feature="cad")
    assert lapsed is Refusal.LICENSE_NOT_FOUND
    assert desk.held() == {"cad": (1, 3 * HOUR)}


def test_who_unregisters_gives_the_features_of_the_licence_back_too() -> None:
    desk = Desk()
    desk.ask(Operation.REGISTER)
    desk.ask(Operation.REGISTER_FEATURE, feature="cad")
    desk.ask(Operation.UNREGISTER)
    assert desk.held() == desk.used == {}
    assert isinstance(desk.ask(Operation.UNREGISTER), Outcome)
    assert isinstance(desk.ask(Operation.UNREGISTER, license_id=79), Outcome)


def test_a_seat_too_many_and_a_feature_too_many_are_not_available() -> None:
    desk = Desk()
    for user in ("alice", "bob"):
        desk.ask(Operation.REGISTER, user=user)
    assert desk.ask(Operation.REGISTER, user="carol") is Refusal.NO_SLOT
    assert desk.ask(Operation.BORROW, user="carol") is Refusal.NO_SLOT
    desk.ask(Operation.REGISTER_FEATURE, feature="cad")
    full = desk.ask(Operation.REGISTER_FEATURE, user="bob", feature="cad")
    assert full is Refusal.NO_SLOT
    assert desk.used == {"seats": 2, "cad": 1}


@pytest.mark.parametrize(
    ("operation", "more", "expected"),
    [
        (Operation.CONSUME, {"units": 101}, Refusal.LICENSE_NOT_ENOUGH),
        (Operation.CONSUME_FEATURE, {"feature": "pages", "units": 51}, Refusal.FEATURE_NOT_ENOUGH),
        (Operation.CONSUME, {"units": -1}, Refusal.NEGATIVE),
        (Operation.CONSUME_FEATURE, {"feature": "cad", "units": 1}, Refusal.UNSUPPORTED_FEATURE),
        (Operation.CONSUME_FEATURE, {"feature": "x", "units": 1}, Refusal.UNSUPPORTED_FEATURE),
        (Operation.REGISTER_FEATURE, {"feature": "pages"}, Refusal.UNSUPPORTED_FEATURE),
        (Operation.RELEASE_FEATURE, {"feature": "pages"}, Refusal.UNSUPPORTED_FEATURE),
        (Operation.CONSUME, {"license_id": 8, "units": 1}, Refusal.LICENSE_NOT_CONSUMPTION),
        (Operation.CONSUME, {"license_id": 81, "units": 1}, Refusal.LICENSE_NOT_ACTIVE),
        (Operation.REGISTER, {"license_id": 79}, Refusal.NO_SLOT),
        (Operation.BORROW, {"license_id": 79}, Refusal.BORROW_NOT_ALLOWED),
        (Operation.CONSUME, {"units": 1, "allow_overages": True}, Refusal.VALIDATION),
    ],
)
def test_what_is_refused_has_its_word_and_moves_nothing(
    operation: Operation, more: dict[str, Any], expected: Refusal
) -> None:
    desk = Desk()
    assert desk.ask(operation, **more) is expected
    assert desk.used == desk.held() == {}


def test_negative_amounts_come_back_without_a_window_where_the_line_allows_them() -> None:
    desk = Desk()
    desk.ask(Operation.CONSUME, license_id=70, user="", units=3)
    desk.ask(Operation.CONSUME, T0 + 30 * DAY, license_id=70, units=-5)
    assert desk.used == {"newer": -2}
    assert {(line, day.units) for (line, _), day in desk.state.days.items()} == {
        ("newer", 3),
        ("newer", -5),
    }


def test_more_than_can_be_counted_back_is_refused_and_moves_nothing() -> None:
    desk = Desk()
    desk.ask(Operation.CONSUME, license_id=70, units=-1)
    (only,) = desk.state.used
    desk.state.used[only] = desk.state.acked["newer"] = 1 - UNITS_MAX
    assert desk.ask(Operation.CONSUME, license_id=70, units=-2) is Refusal.VALIDATION
    assert isinstance(desk.ask(Operation.CONSUME, license_id=70, units=-1), Outcome)
    assert desk.used == {"newer": -UNITS_MAX}


def test_a_setting_changes_with_the_consumption_that_it_allows_or_not_at_all() -> None:
    desk = Desk()
    desk.ask(Operation.CONSUME, license_id=79, units=15)
    refused = desk.ask(Operation.CONSUME, license_id=79, units=9, max_overages=8)
    assert refused is Refusal.LICENSE_NOT_ENOUGH
    assert (desk.index.line["open"].overdraft, desk.state.version) == ("5", 1)
    desk.ask(Operation.CONSUME, license_id=79, units=3, max_overages=8)
    assert (desk.index.line["open"].overdraft, desk.state.version) == ("8", 2)
    assert desk.used == {"open": 18}


def _boundaries(reset: Reset) -> list[date]:
    """Give the first days of a year's periods, worked out by the calendar alone."""
    days = [date(2026, 3, 3) + timedelta(days=at) for at in range(365)]
    match reset:
        case Reset.DAILY:
            return days[::9]
        case Reset.WEEKLY:
            return [day for day in days if day.weekday() == 0]
        case Reset.MONTHLY:
            return [day for day in days if day.day == 1]
        case _:
            return [day for day in days if (day.month, day.day) == (1, 1)]


@pytest.mark.parametrize("reset", [each for each in Reset if each is not Reset.NONE])
def test_a_year_of_resets_has_every_unit_in_its_period(reset: Reset) -> None:
    """Three units in a period's last millisecond, two in the next one's first."""
    desk = Desk()
    lines = tuple(
        replace(line, reset=reset) if line.id == "units" else line
        for line in desk.index.catalogue.lines
    )
    desk.index = CatalogueIndex(replace(desk.index.catalogue, lines=lines))
    first, apart = True, reset is Reset.DAILY
    for day in _boundaries(reset):
        begins_ms = ms(f"{day.isoformat()}T00:00:00.000Z")
        before = desk.ask(Operation.CONSUME, begins_ms - 1, units=3)
        after = desk.ask(Operation.CONSUME, begins_ms, units=2)
        assert isinstance(before, Outcome)
        assert isinstance(after, Outcome)
        # The period that ends had the two of its own beginning, if we were there.
        assert before.told[0].used == (3 if first or apart else 5)
        assert after.told[0].used == 2
        first = False


def test_requests_of_one_meaning_are_equal_and_of_others_are_not() -> None:
    def mark(operation: Operation = Operation.CONSUME, **more: Any) -> bytes:
        said = {"product": "PROD", "user": "alice", "units": 3} | more
        return fingerprint(meaning(Asking(operation=operation, **said)))

    assert mark() == mark()
    others = [
        mark(units=4),
        mark(user="bob"),
        mark(user=""),
        mark(license_id=77),
        mark(product="OTHER"),
        mark(max_overages=3),
        mark(allow_overages=False),
        mark(Operation.CONSUME_FEATURE, feature="pages"),
        mark(Operation.REGISTER, units=0),
        mark(Operation.BORROW, units=0),
        mark(Operation.BORROW, units=0, until_ms=T0),
        mark(Operation.UNREGISTER, units=0),
    ]
    assert len({mark(), *others}) == len(others) + 1
