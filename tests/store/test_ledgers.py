"""A ledger is read whole, at one moment, and its rows add up to its sums.

Law: SEMANTICS 11 and RELIABILITY 1 (I3), on a real store and the real script.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
import pytest

from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.errors import Unavailable
from gateway.core.fingerprint import fingerprint
from gateway.core.model import AccessRequest, Attachment, Catalogue, Host, Line, Model, Want
from gateway.core.ports import Standing
from gateway.core.usage import Row
from gateway.store import ledgers
from gateway.store.calls import Job
from gateway.store.folding import Folds
from gateway.store.ledgers import DEEP_TRIES_MAX, UpstreamSums, read_deep, read_ledger
from gateway.store.opening import Store
from tests.stores.homes import Home

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
async def demo(home: Home, catalogue: Catalogue = CATALOGUE) -> AsyncIterator[Store]:
    async with home.open(partitions=4) as store:
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


async def set_aside(store: Store, batch_id: str, standing: Standing, *rows: Row) -> None:
    parts = {
        "facts": msgspec.msgpack.encode((standing, "why", 1, 0, 1)),
        "rows": msgspec.msgpack.encode(rows),
        "body": b"body",
    }
    fields = {f"{batch_id}|{part}": value for part, value in parts.items()}
    key = store.catalogues.keys(INSTANCE).aside("parent")
    await store.client.hset(key, mapping=fields)  # type: ignore[arg-type]


class Late:
    """A store's client; a batch is set aside after each of the first looks at their names."""

    def __init__(self, store: Store, looks: int) -> None:
        self.store = store
        self.looks = looks
        self.hkeys = store.client.hkeys
        self.numbers = count()

    def pipeline(self, transaction: bool) -> Any:
        pipeline = self.store.client.pipeline(transaction)
        execute = pipeline.execute

        async def late() -> Any:
            number = next(self.numbers)  # the first is that of the sums
            if 0 < number <= self.looks:
                row = Row("L1", 2, "", 1)
                await set_aside(self.store, f"late-{self.looks}-{number}", Standing.PARKED, row)
            return await execute()

        pipeline.execute = late  # type: ignore[method-assign]
        return pipeline


