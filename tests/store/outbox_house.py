"""A real store with one instance, its outbox, and its ledger checked at every look."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.core.catalogue import CatalogueIndex
from gateway.core.fingerprint import fingerprint
from gateway.core.model import (
    AccessRequest,
    Attachment,
    Catalogue,
    Host,
    Line,
    Model,
    Want,
)
from gateway.core.ports import Mark, Standing, Step
from gateway.core.usage import Batch, choose_rows
from gateway.store.asides import Asides
from gateway.store.calls import Job
from gateway.store.durability import NO_WAIT, wait_for
from gateway.store.keys import PartitionKeys
from gateway.store.opening import Store
from gateway.store.outbox import RedisOutbox
from tests.stores.homes import Home

INSTANCE, UPSTREAM = "DEMO", "up"
SYNCED = wait_for("local", 1)
HOUR_MS = 3_600_000
TTL_MS = 60_000
HORIZON_MS = 86_400_000


def line(line_id: str, feature: str, undo_ms: int = 0) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version="1.0",
        model=Model.METERED,
        count=10**15,
        capacity=10**15,
        undo_ms=undo_ms,
    )


CATALOGUE = Catalogue(
    id=INSTANCE,
    default=True,
    lines=(line("L1", "sessions"), line("L2", "users", HOUR_MS)),
    upstreams=(Attachment(UPSTREAM), Attachment("hosts", by_host=True)),
)


@dataclass
class House:
    """A store with one instance, and what a test does with its outbox."""

    store: Store
    outbox: RedisOutbox
    asides: Asides
    index: CatalogueIndex

    @property
    def version(self) -> int:
        return self.index.catalogue.version

    @property
    def partition(self) -> int:
        return self.store.catalogues.keys(INSTANCE).partition

    @property
    def server(self) -> Redis:
        """The server that has the instance, for what is not about a key."""
        return self.store.topology.client_of(self.store.catalogues.keys(INSTANCE).cat)

    def fsync(self, each_call: bool) -> None:
        """Go on with an outbox whose steps wait for the disk, or do not."""
        store, wait = self.store, SYNCED if each_call else NO_WAIT
        self.outbox = RedisOutbox(store.topology, store.scripts, store.partitions, wait)

    async def use(self, feature: str, units: int, host: str = "h1") -> None:
        request = AccessRequest(
            host=Host("string", host), wants=(Want(feature, "1.0", units),), incremental=True
        )
        wants = self.index.resolve(request)
        meaning = fingerprint(request).hex()
        key = secrets.token_urlsafe(16)
        job = Job(self.index, wants, key, 60_000, meaning, "", request.host.canonical, 1)
        reply = await self.store.lane.submit(job)
        assert reply.outcome is not None
        assert not reply.outcome.shortfalls

    async def lease(self, holder: str = "a:1") -> str:
        assert await self.outbox.take_lease(self.partition, holder, TTL_MS)
        return holder

    async def lose_lease(self) -> None:
        """What happens when a holder is suspended for longer than its lease."""
        await self.store.client.delete(PartitionKeys(self.partition).lease)

    async def choose(self, batch_id: str = "b1", body: bytes | None = None) -> Batch:
        rows = await self.outbox.open_rows(INSTANCE, UPSTREAM, 1000)
        choice = choose_rows(rows, self.index.line)
        body = b"body of " + batch_id.encode() if body is None else body
        return Batch(batch_id, UPSTREAM, INSTANCE, choice.rows, body)

    async def seal(self, holder: str, batch_id: str = "b1", body: bytes | None = None) -> Batch:
        chosen = await self.choose(batch_id, body)
        step, batch = await self.outbox.seal(holder, chosen, self.version)
        assert step is Step.DONE
        assert batch is not None
        return batch

    async def put_aside(
        self,
        batch_id: str,
        standing: Standing,
        why: str = "timed out",
        *,
        attempts: int = 1,
        body: bytes | None = None,
    ) -> Batch:
        """Seal what is open and take it out of the lane, after some attempts in doubt."""
        holder = await self.lease()
        batch = await self.seal(holder, batch_id, body)
        for _ in range(attempts):
            assert await self.outbox.begin_attempt(holder, batch, HORIZON_MS) is Step.DONE
            batch = msgspec.structs.replace(batch, attempts=batch.attempts + 1)
        assert await self.outbox.set_aside(holder, batch, standing, why) is Step.DONE
        assert await self.outbox.drop_lease(self.partition, holder)
        return batch

    async def block(self, batch_id: str, marks: Sequence[Mark]) -> Batch:
        """Seal what is open and let the upstream refuse all of it."""
        holder = await self.lease()
        batch = await self.seal(holder, batch_id)
        places = range(len(batch.rows))
        assert await self.outbox.refuse(holder, batch, places, marks) is Step.DONE
        assert await self.outbox.drop_lease(self.partition, holder)
        return batch

    async def sums(self, upstream: str = UPSTREAM) -> dict[str, dict[str, int]]:
        """The ledger by line, checked against the equation and against the rows themselves."""
        keys = self.store.catalogues.keys(INSTANCE)
        found = await self.store.client.hgetall(keys.ledger)
        ledger = {name.decode(): int(value) for name, value in found.items()}
        opened: Counter[str] = Counter()
        for row in await self.outbox.open_rows(INSTANCE, upstream, 10**6):
            assert row.units
            opened[row.line] += row.units
        sealed: Counter[str] = Counter()
        batch = await self.outbox.sealed(INSTANCE, upstream)
        for row in batch.rows if batch else ():
            sealed[row.line] += row.units
        parked: Counter[str] = Counter()
        for waiting in await self.asides.blocked(INSTANCE, upstream):
            parked.update(waiting.units)
        for aside in await self.asides.batches(INSTANCE, upstream):
            parked.update(aside.units if aside.standing is Standing.PARKED else {})
        words = ("base", "forwarded", "dead", "parked", "open", "sealed")
        by_line = {}
        for each in self.index.line:
            sums = {word: ledger.get(f"{word}|{each}|{upstream}", 0) for word in words}
            acked = ledger.get(f"acked|{each}", 0)
            assert acked == sum(sums.values())
            assert (sums["open"], sums["sealed"]) == (opened[each], sealed[each])
            assert sums["parked"] == parked[each]
            by_line[each] = {word: units for word, units in sums.items() if units}
        return by_line

    async def dump(self) -> dict[bytes, Any]:
        """All of the instance's outbox, ledger, mark and record, to see that nothing moved."""
        client, keys = self.store.client, self.store.catalogues.keys(INSTANCE)
        outbox = (keys.open, keys.sealed, keys.blocked, keys.refused, keys.aside)
        hashes = [keys.ledger, *(key(UPSTREAM) for key in outbox)]
        return {
            **{key.encode(): await client.hgetall(key) for key in hashes},
            b"record": await client.xrange(keys.record),
            b"dirty": await client.smembers(keys.dirty),
        }


@asynccontextmanager
async def open_house(
    home: Home, *, fsync: bool = False, partitions: int = 4
) -> AsyncIterator[House]:
    ack = "local" if fsync else "written"
    async with home.open(partitions=partitions, ack=ack) as store:
        if await store.catalogues.read(INSTANCE) is None:
            await store.catalogues.put(CATALOGUE)
        index = await store.catalogues.read(INSTANCE)
        assert index is not None
        said = (store.topology, store.scripts, store.partitions, SYNCED if fsync else NO_WAIT)
        outbox, asides = RedisOutbox(*said), Asides(*said)
        yield House(store, outbox, asides, index)


def at_home(
    home: Home,
    story: Callable[[House], Awaitable[None]],
    *,
    fsync: bool = False,
    partitions: int = 4,
) -> None:
    async def run() -> None:
        async with open_house(home, fsync=fsync, partitions=partitions) as house:
            await story(house)

    asyncio.run(run())


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    step_s = 0.005
    for _ in range(int(within_s / step_s)):
        if await condition():
            return
        await asyncio.sleep(step_s)
    pytest.fail(f"not within {within_s} s")
