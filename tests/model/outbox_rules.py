"""Steps of the outbox, drawn: by the holder, by a stranger, once and again, at odd moments.

Decided here: which steps are taken, of what, and by whom. Each leaves the store as the
specification says, whether it was carried out or refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.core.decisions import Blocked, Decision, Fate
from gateway.core.model import Attachment, Catalogue
from gateway.core.ports import Standing
from gateway.core.usage import Batch, Row, choose_events, choose_rows, halve
from tests.model.bench import Bench
from tests.model.lane import HOLDER, STRANGER
from tests.model.machine import Machine
from tests.model.outbox import Both, marks_for
from tests.model.pools import BY_HOST, HOUR_MS, TO_ONE

HORIZON_MS: Final = HOUR_MS
ROWS_MAX: Final = (3, 2, 100)  # a batch seldom takes everything
# Who takes a step, one after another: a repeat and a stranger change nothing.
HANDS: Final = ((HOLDER,), (STRANGER,), (STRANGER, HOLDER, HOLDER), (HOLDER, HOLDER, STRANGER))
CLOCK_STEPS_MS: Final = (0, 1, -1, HORIZON_MS - 1, HORIZON_MS, -HOUR_MS)
ATTACHED: Final[tuple[tuple[Attachment, ...], ...]] = (
    (TO_ONE, BY_HOST), (), (TO_ONE,), (BY_HOST,),
)  # fmt: skip

Chosen = tuple[Both, Batch, int]  # and the version of the catalogue it was chosen by

hands = st.sampled_from(HANDS)
attached = precondition(lambda self: bool(self.places()))
busy = precondition(lambda self: bool(self.under_way()))
refusing = precondition(lambda self: bool(self.with_blocked()))
set_apart = precondition(lambda self: bool(self.with_asides()))
ARGUMENTS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "settle": {"holders": hands},
    "refuse": {"holders": hands},
    "split": {"holders": hands, "by_row": st.booleans()},
    "set_aside": {"holders": hands, "standing": st.sampled_from(Standing)},
    "attempt": {
        "holders": hands,
        "step_ms": st.sampled_from(CLOCK_STEPS_MS),
        "horizon_ms": st.sampled_from((HORIZON_MS, 1, 0)),
        "clear": st.booleans(),
    },
    "unblock": {"holders": hands},
    "release": {"fate": st.sampled_from((Fate.OPEN, Fate.DEAD)), "times": st.integers(1, 2)},
    "decide": {"fate": st.sampled_from(Fate), "times": st.integers(1, 2)},
}
OF_A_BATCH: Final = ("settle", "refuse", "split", "set_aside", "attempt")
_numbers = count(1)


def step(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a rule of a step that others may take by its name."""
    drawn: Any = {"data": st.data(), **ARGUMENTS[name]}
    made: Callable[[Callable[..., None]], Callable[..., None]] = rule(**drawn)
    return made


