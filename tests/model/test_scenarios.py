"""Histories too long for chance to write: each compared with the specification after every step."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import pytest

from gateway.core.model import AccessRequest, Attachment, Catalogue, Reset, Want
from tests.model.asked import Asked
from tests.model.bench import Bench
from tests.model.edges import moment_ms
from tests.model.laws import check_laws
from tests.model.pools import (
    BEGIN_MS,
    BY_HOST,
    DAY_MS,
    HOSTS,
    HOUR_MS,
    TO_ONE,
    UNDO_STEP_MS,
    Change,
    first_catalogues,
)
from tests.model.twins import Twin, World

MINUTE_MS = 60_000
RUNS = count(1)


class History:
    """Steps of one instance, in both; what is asked is answered alike, or the step fails."""

    def __init__(self, bench: Bench, run: int) -> None:
        self.bench, self.world, self.asked = bench, World(bench.store, BEGIN_MS), 0
        bench.do(self.world.open(first_catalogues(run)))

    @property
    def twin(self) -> Twin:
        return self.world.twins["paris"]

    def ask(
        self, feature: str, units: int, version: str = "0", twin: Twin | None = None, **more: Any
    ) -> None:
        self.asked += 1
        said: dict[str, Any] = {"host": HOSTS[0], "incremental": True, "partial": True} | more
        request = AccessRequest(wants=(Want(feature, version, units),), **said)
        twin = twin or self.twin
        asked = Asked(twin, twin.index, request, f"id-{self.asked}")
        self.bench.do(self.world.ask([asked]))
        self.compare()

    def wait(self, span_ms: int) -> None:
        self.bench.do(self.world.set_clock(self.world.clock_ms + span_ms))

    def change(self, line_id: str, **members: Any) -> None:
        self.bench.do(self.world.change(self.twin, change_of(line_id, members)))
        self.compare()

    def compare(self) -> None:
        found = self.bench.do(self.world.compare())
        for twin in self.world.twins.values():
            check_laws(twin, {}, found, self.world.clock_ms)

    def used(self, line: str) -> int:
        return sum(units for (of, _), units in self.twin.state.used.items() if of == line)


def change_of(line_id: str, members: dict[str, Any]) -> Change:
    def change(catalogue: Catalogue, _: int) -> Catalogue:
        lines = [
            msgspec.structs.replace(line, **members) if line.id == line_id else line
            for line in catalogue.lines
        ]
        return msgspec.structs.replace(catalogue, lines=tuple(lines))

    return change


@pytest.fixture
def history(bench: Bench) -> History:
    return History(bench, next(RUNS))


def test_the_newest_consumption_is_undone_first_whatever_the_line(history: History) -> None:
    """Three consumptions on each of two lines, a few minutes apart, taken back bit by bit."""
    for version in ("2.0", "1.0", "2.0", "1.0", "2.0", "1.0"):
        history.ask("calls", 2, version)
        history.wait(3 * MINUTE_MS)
    for units in (3, 1, 4, 2):
        history.ask("calls", -units)
    assert history.used("C1") + history.used("C2") == 12 - 3 - 1 - 4 - 2


def test_of_one_line_what_is_left_to_undo_is_the_oldest(history: History) -> None:
    history.ask("free", 3)
    history.wait(30 * MINUTE_MS)
    history.ask("free", 4)
    history.ask("free", -4)
    history.wait(30 * MINUTE_MS + 1)
    history.ask("free", -1)  # what is left was consumed an hour ago: its window is closed
    assert history.used("F1") == 3


def test_a_renewal_moves_the_lapse_of_all_lines_but_retired_ones(history: History) -> None:
    history.ask("pool", 4, "2.0", host=HOSTS[2])  # leaves one of P2
    history.ask("pool", 3, interval_s=1_800)
    assert set(history.twin.state.holds["STRING:h1"]) == {"P1", "P2"}
    history.change("P1", retired=True)
    history.ask("pool", -4, host=HOSTS[2])
    history.wait(20 * MINUTE_MS)
    history.ask("pool", 1, interval_s=1_800)
    lapses = {line: hold.lapses_ms for line, hold in history.twin.state.holds["STRING:h1"].items()}
    assert lapses["P2"] - lapses["P1"] == 20 * MINUTE_MS
    history.wait(15 * MINUTE_MS)
    history.ask("pool", 0)
    assert set(history.twin.state.holds["STRING:h1"]) == {"P2"}


def test_what_did_not_lapse_is_cut_at_a_new_expiry(history: History) -> None:
    history.ask("pool", 9)  # no interval asked: the permanent line's share does not lapse
    assert history.twin.state.holds["STRING:h1"]["P1"].lapses_ms == 0
    history.change("P1", expires_ms=BEGIN_MS + HOUR_MS)
    history.wait(HOUR_MS)
    history.ask("pool", 0)
    assert history.used("P1") == 0


def test_an_expiry_that_has_passed_cuts_back_in_time(history: History) -> None:
    history.ask("pool", 9)
    history.wait(40 * DAY_MS)
    history.change("P1", expires_ms=BEGIN_MS + 3 * DAY_MS)
    history.ask("pool", 0)
    assert history.used("P1") == 0


def test_a_longer_undo_interval_reaches_into_a_forgotten_period(history: History) -> None:
    """The units come back; the used of a period that is forgotten has nothing to shrink."""
    history.change("D1", undo_ms=HOUR_MS)
    history.ask("daily", 12)
    history.wait(HOUR_MS - MINUTE_MS)
    history.change("D1", undo_ms=40 * DAY_MS)
    history.ask("daily", 1)
    history.wait(20 * DAY_MS)
    history.ask("daily", 2)
    history.wait(HOUR_MS)
    history.ask("daily", -11)
    assert history.twin.state.acked["D1"] >= 0
    assert all(units >= 0 for units in history.twin.state.used.values())


def test_a_changed_reset_begins_a_new_period_and_an_undo_finds_the_old_one(
    history: History,
) -> None:
    history.ask("daily", 8)
    history.change("D1", reset=Reset.WEEKLY, reset_epoch=2)
    history.ask("daily", 8)
    history.wait(DAY_MS)
    history.ask("daily", -9)
    history.wait(7 * DAY_MS)
    history.ask("daily", 8)


def test_an_upstream_attached_later_starts_from_there(history: History) -> None:
    """Attached, refused to be detached while usage waits, let go when none does, attached again."""
    world, twin = history.world, history.world.twins["utc"]

    def attach(*upstreams: Attachment) -> None:
        history.bench.do(
            world.change(twin, lambda old, _: msgspec.structs.replace(old, upstreams=upstreams))
        )
        history.compare()

    def consume(units: int) -> None:
        history.ask("calls", units, "1.0", twin=twin)

    consume(4)
    attach(TO_ONE, BY_HOST)
    assert twin.lane("one").base.total() == 4
    consume(3)
    attach()
    assert twin.attached == {"one", "two"}
    consume(-3)
    attach()
    assert twin.attached == set()
    consume(2)
    attach(BY_HOST)
    assert twin.lane("two").base.total() == 6


def test_what_an_upstream_began_from_is_forgotten_when_it_comes_again(history: History) -> None:
    """Nothing counts at the second attachment, since all was given back while nobody was told."""
    twin = history.world.twins["utc"]

    def attach(*upstreams: Attachment) -> None:
        def change(old: Catalogue, _: int) -> Catalogue:
            return msgspec.structs.replace(old, upstreams=upstreams)

        history.bench.do(history.world.change(twin, change))
        history.compare()

    def consume(units: int) -> None:
        history.ask("calls", units, "1.0", twin=twin)

    consume(4)
    attach(TO_ONE)
    attach()
    consume(-4)
    attach(TO_ONE)
    assert twin.lane("one").base.total() == 0


def test_consumption_is_remembered_to_a_small_part_of_the_undo_interval(history: History) -> None:
    for span_ms in (0, UNDO_STEP_MS - 1, 1, UNDO_STEP_MS, 1):
        history.wait(span_ms)
        history.ask("free", 1)
    entries = history.twin.state.undo["F1", "STRING:h1"].entries
    assert [entry.units for entry in entries] == [2, 1, 2]


def test_what_is_held_of_a_retired_line_can_be_returned(history: History) -> None:
    history.ask("pool", 12)
    for line in ("P1", "P2"):
        history.change(line, retired=True)
    history.ask("pool", -9)
    history.ask("pool", -9)
    assert history.twin.state.holds == {}


def test_a_denial_is_counted_on_a_line_that_could_have_served(history: History) -> None:
    """Not on the first of the feature's lines, which has expired."""
    history.wait(6 * DAY_MS)
    history.ask("seats", 999, "1.0")
    history.ask("seats", -999, "1.0")
    denied = [line for (line, _), day in history.twin.state.days.items() if day.denials]
    assert denied == ["S2"]


def test_what_lapsed_long_ago_is_swept_at_the_last_moment_of_a_day(bench: Bench) -> None:
    """By the time the calendar is made anew it is the next day, and that must not cut it short."""
    history = History(bench, next(RUNS))
    history.ask("seats", 1)
    midnight_ms = moment_ms(history.twin, "before a month", history.world.clock_ms + 400 * DAY_MS)
    history.wait(midnight_ms - history.world.clock_ms)
    history.ask("seats", 1)
