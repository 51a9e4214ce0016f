"""The record of usage is read whole: across pages, folded months, and a fold under way.

Law: SEMANTICS 11; what a fold moves is in the days or in the months, and is told once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.errors import Unavailable
from gateway.store import usage
from gateway.store.opening import Store, open_store
from gateway.store.usage import Month, Record

LINES = 40
_numbers = iter(range(1_000))


class House:
    """An instance of a test's own, whose record is written and folded from behind."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = store.catalogues.keys(f"RECORD-{next(_numbers)}")
        self.record = Record(store.client, self.keys)

    async def write(self, month: int, fields: dict[str, int]) -> None:
        await self.store.client.hset(self.keys.days(month), mapping=dict(fields))

    async def fold(self, month: int, line: str) -> None:
        """Move what a line has of a month, in one step."""
        client, keys = self.store.client, self.keys
        found: Any = await client.hkeys(keys.days(month))
        mine = [name.decode() for name in found if name.startswith(line.encode() + b"|")]
        moved = await self.store.scripts.fold.run(
            client,
            [keys.days(month), keys.months, keys.ledger],
            [month, msgspec.msgpack.encode([(line, mine)])],
        )
        assert moved == 1


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    with asyncio.Runner() as runner:
        opened = open_store("embedded", tmp_path_factory.mktemp("record"), partitions=8)
        store = runner.run(opened.__aenter__())

        def run(story: Callable[[House], Awaitable[None]]) -> None:
            async def told() -> None:
                await story(House(store))

            runner.run(told())

        try:
            yield run
        finally:
            runner.run(opened.__aexit__(None, None, None))


def units(month: Month) -> Counter[str]:
    sums: Counter[str] = Counter()
    for portion in month.portions():
        for name, value in portion:
            if name.endswith(b"|u"):
                sums[name.decode().split("|")[0]] += int(value)
    return sums


def of_month(month: int, each: int = 1) -> dict[str, int]:
    return {
        f"L{line}|{month}{day:02d}|u": each * line for line in range(LINES) for day in range(1, 29)
    }


EXPECTED = Counter({f"L{line}": 28 * line for line in range(LINES)})


@contextmanager
def between_reads(monkeypatch: pytest.MonkeyPatch, story: Callable[[], Awaitable[None]]) -> Any:
    """Do something each time a page of days was read, before the reader goes on."""
    real = usage.steps

    async def spied(client: Any, key: str, **how: Any) -> Any:
        async for fields in real(client, key, **how):
            yield fields
            if ":days:" in key:
                await story()

    with monkeypatch.context() as patched:
        patched.setattr(usage, "steps", spied)
        yield


def test_a_month_of_many_pages_is_read_once(
    at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "PAGE_FIELDS", 100)

    async def story(house: House) -> None:
        await house.write(202602, of_month(202602))
        await house.record.begin(202602)
        month = await house.record.month(202602)
        assert units(month) == +EXPECTED
        assert max(len(portion) for portion in month.portions()) <= 100
        assert not month.folded

    at(story)


def test_what_is_folded_is_read_where_it_is(at: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        for month in (202601, 202602):
            await house.write(month, of_month(month))
        for line in range(LINES):
            await house.fold(202601, f"L{line}")
        await house.record.begin(202601)
        assert house.record.folded == 202601
        january, february = [await house.record.month(month) for month in (202601, 202602)]
        assert (january.folded, february.folded) == (True, False)
        assert units(january) == units(february) == +EXPECTED

    at(story)


def test_what_is_folded_while_it_is_read_is_told_once(
    at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines move one by one between the reads, as when compaction runs, or goes on after a kill."""

    async def story(house: House) -> None:
        for month in (202601, 202602):
            await house.write(month, of_month(month))
        await house.fold(202601, "L1")
        await house.record.begin(202601)
        waiting = iter(["L2", "L3", "L4"])

        async def fold_one() -> None:
            line = next(waiting, None)
            if line:
                await house.fold(202601, line)

        with between_reads(monkeypatch, fold_one):
            january = await house.record.month(202601)
            february = await house.record.month(202602)
        assert next(waiting, None) is None
        assert units(january) == units(february) == +EXPECTED
        assert january.folded

    at(story)


def test_what_comes_late_and_is_folded_while_it_is_read_is_told_once(
    at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fields are in the months already, so that these do not grow."""

    async def story(house: House) -> None:
        await house.write(202601, {"L1|20260105|u": 7})
        await house.fold(202601, "L1")
        await house.write(202601, {"L1|20260131|u": -2})
        await house.record.begin(202601)
        await house.fold(202601, "L1")
        assert units(await house.record.month(202601)) == Counter({"L1": 5})

    at(story)


def test_a_fold_that_never_stops_is_an_error_and_no_wrong_sum(
    at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        monkeypatch.setattr(usage, "TRY_PAUSE_S", 0)
        await house.write(202601, of_month(202601))
        await house.record.begin(202601)
        number = iter(range(1, LINES))

        async def fold_one() -> None:
            await house.fold(202601, f"L{next(number)}")

        await house.write(202602, of_month(202602))
        with between_reads(monkeypatch, fold_one):
            with pytest.raises(Unavailable):
                await house.record.month(202601)
            # A month that is not being folded is read all the same.
            february = await house.record.month(202602)
        assert units(february) == +EXPECTED
        assert not february.folded

    at(story)


def test_seats_held_are_found_however_long_ago_they_moved(at: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        lines = ("NEVER", "FOLDED", "OLD", "NEW", "LATER", "BEFORE")
        for line in lines[1:]:
            await house.store.client.hset(house.keys.used, f"{line}|0", 9)
        await house.write(202401, {"FOLDED|20240107|h": 4, "FOLDED|20240107|p": 8})
        await house.fold(202401, "FOLDED")
        await house.write(202501, {"OLD|20250107|h": 3, "OLD|20250105|h": 7, "NEW|20250101|h": 5})
        await house.write(202603, {"NEW|20260301|h": 2, "NEW|20260302|h": 1})
        await house.write(202604, {"LATER|20260401|h": 6})
        await house.write(202301, {"BEFORE|20230101|h": 6})
        await house.record.begin(202604)
        held = await house.record.held_before(202604, 202401, lines)
        assert {line: seats for line, seats in held.items() if seats} == {
            "FOLDED": 4,
            "OLD": 3,
            "NEW": 1,
        }
        assert await house.record.held_before(202604, 202401, ()) == {}
        assert (await house.record.held_before(202402, 202401, lines))["FOLDED"] == 4
        assert (await house.record.held_before(202401, 202401, lines))["FOLDED"] == 0

    at(story)


def test_the_clock_is_never_before_the_last_transaction(at: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        assert (await house.record.clock()).since_ms == 0
        future_ms = 4_000_000_000_000
        mapping = {"last_ms": future_ms, "since_ms": 5}
        await house.store.client.hset(house.keys.ledger, mapping=mapping)
        clock = await house.record.clock()
        assert (clock.now_ms, clock.since_ms) == (future_ms, 5)
        await house.store.client.hset(house.keys.ledger, "last_ms", 7)
        assert 1_700_000_000_000 < (await house.record.clock()).now_ms < future_ms

    at(story)


def test_a_store_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=8) as store:
            record = Record(store.client, store.catalogues.keys("DEMO"))
        with pytest.raises(Unavailable):
            await record.begin(202601)

    asyncio.run(main())