class OutboxRules(Machine):
    """All that is done to an outbox by forwarders and by people."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.chosen: list[Chosen] = []
        self.batches: list[Batch] = []  # that were under way once
        self.blocked: list[Blocked] = []  # as somebody saw it once

    def places(self) -> list[Both]:
        return [
            Both(self.world, twin, upstream)
            for _, twin in sorted(self.world.twins.items())
            for upstream in sorted(twin.attached)
        ]

    def under_way(self) -> list[Both]:
        return [place for place in self.places() if place.lane.batches]

    def with_asides(self) -> list[Both]:
        return [place for place in self.places() if place.lane.asides]

    def with_blocked(self) -> list[Both]:
        return [place for place in self.places() if place.lane.blocked or place.lane.marks]

    def may(self, name: str) -> bool:
        """Say whether there is anything to take a step with."""
        places = {"decide": self.with_asides, "unblock": self.with_blocked,
                  "release": self.with_blocked}  # fmt: skip
        return bool(places.get(name, self.under_way)())

    def seal_at(self, place: Both, by_row: bool, rows_max: int) -> None:
        """Seal what is open, when something is."""
        for _, batch, version in self.bench.do(_choose(place, by_row, rows_max)):
            self.take(place, (HOLDER,), lambda holder: place.seal(holder, batch, version))  # noqa: B023

    def draw(self, data: st.DataObject, places: list[Both]) -> Both:
        return data.draw(st.sampled_from(places))

    def draw_batch(self, data: st.DataObject) -> tuple[Both, Batch]:
        """Draw a batch under way, or, now and then, one that was, or as it was."""
        place = self.draw(data, self.under_way())
        batch = place.lane.told()
        assert batch is not None
        earlier = [
            each
            for each in self.batches[-4:]
            if (each.instance, each.upstream) == (batch.instance, batch.upstream)
        ]
        self.batches.append(batch)
        return place, data.draw(st.sampled_from([*[batch] * 4, *earlier]))

    def take(
        self, place: Both, holders: Sequence[str], act: Callable[[str], Awaitable[None]]
    ) -> None:
        """Take a step under the lease, as each of these, and compare."""

        async def steps() -> None:
            async with place.leased():
                for holder in holders:
                    await act(holder)

        self.bench.do(steps())
        self.check()

    @attached
    @rule(data=st.data(), by_row=st.booleans(), rows_max=st.sampled_from(ROWS_MAX))
    def choose(self, data: st.DataObject, by_row: bool, rows_max: int) -> None:
        """Read and choose; until it is sealed, rows and the catalogue may change."""
        self.chosen += self.bench.do(_choose(self.draw(data, self.places()), by_row, rows_max))

    @attached
    @rule(
        data=st.data(),
        holders=hands,
        by_row=st.booleans(),
        rows_max=st.sampled_from(ROWS_MAX),
    )
    def seal(
        self, data: st.DataObject, holders: Sequence[str], by_row: bool, rows_max: int
    ) -> None:
        """Seal what is open, or was; by a catalogue no longer in force nothing changes."""
        now = self.bench.do(_choose(self.draw(data, self.places()), by_row, rows_max))
        if now or self.chosen:
            chosen = data.draw(st.sampled_from([*now, *now, *self.chosen[-2:]]))
            place, batch, version = chosen
            self.chosen = [each for each in self.chosen if each is not chosen]
            self.take(place, holders, lambda holder: place.seal(holder, batch, version))

    @busy
    @step("settle")
    def settle(self, data: st.DataObject, holders: Sequence[str]) -> None:
        place, batch = self.draw_batch(data)
        self.take(place, holders, lambda holder: place.settle(holder, batch))

    @busy
    @step("refuse")
    def refuse(self, data: st.DataObject, holders: Sequence[str]) -> None:
        """Some rows are blocked, or only carried when they come to less than nothing."""
        place, batch = self.draw_batch(data)
        named = data.draw(st.sets(st.sampled_from(batch.rows)))
        marks = marks_for(named, self.world.clock_ms)
        carried = {mark.scope for mark in marks if mark.carried}
        blocked = [
            at for at, row in enumerate(batch.rows) if row in named and row.scope not in carried
        ]
        self.take(place, holders, lambda holder: place.refuse(holder, batch, blocked, marks))

    @busy
    @step("split")
    def split(self, data: st.DataObject, holders: Sequence[str], by_row: bool) -> None:
        place, batch = self.draw_batch(data)
        if parts := halve(batch.rows, place.twin.index.line, by_row=by_row):
            first, second = (_batch(place, rows) for rows in parts)
            self.take(place, holders, lambda holder: place.split(holder, batch, first, second))

    @busy
    @step("set_aside")
    def set_aside(self, data: st.DataObject, holders: Sequence[str], standing: Standing) -> None:
        place, batch = self.draw_batch(data)
        self.take(place, holders, lambda holder: place.set_aside(holder, batch, standing, "why|é"))

    @busy
    @step("attempt")
    def attempt(
        self,
        data: st.DataObject,
        holders: Sequence[str],
        step_ms: int,
        horizon_ms: int,
        clear: bool,
    ) -> None:
        """Begin an attempt, perhaps one that is not due; it may have had no effect for sure."""
        place, batch = self.draw_batch(data)
        self.bench.do(self.world.set_clock(self.world.clock_ms + step_ms))

        async def begin_and_end(holder: str) -> None:
            await place.begin(holder, batch, horizon_ms)
            if clear:
                await place.clear(holder, batch)

        self.take(place, holders, begin_and_end)

    @refusing
    @step("unblock")
    def unblock(self, data: st.DataObject, holders: Sequence[str]) -> None:
        place = self.draw(data, self.with_blocked())
        known = [place.lane.marks[scope] for scope in sorted(place.lane.marks)]
        if known:
            marks = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
            self.take(place, holders, lambda holder: place.unblock(holder, marks))

    @refusing
    @step("release")
    def release(self, data: st.DataObject, fate: Fate, times: int) -> None:
        """A person ends the waiting of a line's rows, as they were seen; it needs no lease."""
        place = self.draw(data, self.with_blocked())
        found = self.bench.do(place.look())
        earlier = [each for each in self.blocked[-2:] if each.instance == place.instance
                   and each.upstream == place.upstream]  # fmt: skip
        if found or earlier:
            blocked = data.draw(st.sampled_from([*found, *found, *earlier]))
            decision = _decision(place, "release", blocked.line)
            for _ in range(times):
                self.bench.do(place.release(blocked, fate, decision))
            self.blocked += found
            self.check()

    @set_apart
    @step("decide")
    def decide(self, data: st.DataObject, fate: Fate, times: int) -> None:
        """A person, or a receipt, says what became of a batch that was set aside."""
        place = self.draw(data, self.with_asides())
        batch_id = data.draw(st.sampled_from([*place.lane.asides, "never heard of"]))
        for _ in range(times):
            decision = _decision(place, "decide", batch_id)
            self.bench.do(place.decide(fate, batch_id, decision))
        self.check()

    @rule(
        data=st.data(),
        attached=st.sampled_from(ATTACHED),
        given_up=st.sets(st.sampled_from(("one", "two"))),
    )
    def attach_and_detach(
        self, data: st.DataObject, attached: tuple[Attachment, ...], given_up: set[str]
    ) -> None:
        """What waits for an upstream holds it, unless somebody gives that up."""
        name = data.draw(st.sampled_from(sorted(self.world.twins)))
        twin = self.world.twins[name]

        def change(catalogue: Catalogue, _: int) -> Catalogue:
            return msgspec.structs.replace(catalogue, upstreams=attached)

        discards = {up: _decision(Both(self.world, twin, up), "detach", "") for up in given_up}
        self.bench.do(self.world.change(twin, change, discards))
        self.check()

    @attached
    @rule(data=st.data(), behind=st.sampled_from((0, 0, 1)))
    def clean(self, data: st.DataObject, behind: int) -> None:
        place = self.draw(data, self.places())
        self.bench.do(place.clean(place.twin.index.catalogue.version - behind))
        self.check()

    @attached
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        self.bench.do(self.draw(data, self.places()).look())


async def _choose(place: Both, by_row: bool, rows_max: int) -> list[Chosen]:
    """Choose rows as the forwarder does; gives one batch, or none."""
    index, rows = place.twin.index, await place.read()
    by_host = next(u.by_host for u in index.catalogue.upstreams if u.name == place.upstream)
    carried = {mark.scope for mark in place.lane.marks.values() if mark.carried}
    choice = (
        choose_events(rows, index.line, rows_max=rows_max)
        if by_row
        else choose_rows(rows, index.line, rows_max=rows_max, by_host=by_host, carried=carried)
    )
    version = index.catalogue.version
    return [(place, _batch(place, choice.rows), version)] if choice.rows else []


def _batch(place: Both, rows: Sequence[Row]) -> Batch:
    name = f"b{next(_numbers)}"
    return Batch(name, place.upstream, place.instance, tuple(rows), f"body of {name}".encode())


def _decision(place: Both, what: str, subject: str) -> Decision:
    return Decision("ann|é", what, "because = so", place.upstream, subject)
