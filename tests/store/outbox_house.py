"""A real store with one instance, its outbox, and its ledger checked at every look."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
from gateway.core.ports import Step
from gateway.core.usage import Batch, choose_rows
from gateway.store.calls import Job
from gateway.store.keys import PartitionKeys
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox

INSTANCE, UPSTREAM = "DEMO", "up"
HOUR_MS = 3_600_000
TTL_MS = 15_000
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
    index: CatalogueIndex

    @property
    def partition(self) -> int:
        return self.store.catalogues.keys(INSTANCE).partition

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

    async def choose(self, batch_id: str = "b1") -> Batch:
        rows = await self.outbox.open_rows(INSTANCE, UPSTREAM, 1000)
        choice = choose_rows(rows, self.index.line)
        return Batch(batch_id, UPSTREAM, INSTANCE, choice.rows, b"body of " + batch_id.encode())

    async def seal(self, holder: str, batch_id: str = "b1") -> Batch:
        step, batch = await self.outbox.seal(holder, await self.choose(batch_id))
        assert step is Step.DONE
        assert batch is not None
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
        words = ("base", "forwarded", "dead", "parked", "open", "sealed")
        by_line = {}
        for each in self.index.line:
            sums = {word: ledger.get(f"{word}|{each}|{upstream}", 0) for word in words}
            acked = ledger.get(f"acked|{each}", 0)
            assert acked == sum(sums.values())
            assert (sums["open"], sums["sealed"]) == (opened[each], sealed[each])
            by_line[each] = {word: units for word, units in sums.items() if units}
        return by_line

    async def dump(self) -> dict[bytes, Any]:
        """All of the instance's outbox, ledger and mark, to see that nothing moved."""
        client, keys = self.store.client, self.store.catalogues.keys(INSTANCE)
        hashes = [keys.ledger, keys.open(UPSTREAM), keys.sealed(UPSTREAM)]
        return {
            **{key.encode(): await client.hgetall(key) for key in hashes},
            b"dirty": await client.smembers(keys.dirty),
        }


@asynccontextmanager
async def open_house(data_dir: Path, *, fsync: bool = False) -> AsyncIterator[House]:
    async with open_store("embedded", data_dir, partitions=4) as store:
        await store.catalogues.put(CATALOGUE)
        index = await store.catalogues.read(INSTANCE)
        assert index is not None
        outbox = RedisOutbox(store.client, store.scripts, store.partitions, fsync=fsync)
        yield House(store, outbox, index)


def at_home(data_dir: Path, story: Callable[[House], Awaitable[None]], **options: bool) -> None:
    async def run() -> None:
        async with open_house(data_dir, **options) as house:
            await story(house)

    asyncio.run(run())


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
    step_s = 0.005
    for _ in range(int(within_s / step_s)):
        if await condition():
            return
        await asyncio.sleep(step_s)
    pytest.fail(f"not within {within_s} s")
