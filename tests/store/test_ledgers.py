"""A ledger is read whole, at one moment, and its rows add up to its sums.

Law: SEMANTICS 11 and RELIABILITY 1 (I3), on a real store and the real script.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.fingerprint import fingerprint
from gateway.core.model import AccessRequest, Attachment, Catalogue, Host, Line, Model, Want
from gateway.core.usage import Row
from gateway.store.calls import Job
from gateway.store.ledgers import UpstreamSums, read_deep, read_ledger
from gateway.store.opening import Store, open_store

INSTANCE = "DEMO"
UNDO_MS = 3_600_000


def line(line_id: str, feature: str, model: Model = Model.METERED) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version="1.0",
        model=model,
        count=10**9,
        capacity=10**9,
        undo_ms=UNDO_MS if model is Model.METERED else 0,
    )


CATALOGUE = Catalogue(
    id=INSTANCE,
    timezone="Europe/Paris",
    lines=(
        line("L1", "sessions"),
        line("L2", "pages", Model.METERED_REUSABLE),
        line("L3", "editor", Model.CONCURRENT),
    ),
    upstreams=(Attachment("parent"), Attachment("meter", by_host=True)),
)


@asynccontextmanager
async def demo(data_dir: Path, catalogue: Catalogue = CATALOGUE) -> AsyncIterator[Store]:
    async with open_store("embedded", data_dir, partitions=4) as store:
        await store.catalogues.put(catalogue)
        yield store


async def access(store: Store, *wants: tuple[str, int], host: str = "h1") -> None:
    index = await store.catalogues.read(INSTANCE)
    assert index is not None
    asked = tuple(Want(name, "1.0", count) for name, count in wants)
    request = AccessRequest(host=Host("string", host), wants=asked, incremental=True)
    meaning = fingerprint(request).hex()
    name, whom = secrets.token_urlsafe(16), request.host.canonical
    job = Job(index, index.resolve(request), name, 60_000, meaning, "", whom, INCREMENTAL)
    reply = await store.lane.submit(job)
    assert reply.verdict is Verdict.DONE
    assert reply.outcome is not None
    assert reply.outcome.shortfalls == []


def test_an_instance_without_a_ledger_reads_as_zeros(tmp_path: Path) -> None:
    async def main() -> None:
        async with demo(tmp_path) as store:
            ledger = await read_ledger(store.client, store.catalogues.keys("NOBODY"))
            assert ledger.version == 0
            assert ledger.acked == {}
            assert ledger.upstream("L1", "parent") == UpstreamSums()

    asyncio.run(main())


def test_granted_units_are_acked_in_their_days_and_open_to_each_upstream(tmp_path: Path) -> None:
    async def main() -> None:
        async with demo(tmp_path) as store:
            await access(store, ("sessions", 42), ("pages", 7), ("editor", 2))
            await access(store, ("sessions", -2), ("pages", -3))
            ledger = await read_ledger(store.client, store.catalogues.keys(INSTANCE))
            assert ledger.acked == {"L1": 40, "L2": 4}
            assert ledger.days == ledger.acked
            assert ledger.upstream("L1", "parent").open == 40
            assert ledger.upstream("L2", "meter").accounted == 4
            assert ledger.used == {"L1|0": 40, "L2|0": 4, "L3|0": 2}
            assert ledger.rows is None
            assert 0 < ledger.since_ms <= ledger.now_ms

    asyncio.run(main())


def test_a_deep_read_adds_up_the_rows_of_every_host(tmp_path: Path) -> None:
    async def main() -> None:
        async with demo(tmp_path) as store:
            for number in range(20):
                await access(store, ("sessions", number + 1), host=f"h|{number}")
            keys = store.catalogues.keys(INSTANCE)
            ledger = await read_deep(store.client, keys, ["parent", "meter"], CATALOGUE.timezone)
            assert ledger.rows is not None
            assert ledger.rows.days == {"L1": 210}
            assert ledger.rows.open == {("L1", "parent"): 210, ("L1", "meter"): 210}
            assert ledger.rows.sealed == {}

    asyncio.run(main())


def test_a_deep_read_counts_the_rows_of_the_sealed_batch(tmp_path: Path) -> None:
    async def main() -> None:
        async with demo(tmp_path) as store:
            keys = store.catalogues.keys(INSTANCE)
            rows = (Row("L1", 1, "", 30), Row("L1", 2, "", -5), Row("L2", 2, "", 1))
            await store.client.hset(keys.sealed("parent"), "rows", msgspec.msgpack.encode(rows))
            ledger = await read_deep(store.client, keys, ["parent", "meter"], "UTC")
            assert ledger.rows is not None
            assert ledger.rows.sealed == {("L1", "parent"): 25, ("L2", "parent"): 1}

    asyncio.run(main())


def test_a_ledger_names_the_catalogue_that_was_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        async with demo(tmp_path) as store:
            keys = store.catalogues.keys(INSTANCE)
            assert (await read_ledger(store.client, keys)).version == 1
            again = msgspec.structs.replace(CATALOGUE, version=1, name="Demo")
            await store.catalogues.put(again)
            assert (await read_ledger(store.client, keys)).version == 2

    asyncio.run(main())
