"""Histories of floating clients that chance seldom writes, compared after every step."""

from __future__ import annotations

from itertools import count

import pytest

from gateway.core.calls import INCREMENTAL, LATER, RESTOCK, SET, TELL
from gateway.core.model import UNITS_MAX, AccessRequest, Host
from tests.model.asked import Asked
from tests.model.bench import Bench
from tests.model.floating import Floating, Wish
from tests.model.lane import HOLDER
from tests.model.laws import check_laws
from tests.model.outbox import leased
from tests.model.pools import BEGIN_MS, DAY_MS, HOUR_MS, first_catalogues
from tests.model.stored import Dump
from tests.model.test_scenarios import change_of
from tests.model.twins import Twin, World

RUNS = count(10_000)
ANN = Host("LICENSESPRING", "ann")


class Story:
    """Steps of one instance, in both; what is asked is answered alike, or the step fails."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.world, self.asked = bench, World(bench.store, BEGIN_MS), 0
        self.seen: Dump = {}
        bench.do(self.world.open(first_catalogues(next(RUNS))))

    @property
    def twin(self) -> Twin:
        return self.world.twins["paris"]

    def ask(self, *wishes: Wish, flags: int = SET | LATER | RESTOCK | TELL) -> None:
        self.asked += 1
        floating = Floating(ANN, wishes, flags | INCREMENTAL)
        request = AccessRequest(host=ANN)
        asked = Asked(self.twin, self.twin.index, request, f"id-{self.asked}", floating=floating)
        self.bench.do(self.world.ask([asked]))
        self.compare()

    def take_elsewhere(self, line: str, units: int) -> None:
        async def note() -> None:
            async with leased(self.world, self.twin):
                of_line = self.twin.index.line[line]
                await self.world.take_elsewhere(self.twin, of_line, units, HOLDER)

        self.bench.do(note())
        self.compare()

    def wait(self, span_ms: int) -> None:
        self.bench.do(self.world.set_clock(self.world.clock_ms + span_ms))

    def compare(self) -> None:
        found = self.bench.do(self.world.compare())
        check_laws(self.twin, self.seen, found, self.world.clock_ms)
        self.seen = found

    def used(self, line: str) -> int:
        return sum(units for (of, _), units in self.twin.state.used.items() if of == line)


@pytest.fixture
def story(bench: Bench) -> Story:
    return Story(bench)


def test_units_come_back_to_the_end_of_numbers_and_no_further(story: Story) -> None:
    story.bench.do(story.world.use_up(story.twin, "K2", 4 - UNITS_MAX))
    story.ask(Wish("K2", -5))
    assert story.used("K2") == 4 - UNITS_MAX
    story.ask(Wish("K2", -4))
    story.ask(Wish("K2", -1))
    assert story.used("K2") == -UNITS_MAX
    story.ask(Wish("K2", 7))


def test_what_came_back_elsewhere_never_lets_used_pass_the_end_of_numbers(story: Story) -> None:
    story.bench.do(story.world.use_up(story.twin, "K2", UNITS_MAX - 4))
    story.take_elsewhere("K2", -9)
    story.ask(Wish("K2", 5))
    story.ask(Wish("K2", 4))
    assert story.used("K2") == UNITS_MAX


def test_units_that_came_back_can_be_undone_all_the_same(story: Story) -> None:
    story.ask(Wish("C1", 6))
    story.ask(Wish("C1", -6))
    story.ask(Wish("C1", -6), flags=0)
    assert story.used("C1") == -6


def test_in_a_new_period_all_of_it_is_there_again_and_others_begin_anew(story: Story) -> None:
    story.take_elsewhere("K1", 5)
    story.ask(Wish("K1", 4), Wish("K1", None))
    story.ask(Wish("K1", 1))
    story.wait(DAY_MS)
    story.ask(Wish("K1", 9))
    story.take_elsewhere("K1", 3)
    story.wait(DAY_MS)
    story.ask(Wish("K1", -2))
    story.wait(3 * DAY_MS)
    story.ask(Wish("K1", None))
    assert story.twin.state.elsewhere == {}


def test_a_line_in_two_tables_is_counted_once_and_renewed_last_by_the_last(story: Story) -> None:
    story.ask(Wish("S1", 1, interval_ms=3 * HOUR_MS), Wish("S1", 2, interval_ms=HOUR_MS))
    story.ask(Wish("C1", None), Wish("C1", 2), Wish("S1", None))
    assert (story.used("C1"), story.used("S1")) == (2, 2)


def test_a_borrow_outlives_heartbeats_and_an_expiry_brought_nearer_ends_it(story: Story) -> None:
    until_ms = BEGIN_MS + 3 * DAY_MS
    story.ask(Wish("S1", 1, interval_ms=30 * DAY_MS, until_ms=until_ms), flags=SET)
    story.wait(HOUR_MS)
    story.ask(Wish("S1", 1, interval_ms=HOUR_MS))
    hold = story.twin.state.holds[ANN.canonical]["S1"]
    assert (hold.lapses_ms, hold.borrowed, hold.since_ms) == (until_ms, True, BEGIN_MS)
    story.wait(3 * DAY_MS)
    story.ask(Wish("S1", -1))
    assert story.twin.state.holds == {}


def test_what_does_not_lapse_is_not_brought_nearer_by_a_heartbeat(story: Story) -> None:
    """Nor does one that sets no lapse leave the one that was."""
    story.ask(Wish("P1", 1))
    story.ask(Wish("P1", 1, interval_ms=HOUR_MS))
    assert story.twin.state.holds[ANN.canonical]["P1"].lapses_ms == 0
    story.ask(Wish("P1", 1, interval_ms=HOUR_MS), flags=SET)
    story.ask(Wish("P1", 1))
    assert story.twin.state.holds[ANN.canonical]["P1"].lapses_ms == 0


def test_others_period_is_not_forgotten_before_its_consumption_can_no_longer_be_undone(
    story: Story,
) -> None:
    story.ask(Wish("K1", 2))
    (until_ms,) = story.twin.state.used_until_ms.values()
    story.bench.do(story.world.change(story.twin, change_of("K1", {"undo_ms": 0})))
    story.take_elsewhere("K1", 4)
    assert [*story.twin.state.used_until_ms.values()] == [until_ms]


def test_exactly_what_is_held_is_held_and_one_more_is_not(story: Story) -> None:
    story.ask(Wish("S1", 2))
    story.ask(Wish("S1", -2), Wish("S2", 1))
    assert story.used("S2") == 1
    story.ask(Wish("S1", -3), Wish("S2", 2))
    assert (story.used("S1"), story.used("S2")) == (2, 1)


def test_a_borrow_that_moves_no_lapse_is_a_borrow(story: Story) -> None:
    story.ask(Wish("S1", 1, interval_ms=HOUR_MS))
    story.ask(Wish("S1", 1, interval_ms=HOUR_MS), flags=SET)
    assert story.twin.state.holds[ANN.canonical]["S1"].borrowed
