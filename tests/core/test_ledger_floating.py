"""What only floating clients may ask, straight on the executable specification.

Holds set by line, renewals that never shorten, units that come back without a window, counters that
are told, what other servers took, and a catalogue that comes with an ask.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from gateway.core import ledger
from gateway.core.calendar import DAY_MS, make_calendar
from gateway.core.calls import (
    INCREMENTAL,
    LATER,
    PARTIAL,
    RESTOCK,
    SET,
    TELL,
    Ask,
    Reply,
    Verdict,
)
from gateway.core.catalogue import CatalogueIndex, period_of
from gateway.core.counters import State, set_elsewhere
from gateway.core.model import (
    UNITS_MAX,
    Catalogue,
    FloatingLicense,
    Grant,
    Held,
    Line,
    Model,
    Reset,
    Shortfall,
    Told,
)

NOW_MS = 1_795_348_800_250
HOUR_MS = 3_600_000
LAPSE_MS = NOW_MS + HOUR_MS + 750  # of a grant for an hour, rounded up to a whole second
SHORT = "FEATURE_COUNT_INSUFFICIENT"
SOLD = FloatingLicense(license_id=77, product="PROD", license_key="key")


def _line(line_id: str, model: Model, count: int, **more: Any) -> Line:
    said: dict[str, Any] = {"feature": line_id.lower(), "version": "1.0", "capacity": count} | more
    return Line(id=line_id, model=model, count=count, **said)


FLOATING = Catalogue(
    id="FLOATING",
    version=1,
    lines=(
        _line("USES", Model.METERED, 100, reset=Reset.DAILY, licensespring=SOLD),
        _line("PAGES", Model.METERED, 10, undo_ms=HOUR_MS),
        _line("SEATS", Model.CONCURRENT, 3, borrow_ms=HOUR_MS),
        _line("CAD", Model.CONCURRENT, 2, borrow_ms=HOUR_MS),
    ),
)
Wish = tuple[str, int | None]  # a line, and units of it; None: it is only told


@dataclass
class Office:
    """A licence of four lines: its state, its clock, and one way to ask."""

    state: State = field(default_factory=lambda: State(version=1))
    clock_ms: int = NOW_MS
    index: CatalogueIndex = field(default_factory=lambda: CatalogueIndex(FLOATING))
    asked: int = 0

    def ask(
        self,
        *wishes: Wish,
        flags: int = SET | LATER | RESTOCK,
        user: str = "ann",
        name: str = "",
        overages: Catalogue | None = None,
        **of_lines: int,
    ) -> Reply:
        self.asked += 1
        index = CatalogueIndex(overages) if overages else self.index
        tables = [index.resolve_line(index.line[line], **of_lines).table for line, _ in wishes]
        ask = Ask(
            context=0,
            id=name or f"own-{self.asked}",
            ttl_ms=DAY_MS,
            fingerprint="same",
            echo="",
            host=f"LICENSESPRING:{user}",
            flags=flags | INCREMENTAL,
            wants=[
                (at, [] if units is None else [(units, at)]) for at, (_, units) in enumerate(wishes)
            ],
            catalogue=msgspec.msgpack.encode(overages) if overages else b"",
        )
        context = make_calendar(self.index, self.clock_ms - DAY_MS, self.clock_ms).context
        self.state, reply = ledger.apply(self.state, context, tables, ask, self.clock_ms)
        return reply

    def hold(self, line: str, user: str = "ann") -> Any:
        return self.state.holds.get(f"LICENSESPRING:{user}", {}).get(line)

    def used(self, line: str) -> int:
        label, _ = period_of(self.index.line[line], self.clock_ms)
        return self.state.used.get((line, label), 0)

    def take_elsewhere(self, line: str, units: int) -> None:
        label, end_ms = period_of(self.index.line[line], self.clock_ms)
        set_elsewhere(self.state, line, label, units, end_ms and end_ms + 1)

    def counters(self) -> Any:
        state = self.state
        counted = state.used, state.holds, state.undo, state.acked, state.version, state.catalogue
        return copy.deepcopy(counted)


def outcome(reply: Reply) -> Any:
    assert (reply.verdict, reply.outcome is not None) == (Verdict.DONE, True)
    return reply.outcome


def registered(count: int = 1) -> Office:
    office = Office()
    said = outcome(office.ask(("SEATS", count)))
    assert ([Held("SEATS", count, LAPSE_MS)], []) == (said.held, said.shortfalls)
    return office


def test_a_set_takes_what_is_missing_and_gives_back_what_is_too_much() -> None:
    office = registered(2)
    for count in (3, 1, 2):
        assert outcome(office.ask(("SEATS", count))).held[0].count == count
        assert office.used("SEATS") == count


def test_a_set_that_says_what_is_held_renews_it() -> None:
    office = registered()
    office.clock_ms += 60_000
    assert [Held("SEATS", 1, LAPSE_MS + 60_000)] == outcome(office.ask(("SEATS", 1))).held
    assert office.hold("SEATS").since_ms == NOW_MS


def test_a_set_leaves_what_is_held_of_other_lines() -> None:
    office = registered()
    office.ask(("CAD", 1))
    outcome(office.ask(("SEATS", 0)))
    assert (office.hold("SEATS"), office.hold("CAD").count) == (None, 1)


def test_a_release_of_nothing_is_no_shortfall() -> None:
    said = outcome(Office().ask(("SEATS", 0)))
    assert ([Held("SEATS", 0, 0)], []) == (said.held, said.shortfalls)


def test_more_seats_than_there_are_change_nothing() -> None:
    office = registered(2)
    office.ask(("SEATS", 1), user="bob")
    office.clock_ms += 60_000
    before = office.counters()
    assert [Shortfall(0, SHORT, 3, 2)] == outcome(office.ask(("SEATS", 3))).shortfalls
    assert before == office.counters()


def test_a_heartbeat_goes_on_where_capacity_was_lowered() -> None:
    """Who holds a seat keeps it; nobody else gets one."""
    office = registered(2)
    lines = tuple(msgspec.structs.replace(each, capacity=1) for each in FLOATING.lines)
    office.index = CatalogueIndex(msgspec.structs.replace(FLOATING, lines=lines))
    office.clock_ms += 60_000
    assert [Held("SEATS", 2, LAPSE_MS + 60_000)] == outcome(office.ask(("SEATS", 2))).held
    assert outcome(office.ask(("SEATS", 1), user="bob")).shortfalls


def test_a_feature_is_registered_only_with_a_licence_in_one_step() -> None:
    office = Office()
    before = office.counters()
    said = outcome(office.ask(("SEATS", -1), ("CAD", 1)))
    assert [Shortfall(0, "NOT_HELD", 1, 0)] == said.shortfalls
    assert before == office.counters()
    office.ask(("SEATS", 1))
    said = outcome(office.ask(("SEATS", -1), ("CAD", 1)))
    assert [Held("SEATS", 1, LAPSE_MS), Held("CAD", 1, LAPSE_MS)] == said.held


def test_what_must_be_held_is_not_renewed_by_that() -> None:
    office = registered()
    office.clock_ms += 60_000
    outcome(office.ask(("SEATS", -1), ("CAD", 1)))
    assert office.hold("SEATS").lapses_ms == LAPSE_MS


def test_a_borrow_sets_the_lapse_and_a_heartbeat_does_not_bring_it_nearer() -> None:
    office = registered()
    until_ms = NOW_MS + 5 * DAY_MS
    borrowed = {"interval_ms": 30 * DAY_MS, "until_ms": until_ms}
    assert [Held("SEATS", 1, until_ms)] == outcome(
        office.ask(("SEATS", 1), flags=SET, **borrowed)
    ).held
    assert office.hold("SEATS").borrowed
    assert [Held("SEATS", 1, until_ms)] == outcome(office.ask(("SEATS", 1))).held
    assert (office.hold("SEATS").borrowed, office.hold("SEATS").since_ms) == (True, NOW_MS)


def test_a_heartbeat_that_moves_the_lapse_ends_a_borrow() -> None:
    office = Office()
    office.ask(("SEATS", 1), flags=SET, interval_ms=HOUR_MS // 2)
    office.clock_ms += 1_000
    outcome(office.ask(("SEATS", 1)))
    assert not office.hold("SEATS").borrowed
    assert office.hold("SEATS").lapses_ms == LAPSE_MS + 1_000


def test_a_borrow_until_a_moment_that_has_passed_is_refused() -> None:
    office = registered()
    before = office.counters()
    for until_ms in (NOW_MS, -62_135_596_800_000):
        said = outcome(office.ask(("SEATS", 1), flags=SET, until_ms=until_ms))
        assert [Shortfall(0, "LICENSE_LAPSED", 1, 0)] == said.shortfalls
    assert before == office.counters()


def test_a_hold_given_up_and_taken_again_begins_anew() -> None:
    office = registered()
    office.clock_ms += 60_000
    office.ask(("SEATS", 0))
    office.ask(("SEATS", 1))
    assert office.hold("SEATS").since_ms == NOW_MS + 60_000


def test_units_come_back_without_a_window_and_below_nothing() -> None:
    office = Office()
    office.ask(("USES", 3))
    said = outcome(office.ask(("USES", -5), user="bob"))
    assert ([Grant("USES", -5)], []) == (said.grants, said.shortfalls)
    assert (office.used("USES"), office.state.acked["USES"]) == (-2, -2)
    (day,) = [each for (line, _), each in office.state.days.items() if line == "USES"]
    assert (day.units, day.back) == (-2, 5)


def test_units_that_came_back_do_not_touch_what_can_be_undone() -> None:
    office = Office()
    office.ask(("PAGES", 3))
    office.ask(("PAGES", -3))
    assert [each.units for each in office.state.undo["PAGES", "LICENSESPRING:ann"].entries] == [3]
    assert [Grant("PAGES", -3)] == outcome(office.ask(("PAGES", -3), flags=0)).grants
    assert office.used("PAGES") == office.state.acked["PAGES"] == -3


def test_no_more_comes_back_than_numbers_reach() -> None:
    office = Office()
    office.state.used["PAGES", "0"] = office.state.acked["PAGES"] = 4 - UNITS_MAX
    before = office.counters()
    assert [Shortfall(0, "RETURN_TOO_LARGE", -5, 4)] == outcome(
        office.ask(("PAGES", -5))
    ).shortfalls
    assert before == office.counters()
    assert outcome(office.ask(("PAGES", -4))).shortfalls == []


def test_what_others_took_is_not_available_and_what_came_back_there_is() -> None:
    office = Office()
    office.take_elsewhere("USES", 95)
    before = office.counters()
    assert [Shortfall(0, SHORT, 6, 5)] == outcome(office.ask(("USES", 6))).shortfalls
    assert before == office.counters()
    office.take_elsewhere("USES", -20)
    assert outcome(office.ask(("USES", 120))).shortfalls == []


def test_what_others_took_is_forgotten_with_the_period() -> None:
    office = Office()
    office.take_elsewhere("USES", 95)
    office.clock_ms += 2 * DAY_MS
    assert outcome(office.ask(("USES", 100))).shortfalls == []
    assert office.state.elsewhere == {}


def test_counters_are_told_as_they_are_afterwards_and_again_the_same() -> None:
    office = Office()
    office.take_elsewhere("USES", 7)
    first = office.ask(("USES", 3), ("SEATS", 1), ("CAD", None), flags=SET | TELL, name="one")
    expected = [Told("USES", 3, 7), Told("SEATS", 1, 0), Told("CAD", 0, 0)]
    assert expected == outcome(first).told
    office.ask(("USES", 1))
    again = office.ask(("USES", 3), ("SEATS", 1), ("CAD", None), flags=SET | TELL, name="one")
    assert (Verdict.REPLAYED, first.outcome) == (again.verdict, again.outcome)


def test_a_refused_request_is_told_the_counters_too() -> None:
    office = Office()
    office.take_elsewhere("USES", 100)
    said = outcome(office.ask(("USES", 1), ("CAD", 1), flags=SET | TELL))
    assert [Told("USES", 0, 100), Told("CAD", 0, 0)] == said.told


def _allowing(capacity: int) -> Catalogue:
    lines = tuple(
        msgspec.structs.replace(each, capacity=capacity) if each.id == "PAGES" else each
        for each in FLOATING.lines
    )
    return msgspec.structs.replace(FLOATING, version=2, lines=lines)


def test_a_catalogue_comes_into_force_with_what_it_allows() -> None:
    office = Office()
    said = outcome(office.ask(("PAGES", 12), overages=_allowing(15)))
    assert ([Grant("PAGES", 12)], 2) == (said.grants, office.state.version)
    assert msgspec.msgpack.encode(_allowing(15)) == office.state.catalogue
    assert Reply(Verdict.STALE, version=2) == office.ask(("PAGES", 1))


@pytest.mark.parametrize("partial", [0, PARTIAL])
def test_a_refused_request_changes_no_catalogue_and_gets_nothing_of_it(partial: int) -> None:
    office = Office()
    before = office.counters()
    said = outcome(office.ask(("PAGES", 16), flags=partial, overages=_allowing(15)))
    assert ([Shortfall(0, SHORT, 16, 15)], []) == (said.shortfalls, said.grants)
    assert before == office.counters()


def test_a_repeat_brings_no_catalogue_a_second_time() -> None:
    office = Office()
    office.ask(("PAGES", 12), overages=_allowing(15), name="one")
    office.index = CatalogueIndex(_allowing(15))
    again = office.ask(
        ("PAGES", 12), overages=msgspec.structs.replace(_allowing(30), version=3), name="one"
    )
    assert (again.verdict, office.state.version) == (Verdict.REPLAYED, 2)