def test_an_instance_without_a_ledger_reads_as_zeros(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
            ledger = await read_ledger(store.client, store.catalogues.keys("NOBODY"))
            assert ledger.version == 0
            assert ledger.acked == {}
            assert ledger.upstream("L1", "parent") == UpstreamSums()

    asyncio.run(main())


def test_granted_units_are_acked_in_their_days_and_open_to_each_upstream(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
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


def test_a_deep_read_adds_up_the_rows_of_every_host(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
            for number in range(20):
                await access(store, ("sessions", number + 1), host=f"h|{number}")
            keys = store.catalogues.keys(INSTANCE)
            ledger = await read_deep(store.client, keys, ["parent", "meter"], CATALOGUE.timezone)
            assert ledger.rows is not None
            assert ledger.rows.days == {"L1": 210}
            assert ledger.rows.open == {("L1", "parent"): 210, ("L1", "meter"): 210}
            assert ledger.rows.sealed == {}

    asyncio.run(main())


def test_a_deep_read_counts_the_rows_of_the_sealed_batch_and_of_its_halves(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
            keys = store.catalogues.keys(INSTANCE)
            rows = (Row("L1", 1, "", 30), Row("L1", 2, "", -5))
            half = (Row("L2", 2, "", 1),)
            fields = {"rows": msgspec.msgpack.encode(rows), "rows.1": msgspec.msgpack.encode(half)}
            await store.client.hset(keys.sealed("parent"), mapping=fields)  # type: ignore[arg-type]
            ledger = await read_deep(store.client, keys, ["parent", "meter"], "UTC")
            assert ledger.rows is not None
            assert ledger.rows.sealed == {("L1", "parent"): 25, ("L2", "parent"): 1}

    asyncio.run(main())


def test_a_deep_read_counts_as_parked_what_is_blocked_and_set_aside_but_not_dead(
    home: Home,
) -> None:
    async def main() -> None:
        async with demo(home) as store:
            keys = store.catalogues.keys(INSTANCE)
            await store.client.hset(keys.blocked("meter"), "L1|1|STRING:a|b", 5)
            for number, standing in enumerate((Standing.PARKED, Standing.DEAD, Standing.PARKED)):
                await set_aside(store, f"b{number}", standing, Row("L1", 2, "", 10**number))
            ledger = await read_deep(store.client, keys, ["parent", "meter"], "UTC")
            assert ledger.rows is not None
            assert ledger.rows.parked == {("L1", "parent"): 101, ("L1", "meter"): 5}

    asyncio.run(main())


def test_a_batch_set_aside_while_they_are_read_is_read_too(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
            keys = store.catalogues.keys(INSTANCE)
            await set_aside(store, "b0", Standing.PARKED, Row("L1", 2, "", 1))
            for late in (1, DEEP_TRIES_MAX):
                client = Late(store, late)
                reading = read_deep(client, keys, ["parent"], "UTC")  # type: ignore[arg-type]
                if late == DEEP_TRIES_MAX:
                    with pytest.raises(Unavailable):
                        await reading
                else:
                    ledger = await reading
                    assert ledger.rows is not None
                    assert ledger.rows.parked == {("L1", "parent"): 2}

    asyncio.run(main())


def test_the_past_is_read_in_days_and_months_as_it_was_at_the_one_moment(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folded between two pages, it is read anew; when it never keeps still, in the one step."""

    async def main() -> None:
        async with demo(home) as store:
            keys = store.catalogues.keys(INSTANCE)
            since_ms = 1_700_000_000_000  # in November 2023
            days = {"L1|20231201|u": 40, "L2|20231224|u": 9, "L2|20231224|b": 1, "L2|20231225|u": 2}
            sums = {"since_ms": since_ms, "days|L1": 40, "days|L2": 11}
            await store.client.hset(keys.days(202312), mapping=days)  # type: ignore[arg-type]
            await store.client.hset(keys.ledger, mapping=sums)  # type: ignore[arg-type]
            folds = Folds(store.client, store.scripts, keys)
            to_fold = iter([1, 0])
            real = ledgers.watched_steps

            async def spied(client: Any, key: str, **how: Any) -> Any:
                async for fields in real(client, key, **how):
                    yield fields
                    if key == keys.month(202312) and (lines := next(to_fold, 0)):
                        assert (await folds.fold(202312, lines)).moved == lines

            monkeypatch.setattr(ledgers, "watched_steps", spied)
            for _ in range(2):
                ledger = await read_deep(store.client, keys, [], "Europe/Paris")
                assert ledger.rows is not None
                assert ledger.rows.days == ledger.days == {"L1": 40, "L2": 11}
            assert sorted(await store.client.hkeys(keys.days(202312))) != sorted(
                map(str.encode, days)
            )

            async def restless(client: Any, key: str, **how: Any) -> Any:
                await store.client.hincrby(keys.days(202312), "L9|20231201|u", 1)
                async for fields in real(client, key, **how):
                    yield fields

            monkeypatch.setattr(ledgers, "watched_steps", restless)
            ledger = await read_deep(store.client, keys, [], "Europe/Paris")
            assert ledger.rows is not None
            assert ledger.rows.days["L9"] >= DEEP_TRIES_MAX - 1
            assert {line: ledger.rows.days[line] for line in ledger.days} == ledger.days

    asyncio.run(main())


def test_what_is_carried_is_told_of_its_scope_alone(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
            keys = store.catalogues.keys(INSTANCE)
            whole = {"L1|1": 3, "L1|2": -8, "L2|1": -4}
            by_host = {"L1|1|STRING:a": -5, "L1|2|STRING:a": 1, "L1|1|STRING:b": -7, "L2|1|x": 9}
            await store.client.hset(keys.open("parent"), mapping=whole)  # type: ignore[arg-type]
            await store.client.hset(keys.open("meter"), mapping=by_host)  # type: ignore[arg-type]
            nothing = await read_ledger(store.client, keys, ["parent", "meter"])
            assert nothing.carried == {}
            for upstream, field, carried in (
                ("parent", "L1|", True),
                ("parent", "L2|", False),
                ("meter", "L1|STRING:a", True),
                ("meter", "L2|x", True),
            ):
                mark = {"line": "", "host": "", "why": "", "since_ms": 1, "retry_ms": 2}
                text = msgspec.json.encode(mark | {"carried": carried}).decode()
                await store.client.hset(keys.refused(upstream), field, text)
            expected = {("L1", "parent"): -5, ("L1", "meter"): -4}
            ledger = await read_ledger(store.client, keys, ["parent", "meter"])
            assert ledger.carried == expected
            deep = await read_deep(store.client, keys, ["parent", "meter"], "UTC")
            assert deep.carried == expected

    asyncio.run(main())


def test_a_ledger_names_the_catalogue_that_was_in_force(home: Home) -> None:
    async def main() -> None:
        async with demo(home) as store:
            keys = store.catalogues.keys(INSTANCE)
            assert (await read_ledger(store.client, keys)).version == 1
            again = msgspec.structs.replace(CATALOGUE, version=1, name="Demo")
            await store.catalogues.put(again)
            assert (await read_ledger(store.client, keys)).version == 2

    asyncio.run(main())
