"""One instance twice: in a real store behind the real lane, and in the executable specification.

Decided here: how both are driven by the same requests, and what has to be equal afterwards: every
answer, and every key of the store. Not decided here: what is asked of them (the machine).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pytest

from gateway.core import ledger
from gateway.core.calendar import DAY_MS, make_calendar
from gateway.core.calls import Context, Reply, Verdict, Why
from gateway.core.catalogue import CatalogueIndex
from gateway.core.counters import Day, State, day_of, set_elsewhere
from gateway.core.decisions import Decision
from gateway.core.fingerprint import dedupe_id
from gateway.core.model import AccessRequest, Catalogue, Host, Line, Reset
from gateway.core.ports import Step
from gateway.store.catalogues import CatalogueConflict
from gateway.store.durable import Durable
from gateway.store.elsewhere import Taken, note_elsewhere
from gateway.store.keys import META, InstanceKeys
from gateway.store.opening import Store
from tests.model.asked import Asked
from tests.model.lane import HOLDER, Lane
from tests.model.pools import Change
from tests.model.stored import Dump, counters_of, read_store
from tests.model.stored_lanes import lane_keys, lane_sums, noted

CLOCK = "gw:clock"
WEIGHTLESS = ("gw:clock", META)  # keys that are not compared
NOTHING_GIVEN_UP: Final[Mapping[str, Decision]] = {}


@dataclass(eq=False)
class Twin:
    """One instance: its catalogue and its counters by the specification."""

    keys: InstanceKeys
    index: CatalogueIndex
    state: State
    since_ms: int
    names: set[str] = field(default_factory=set)
    lanes: dict[str, Lane] = field(default_factory=dict)  # of every upstream there ever was
    record: list[dict[str, Any]] = field(default_factory=list)
    former: list[CatalogueIndex] = field(default_factory=list)  # left by the last requests

    @property
    def attached(self) -> set[str]:
        return _names(self.index.catalogue)

    def lane(self, upstream: str) -> Lane:
        """Give the outbox of an upstream, over the rows that requests write."""
        lane = self.lanes.setdefault(upstream, Lane(upstream, self.keys.instance))
        lane.open = self.state.open.setdefault(upstream, {})
        return lane

    @property
    def sums(self) -> dict[str, int]:
        """The ledger's fields that no request changes by itself."""
        sums = {"since_ms": self.since_ms}
        for upstream in self.lanes:
            sums |= lane_sums(self.lane(upstream))
        return sums

    def context(self, from_ms: int, now_ms: int) -> Context:
        calendar = make_calendar(self.index, min(from_ms, now_ms - DAY_MS), now_ms)
        return calendar.context

    def apply(self, asked: Asked, clock_ms: int) -> Reply:
        """Do what one request says, by the specification."""
        tables, ask = asked.ask()
        version = asked.index.catalogue.version
        context = msgspec.structs.replace(self.context(clock_ms, clock_ms), version=version)
        self.state, reply = ledger.apply(self.state, context, tables, ask, clock_ms)
        if reply.verdict is Verdict.CALENDAR:
            context = self.context(reply.from_ms, reply.now_ms)
            self.state, reply = ledger.apply(self.state, context, tables, ask, clock_ms)
        if reply.verdict is Verdict.DONE and not asked.preview:
            self.names.add(asked.name)
        if self.state.version != self.index.catalogue.version:
            self.former.append(self.index)
            self.index = CatalogueIndex(_catalogue(self.state.catalogue))
        self.record += [noted([*decision], units) for decision, units in self.state.decisions]
        self.state.decisions = []
        return reply

    def adopt(self, new: Catalogue, now_ms: int) -> None:
        """Take another catalogue into force: holds on lines that expire earlier lapse earlier.

        An expiry in the past means now: what is past is recorded, and stays so.
        """
        old = {line.id: line.expires_ms for line in self.index.catalogue.lines}
        for line in new.lines:
            at_ms, before_ms = line.expires_ms, old.get(line.id)
            if at_ms is None or not line.model.reusable or line.id not in old:
                continue
            if before_ms is None or at_ms < before_ms:
                self._cut(line.id, max(at_ms, now_ms))
        metered = [line.id for line in new.lines if line.model.metered]
        for upstream in _names(new) - self.attached:
            self.lane(upstream).attach(self.state.acked, metered)
        self.index = CatalogueIndex(new)
        self.state.version = new.version

    def _cut(self, line: str, at_ms: int) -> None:
        for held in self.state.holds.values():
            if line in held and not 0 < held[line].lapses_ms < at_ms:
                held[line].lapses_ms = at_ms

    def detach(self, upstreams: Iterable[str], discards: Mapping[str, Decision]) -> bool:
        """Let upstreams go; False, and nothing changes, when one has usage nobody gives up."""
        lanes = [self.lane(upstream) for upstream in sorted(upstreams)]
        if any(not lane.may_go and lane.upstream not in discards for lane in lanes):
            return False
        for lane in lanes:
            may_go, units = lane.may_go, lane.detach()
            if not may_go:
                self.record.append(noted(discards[lane.upstream].fields, units))
        return True


