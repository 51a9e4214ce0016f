"""Stores that are backed up and restored: what is asked of them, and how they are compared."""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.core.backups import Frame
from gateway.core.calls import INCREMENTAL, Reply, Verdict
from gateway.core.fingerprint import dedupe_id, fingerprint
from gateway.core.model import (
    AccessRequest,
    Attachment,
    Catalogue,
    Host,
    Line,
    Model,
    Outcome,
    Want,
)
from gateway.protocols.backup_file import Writer, read_frames
from gateway.service.backup import Backup
from gateway.service.balance import audit
from gateway.service.restoring import Losses, Restore
from gateway.store.calls import Job
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox
from gateway.upstream.leases import Leases
from tests.model.stored import Dump, read_store

UPSTREAM = "parent"
PARTITIONS = 4
LONG_AGO_MS = 1_700_000_000_000
MARK = '{"line":"","host":"","why":"x","since_ms":1,"retry_ms":2,"carried":true}'
DAY_MS = 86_400_000
MANY = 10**9


def line(line_id: str, feature: str, model: Model = Model.METERED, **more: Any) -> Line:
    given = {"version": "1.0", "count": MANY, "capacity": MANY, "model": model} | more
    return Line(id=line_id, feature=feature, **given)


LINES = (
    line("L1", "sessions", undo_ms=3_600_000),
    line("L2", "seats", Model.CONCURRENT, borrow_ms=60_000),
    line("L3", "pages", Model.METERED_REUSABLE),
)


@dataclass
class Site:
    """An open store with instances, and the clients' journal of what was answered."""

    store: Store
    names: Sequence[str] = ("DEMO", "SITE-1", "SITE-2")
    journal: dict[tuple[str, str], tuple[AccessRequest, Outcome]] = field(default_factory=dict)

    async def provision(self) -> None:
        for name in self.names:
            catalogue = Catalogue(
                id=name, default=name == "DEMO", lines=LINES, upstreams=(Attachment(UPSTREAM),)
            )
            await self.store.catalogues.put(catalogue)

    async def ask(
        self, instance: str, key: str, request: AccessRequest, explain_ms: int = 0
    ) -> Reply:
        """Send a request under an id of the client's, and journal what is answered."""
        index = await self.store.catalogues.get(instance)
        while True:
            assert index is not None
            job = Job(
                *(index, index.resolve(request), dedupe_id(instance, key), DAY_MS),
                *(fingerprint(request).hex(), f"echo of {key}", request.host.canonical),
                *(INCREMENTAL, False, explain_ms),
            )
            reply = await self.store.lane.submit(job)
            if reply.verdict is not Verdict.STALE:
                break
            index = await self.store.catalogues.read(instance)
        assert reply.outcome is not None
        self.journal.setdefault((instance, key), (request, reply.outcome))
        return reply

    async def use(
        self, instance: str, feature: str, units: int, key: str, host: str = "h1"
    ) -> Reply:
        return await self.ask(instance, key, wanting(feature, units, host))

    async def acked(self, instance: str, line_id: str = "L1") -> int:
        """What is acknowledged of a line, by books that balance to the last row."""
        books = await audit(self.store.catalogues, instance, deep=True)
        assert books.differences == []
        ledger = await self.store.client.hgetall(self.store.catalogues.keys(instance).ledger)
        return int(ledger.get(f"acked|{line_id}".encode(), 0))

    async def dump(self) -> Dump:
        """Every key, but for what a restore is to change."""
        found = await read_store(self.store.client)
        for key in [
            key for key in found if key.endswith((":record", ":dirty", ":lease", ":pulse"))
        ]:
            del found[key]
        for key, value in found.items():
            if key.endswith(":cat"):
                del value["version"]
            if key.endswith(":ledger"):
                found[key] = {n: v for n, v in value.items() if not n.startswith("epoch")}
        return found


def wanting(feature: str, units: int, host: str = "h1") -> AccessRequest:
    wants = (Want(feature, "1.0", units),)
    return AccessRequest(host=Host("string", host), wants=wants, incremental=True)


async def backed_up(store: Store, chosen: Iterable[str] = ()) -> bytes:
    """Back a store up; gives the file."""
    return written([frame async for frame in Backup(store, "test").frames(tuple(chosen))])


def written(frames: Iterable[Frame]) -> bytes:
    writer = Writer()
    return writer.begin() + b"".join(map(writer.frame, frames)) + writer.end()


def leases(store: Store) -> Leases:
    outbox = RedisOutbox(store.topology, store.scripts, store.partitions)
    return Leases(outbox, time.monotonic, asyncio.sleep)


def restoring(store: Store, file: bytes, chosen: Iterable[str] = (), **more: Any) -> Restore:
    return Restore(store, lambda: read_frames(io.BytesIO(file)), tuple(chosen), **more)


async def restored(store: Store, file: bytes, chosen: Iterable[str] = (), **more: Any) -> Losses:
    """Look, then restore, whatever is forgotten; gives what was."""
    task = restoring(store, file, chosen, **more)
    losses = await task.look()
    await task.run(leases(store), losses, secrets.randbits(52) | 1, "ann", "a test")
    return losses


def at(path: Path, name: str) -> Path:
    (path / name).mkdir(exist_ok=True)
    return path / name


def over_two(
    path: Path, story: Callable[[Site, Site], Awaitable[None]], *, partitions: int = PARTITIONS
) -> None:
    """Tell a story over a store with instances and an empty one."""

    async def main() -> None:
        async with (
            open_store("embedded", at(path, "a"), partitions=PARTITIONS) as here,
            open_store("embedded", at(path, "b"), partitions=partitions) as there,
        ):
            site = Site(here)
            await site.provision()
            await story(site, Site(there))

    asyncio.run(main())


async def busy(site: Site) -> None:
    for name in site.names:
        await site.use(name, "sessions", 10, "k1")
        await site.use(name, "sessions", -3, "k2")
        await site.use(name, "seats", 2, "k3", host="h|2")
        await site.use(name, "pages", 5, "k4")
        await site.ask(name, "k5", wanting("nothing", 1), explain_ms=60_000)


async def aged(site: Site) -> None:
    """Let an instance have what comes with the years, and with each kind of upstream."""
    client, keys = site.store.client, site.store.catalogues.keys("DEMO")
    await client.hset(keys.ledger, "since_ms", LONG_AGO_MS)
    await client.hset(keys.days(202403), "L2|20240305|p", 2)
    await client.hset(keys.month(202402), mapping={f"L{n}|202402|p": n for n in range(2, 3_000)})
    await client.hset(keys.sync(UPSTREAM), mapping={"|asked": 3, "|hours": 7})
    await client.hset(keys.refused(UPSTREAM), "L1|", MARK)
    await client.hset(keys.used, "elsewhere|L1|0", 4)


async def parts(site: Site, instance: str = "DEMO") -> dict[str, int]:
    books = await audit(site.store.catalogues, instance, deep=True)
    assert books.differences == []
    entry = next(each for each in books.lines if each.id == "L1")
    return {"parked": entry.parked, "open": entry.open, "sealed": entry.sealed}
