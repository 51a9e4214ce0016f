"""The record of usage is read whole: across pages, folded months, and a fold under way.

Law: SEMANTICS 11; what a fold moves is in the days or in the months, and is told once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import Unavailable
from gateway.store import usage
from gateway.store.opening import open_store
from gateway.store.usage import Record
from tests.store.record_house import (
    EXPECTED,
    LINES,
    At,
    House,
    between_reads,
    houses,
    of_month,
    units,
)
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    yield from houses(shared_home)


def test_a_month_of_many_pages_is_read_once(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "PAGE_FIELDS", 100)

    async def story(house: House) -> None:
        await house.write(202602, of_month(202602))
        await house.record.begin()
        month = await house.record.month(202602)
        assert units(month) == +EXPECTED
        assert max(len(portion) for portion in month.portions()) <= 100
        assert not month.folded

    at(story)


def test_what_is_folded_is_read_where_it_is(at: At) -> None:
    async def story(house: House) -> None:
        for month in (202601, 202602):
            await house.write(month, of_month(month))
        for line in range(LINES):
            await house.fold(202601, f"L{line}")
        await house.record.begin()
        assert house.record.folded == 202601
        january, february = [await house.record.month(month) for month in (202601, 202602)]
        assert (january.folded, february.folded) == (True, False)
        assert units(january) == units(february) == +EXPECTED

    at(story)


def test_what_is_folded_while_it_is_read_is_told_once(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines move one by one between the reads, as when compaction runs, or goes on after a kill."""

    async def story(house: House) -> None:
        for month in (202601, 202602):
            await house.write(month, of_month(month))
        await house.fold(202601, "L1")
        await house.record.begin()
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


@pytest.mark.parametrize("of", [":days:", ":month:"])
def test_a_line_that_moves_between_any_two_reads_is_told_once(
    at: At, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Neither is it missed where the month was read before, nor doubled where its days were."""

    async def story(house: House) -> None:
        await house.write(202601, of_month(202601))
        waiting = iter(["L2", "L3"])

        async def fold_one() -> None:
            line = next(waiting, None)
            if line:
                await house.fold(202601, line)

        with between_reads(monkeypatch, fold_one, of=of):
            january = await house.record.month(202601)
        assert next(waiting, None) is None
        assert (units(january), january.folded) == (+EXPECTED, True)

    at(story)


def test_of_many_folded_months_only_the_one_asked_for_is_read(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = usage.steps

    async def spied(client: Any, key: str, **how: Any) -> Any:
        read.append(key)
        async for fields in real(client, key, **how):
            yield fields

    async def story(house: House) -> None:
        for month in range(202501, 202513):
            await house.write(month, {f"L1|{month}01|u": month})
            await house.fold(month, "L1")
        monkeypatch.setattr(usage, "steps", spied)
        await house.record.begin()
        assert (house.record.folded, read) == (202512, [])
        assert units(await house.record.month(202507)) == Counter({"L1": 202507})
        assert units(await house.record.month(202601)) == Counter()
        keys = house.keys
        expected = [key(month) for month in (202507, 202601) for key in (keys.month, keys.days)]
        assert read == expected

    at(story)


def test_what_comes_late_and_is_folded_while_it_is_read_is_told_once(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fields are in the months already, so that these do not grow."""

    async def story(house: House) -> None:
        await house.write(202601, {"L1|20260105|u": 7})
        await house.fold(202601, "L1")
        await house.write(202601, {"L1|20260131|u": -2})
        await house.record.begin()
        await house.fold(202601, "L1")
        assert units(await house.record.month(202601)) == Counter({"L1": 5})

    at(story)


def test_a_fold_that_never_stops_is_an_error_and_no_wrong_sum(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        monkeypatch.setattr(usage, "TRY_PAUSE_S", 0)
        await house.write(202601, of_month(202601))
        await house.record.begin()
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


def test_the_clock_is_never_before_the_last_transaction(at: At) -> None:
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
            await record.begin()

    asyncio.run(main())