@dataclass
class World:
    """A store and the instances in it."""

    store: Store
    clock_ms: int
    twins: dict[str, Twin] = field(default_factory=dict)

    async def open(self, catalogues: dict[str, Catalogue]) -> None:
        """Begin with an empty store and these instances."""
        await self.store.client.flushall()
        await self.set_clock(self.clock_ms)
        for name, catalogue in catalogues.items():
            written = await self.store.catalogues.put(catalogue)
            twin = Twin(
                self.store.catalogues.keys(catalogue.id),
                CatalogueIndex(Catalogue(id=catalogue.id)),
                State(),
                self.clock_ms,
            )
            twin.adopt(written, self.clock_ms)
            self.twins[name] = twin

    async def set_clock(self, clock_ms: int) -> None:
        self.clock_ms = clock_ms
        await self.store.client.set(CLOCK, clock_ms)

    async def command(self, *words: str) -> None:
        client: Any = self.store.client
        await client.execute_command(*words)

    async def use_up(self, twin: Twin, line: str, units: int) -> None:
        """Let a line have been used for long: in both, `units` are acked as of now."""
        context, keys = twin.context(self.clock_ms, self.clock_ms), twin.keys
        day = day_of(context, self.clock_ms)
        twin.state.acked[line] = units
        twin.state.days[line, day] = Day(units=units)
        client = self.store.client
        if twin.index.line[line].reset is Reset.NONE:  # else it was in a period long past
            twin.state.used[line, "0"] = units
            await client.hset(keys.used, f"{line}|0", units)
        await client.hset(keys.ledger, mapping={f"acked|{line}": units, f"days|{line}": units})
        await client.hset(keys.days(day // 100), f"{line}|{day}|u", units)
        for upstream in twin.attached:
            twin.lane(upstream).base[line] = units
            await client.hset(keys.ledger, f"base|{line}|{upstream}", units)

    async def change(
        self, twin: Twin, change: Change, discards: Mapping[str, Decision] = NOTHING_GIVEN_UP
    ) -> None:
        """Write the next version of a catalogue, in both, or see it refused: usage waits."""
        now_ms = max(self.clock_ms, twin.state.last_ms)
        new = change(twin.index.catalogue, now_ms)
        if not twin.detach(twin.attached - _names(new), discards):
            with pytest.raises(CatalogueConflict):
                await self.store.catalogues.put(new, discards)
            return
        twin.adopt(await self.store.catalogues.put(new, discards), now_ms)

    async def ask(self, asked: Iterable[Asked]) -> None:
        """Send requests together; each answer has to be the one of one after another."""
        asked = list(asked)
        for twin in self.twins.values():
            twin.former = []
        futures = [self.store.lane.submit(each.job()) for each in asked]
        expected = [each.twin.apply(each, self.clock_ms) for each in asked]
        assert expected == list(await asyncio.gather(*futures))

    async def take_elsewhere(self, twin: Twin, line: Line, units: int, holder: str) -> None:
        """Have others consume of a line, as whoever speaks with the cloud is told."""
        taken = Taken.at(line, max(self.clock_ms, twin.state.last_ms), units)
        durable = Durable(self.store.topology)
        step = await note_elsewhere(durable, self.store.scripts, twin.keys, holder, [taken])
        assert step is (Step.DONE if holder == HOLDER else Step.LEASE_LOST)
        if step is Step.DONE:
            set_elsewhere(twin.state, taken.line, taken.label, taken.units, taken.until_ms)

    async def sweep(self, twin: Twin) -> None:
        """Have lapses swept without a request; to the specification that is a look at nothing."""
        nothing = Asked(twin, twin.index, _NOTHING, "", preview=True)
        assert twin.apply(nothing, self.clock_ms).verdict is Verdict.DONE
        while True:
            reply = await self.store.lane.submit(nothing.job(sweep_only=True))
            if reply.verdict is not Verdict.AGAIN:
                break
        assert reply.verdict is Verdict.DONE

    async def compare(self) -> Dump:
        """Hold every key of the store against the specification; gives what the store holds."""
        found = await read_store(self.store.client)
        expected: Dump = {}
        due: dict[str, dict[str, int]] = {}
        for twin in self.twins.values():
            counters = counters_of(twin.keys, twin.state, twin.sums)
            expected |= counters
            for lane in twin.lanes.values():
                expected |= lane_keys(twin.keys, lane)
            if twin.record:
                expected[twin.keys.record] = twin.record
            if lapses := counters.get(twin.keys.lapse):
                due.setdefault(twin.keys.due, {})[twin.keys.instance] = min(lapses.values())
            catalogue = found.pop(twin.keys.cat)
            assert {"version", "blob"} == catalogue.keys()  # no cut is left undone
            assert twin.state.version == int(catalogue["version"])
            assert twin.index.catalogue == _catalogue(catalogue["blob"])
            for name in twin.names:
                kept = dedupe_id(twin.keys.instance, name)
                assert found.pop(twin.keys.outcome(kept))
                if why := twin.state.explained.get(name):
                    assert _why(found.pop(twin.keys.explained(kept))) == why
            assert twin.keys.instance in found[twin.keys.instances]
            if any(lane.waits for lane in twin.lanes.values()):
                assert twin.keys.instance in found[twin.keys.dirty]
        for twin in self.twins.values():
            found.pop(twin.keys.instances, None)
            found.pop(twin.keys.dirty, None)
        for key in WEIGHTLESS:
            found.pop(key, None)
        expected |= due
        differing = {
            key: (expected.get(key), found.get(key))
            for key in expected.keys() | found.keys()
            if (expected.get(key) or None) != (found.get(key) or None)
        }
        assert differing == {}  # what it should be, and what it is
        return found


def _names(catalogue: Catalogue) -> set[str]:
    return {upstream.name for upstream in catalogue.upstreams}


_catalogue = msgspec.msgpack.Decoder(Catalogue).decode
_why = msgspec.msgpack.Decoder(Why).decode
_NOTHING = AccessRequest(host=Host("string", "nobody"))
