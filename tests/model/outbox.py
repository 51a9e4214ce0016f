"""The outbox's steps, each taken in a real store and in the specification, and answered alike.

Decided here: how a step is put to both. Rows are chosen and halved by the code under test: whatever
it chooses, the books must balance. Not decided here: which step is taken when (outbox_rules.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from unittest.mock import patch

from gateway.core.decisions import Blocked, Decision, Fate, units_of
from gateway.core.ports import Mark, Rest, Standing
from gateway.core.usage import Batch, Row, Scope
from gateway.store.asides import Asides
from gateway.store.outbox import RedisOutbox
from tests.model.lane import HOLDER, Lane
from tests.model.stored_lanes import noted
from tests.model.twins import Twin, World

LEASE_MS = 60_000
ASIDE_MAX = 2  # far below the real one, so that it is met
ROWS_READ_MAX = 10_000


@asynccontextmanager
async def leased(world: World, twin: Twin) -> AsyncIterator[None]:
    """Have the lease of an instance's partition."""
    outbox = RedisOutbox(world.store.topology, world.store.scripts, world.store.partitions)
    assert await outbox.take_lease(twin.keys.partition, HOLDER, LEASE_MS)
    yield
    assert await outbox.drop_lease(twin.keys.partition, HOLDER)


@dataclass(frozen=True, repr=False)
class Both:
    """The outbox of one instance and upstream, twice."""

    world: World
    twin: Twin
    upstream: str

    def __repr__(self) -> str:
        return f"{self.instance} to {self.upstream}"

    @property
    def lane(self) -> Lane:
        return self.twin.lane(self.upstream)

    @property
    def outbox(self) -> RedisOutbox:
        store = self.world.store
        return RedisOutbox(store.topology, store.scripts, store.partitions)

    @property
    def asides(self) -> Asides:
        store = self.world.store
        return Asides(store.topology, store.scripts, store.partitions)

    @property
    def instance(self) -> str:
        return self.twin.keys.instance

    def leased(self) -> AbstractAsyncContextManager[None]:
        """Have the lease for the time of a step."""
        return leased(self.world, self.twin)

    async def read(self) -> list[Row]:
        return await self.outbox.open_rows(self.instance, self.upstream, ROWS_READ_MAX)

    async def seal(self, holder: str, batch: Batch, version: int) -> None:
        current = version == self.twin.index.catalogue.version
        expected = self.lane.seal(holder, batch, current=current)
        assert expected == await self.outbox.seal(holder, batch, version)

    async def begin(self, holder: str, batch: Batch, horizon_ms: int) -> None:
        clock_ms, last_ms = self.world.clock_ms, self.twin.state.last_ms
        expected = self.lane.begin(holder, batch, horizon_ms, clock_ms, last_ms)
        assert expected is await self.outbox.begin_attempt(holder, batch, horizon_ms)

    async def clear(self, holder: str, batch: Batch) -> None:
        expected = self.lane.clear(holder, batch)
        assert expected is await self.outbox.clear_attempt(holder, batch)

    async def settle(self, holder: str, batch: Batch) -> None:
        expected = self.lane.settle(holder, batch.id)
        assert expected is await self.outbox.settle(holder, batch)

    async def refuse(
        self, holder: str, batch: Batch, blocked: Sequence[int], marks: Sequence[Mark]
    ) -> None:
        expected = self.lane.refuse(holder, batch.id, blocked, marks)
        assert expected is await self.outbox.refuse(holder, batch, blocked, marks)

    async def unblock(self, holder: str, marks: Sequence[Mark]) -> None:
        expected = self.lane.unblock(holder, marks)
        assert expected is await self.outbox.unblock(holder, self.instance, self.upstream, marks)

    async def split(self, holder: str, batch: Batch, first: Batch, second: Batch) -> None:
        expected = self.lane.split(holder, batch.id, first, second)
        assert expected is await self.outbox.split(holder, batch, first, second)

    async def set_aside(
        self, holder: str, batch: Batch, standing: Standing, why: str, *, most: int = ASIDE_MAX
    ) -> None:
        now_ms = self.world.clock_ms
        expected = self.lane.set_aside(holder, batch.id, standing, why, now_ms, most)
        with patch("gateway.store.outbox.ASIDE_MAX", most):
            assert expected is await self.outbox.set_aside(holder, batch, standing, why)

    async def decide(self, fate: Fate, batch_id: str, decision: Decision) -> None:
        units = self.lane.decide(fate, batch_id)
        self._record(decision, units)
        done = await self.asides.decide(self.instance, fate, batch_id, decision)
        assert (units is not None) is done

    async def release(self, blocked: Blocked, fate: Fate, decision: Decision) -> None:
        keys = [(row.line, row.hour, row.host) for row in blocked.rows]
        released = self.lane.release(fate, keys, blocked.marks)
        self._record(decision, released)
        assert await self.asides.release(blocked, fate, decision) is (released is not None)

    async def clean(self, version: int) -> None:
        """Take the instance off the list, unless something waits or the catalogue is another."""
        waits = any(self.twin.lane(name).waits for name in self.twin.attached)
        expected = not waits and version == self.twin.index.catalogue.version
        names = sorted(self.twin.attached)
        assert expected is await self.outbox.clean(self.instance, version, names)
        listed = (await self.outbox.dirty()).get(self.twin.keys.partition, [])
        assert not expected or self.instance not in listed

    async def look(self) -> list[Blocked]:
        """Read everything as the forwarder and people do; gives what is blocked."""
        lane, outbox, asides = self.lane, self.outbox, self.asides
        place = (self.instance, self.upstream)
        assert lane.told() == await outbox.sealed(*place)
        assert _rows(lane.open) == sorted(await self.read())
        marks, _ = await outbox.marks(*place)
        assert sorted(lane.marks) == sorted(mark.scope for mark in marks)
        assert lane.marks == {mark.scope: mark for mark in marks}
        assert sorted(lane.asides) == sorted(each.id for each in await asides.batches(*place))
        for batch_id, aside in lane.asides.items():
            assert aside == await asides.batch(*place, batch_id)
        carried = {mark.scope for mark in marks if mark.carried}
        undone: dict[Scope, list[Row]] = {}
        for row in _rows(lane.open):
            scope = (row.line, "") if (row.line, "") in carried else row.scope
            undone.setdefault(scope, []).append(row)
        going = [
            row
            for scope, rows in undone.items()
            for row in rows
            if scope not in carried or sum(each.units for each in rows) >= 0
        ]
        sealed = lane.under_way
        assert Rest(len(going), sealed.id if sealed else "") == await outbox.rest(*place)
        blocked = await asides.blocked(*place)
        assert _rows(lane.blocked) == sorted(row for each in blocked for row in each.rows)
        decisions = await asides.decisions(self.instance)
        found = [noted(each.fields, _told(each.units)) for each in reversed(decisions)]
        assert self.twin.record == found
        return blocked

    def _record(self, decision: Decision, units: Mapping[str, int] | None) -> None:
        if units is not None:
            self.twin.record.append(noted(decision.fields, units))


def marks_for(rows: Iterable[Row], now_ms: int) -> list[Mark]:
    """Mark the scopes of rows: what comes to less than nothing is carried."""
    rows = list(rows)
    scopes: set[Scope] = {row.scope for row in rows}
    return [
        Mark(line, host, "refused|all", now_ms, now_ms + 1, carried=_sum(rows, line, host) < 0)
        for line, host in sorted(scopes)
    ]


def _sum(rows: Iterable[Row], line: str, host: str) -> int:
    return units_of(row for row in rows if row.scope == (line, host)).get(line, 0)


def _rows(rows: Mapping[tuple[str, int, str], int]) -> list[Row]:
    return sorted(Row(*key, units) for key, units in rows.items())


def _told(units: str) -> dict[str, int]:
    return {line: int(count) for line, _, count in (e.rpartition("=") for e in units.split())}
