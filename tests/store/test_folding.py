"""One call of the folding script, on a real store: what moves, what stays, and that it moves once.

Law: SEMANTICS 11; the contract is the head of lua/fold.lua.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gateway.store import folding
from gateway.store.folding import Folds, Moved, portions
from gateway.store.opening import Store
from tests.stores.homes import Home

MONTH = 202401
UNITS_MAX = 2**53 - 1
_numbers = iter(range(1_000))

Fields = dict[str, int]


class House:
    """An instance of a test's own; only what folding looks at is there."""

    def __init__(self, store: Store) -> None:
        self.client = store.client
        self.keys = store.catalogues.keys(f"FOLD-{next(_numbers)}")
        self.folds = Folds(store.client, store.scripts, self.keys)

    async def write(self, **fields: int) -> None:
        """Write fields of days, spelt L1_20240105_u and L1_20240105_d_CODE."""
        named = {name.replace("_", "|").replace("|d|", "|d:"): n for name, n in fields.items()}
        await self.client.hset(self.keys.days(MONTH), mapping=dict(named))

    async def read(self) -> tuple[Fields, Fields, int]:
        """Give the days, the months and the number of folds."""
        days, months = [
            {name.decode(): int(value) for name, value in (await self.client.hgetall(key)).items()}
            for key in (self.keys.days(MONTH), self.keys.month(MONTH))
        ]
        return days, months, int(await self.client.hget(self.keys.ledger, "folds") or 0)


At = Callable[[Callable[[House], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    with asyncio.Runner() as runner:
        opened = shared_home.open(partitions=8)
        store = runner.run(opened.__aenter__())

        def run(story: Callable[[House], Awaitable[None]]) -> None:
            async def told() -> None:
                await story(House(store))

            runner.run(told())

        try:
            yield run
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_units_and_denials_are_added_peaks_are_the_greatest_and_seats_the_latest(at: At) -> None:
    async def story(house: House) -> None:
        await house.write(
            **{"L1_20240105_u": 5, "L1_20240131_u": -2, "L1_20240131_b": 2, "L2_20240102_p": 9},
            **{"L2_20240102_h": 1, "L2_20240120_p": 4, "L2_20240120_h": 3, "L2_20240119_h": 8},
            **{"L2_20240102_d_CODE": 1, "L2_20240103_d_CODE": 2, "_20240101_d_OTHER": 4},
        )
        assert await house.folds.fold(MONTH) == Moved(lines=3, moved=3, left=False)
        days, months, folds = await house.read()
        assert (days, folds) == ({}, 1)
        assert not await house.client.exists(house.keys.days(MONTH))
        assert months == {
            "L1|202401|u": 3,
            "L1|202401|b": 2,
            "L2|202401|p": 9,
            "L2|202401|h": 3,
            "L2|202401|d:CODE": 3,
            "|202401|d:OTHER": 4,
        }

    at(story)


def test_what_comes_late_is_added_to_what_was_folded(at: At) -> None:
    """Units are added, a lower peak changes nothing, and the seats are those after it."""

    async def story(house: House) -> None:
        await house.write(L1_20240105_u=5, L2_20240131_p=9, L2_20240131_h=7)
        await house.folds.fold(MONTH)
        await house.write(L1_20240107_u=-5, L1_20240107_b=5, L2_20240131_p=7, L2_20240131_h=0)
        assert (await house.folds.fold(MONTH)).moved == 2
        days, months, folds = await house.read()
        assert (days, folds) == ({}, 2)
        assert months == {
            "L1|202401|u": 0,
            "L1|202401|b": 5,
            "L2|202401|p": 9,
            "L2|202401|h": 0,
        }

    at(story)


def test_a_repeat_moves_nothing_more(at: At) -> None:
    """Also when it is sent again with the fields that it has moved."""

    async def story(house: House) -> None:
        await house.write(L1_20240105_u=5, L1_20240106_u=6, L2_20240105_u=1)
        lines, _ = await house.folds._lines(MONTH, 10)
        assert (await house.folds.fold(MONTH)).moved == 2
        before = await house.read()
        keys = house.keys
        reply = await house.folds.scripts.fold.run(
            house.client,
            [keys.days(MONTH), keys.month(MONTH), keys.ledger],
            [MONTH, folding._encode(lines)],
        )
        assert reply == 0
        assert await house.folds.fold(MONTH) == Moved(lines=0, moved=0, left=False)
        assert await house.read() == before

    at(story)


def test_a_sum_that_could_not_be_told_exactly_is_not_made(at: At) -> None:
    async def story(house: House) -> None:
        await house.write(
            L1_20240105_b=UNITS_MAX, L1_20240106_b=1, L1_20240106_u=1, L2_20240105_u=UNITS_MAX
        )
        assert await house.folds.fold(MONTH) == Moved(lines=2, moved=1, left=False)
        days, months, _ = await house.read()
        assert sorted(days) == ["L1|20240105|b", "L1|20240106|b", "L1|20240106|u"]
        assert months == {"L2|202401|u": UNITS_MAX}

    at(story)


def test_a_visit_takes_some_lines_and_all_that_they_have(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_SCAN_FIELDS", 50)

    async def story(house: House) -> None:
        lines = [f"L{number}" for number in range(20)]
        fields = {f"{line}_202401{day:02d}_u": 1 for line in lines for day in range(1, 32)}
        await house.write(**fields)
        for left in (True, True, False):
            before = {name.split("|")[0] for name in (await house.read())[0]}
            done = await house.folds.fold(MONTH, lines_max=7)
            after = {name.split("|")[0] for name in (await house.read())[0]}
            assert done == Moved(lines=min(7, len(before)), moved=min(7, len(before)), left=left)
            assert len(before) - len(after) == done.moved
            assert all(units == 31 for units in (await house.read())[1].values())
        assert (await house.read())[0] == {}

    at(story)


def test_a_line_is_never_cut_between_two_calls() -> None:
    lines = [(f"L{number}", [f"f{field}" for field in range(10)]) for number in range(7)]
    cut = list(portions(lines, fields_max=25))
    assert [len(some) for some in cut] == [3, 3, 1]
    assert [line for some in cut for line in some] == lines
    assert list(portions([])) == []


def test_the_last_month_that_was_folded_is_told(at: At) -> None:
    """It never goes back, also where a late lapse is folded into an earlier one."""

    async def story(house: House) -> None:
        client, keys = house.client, house.keys
        assert await client.hget(keys.ledger, "folded") is None
        for month, last in ((202312, b"202312"), (MONTH, b"202401"), (202312, b"202401")):
            await house.folds.fold(month)
            await client.hset(keys.days(month), f"L1|{month}05|u", 1)
            await house.folds.fold(month)
            assert await client.hget(keys.ledger, "folded") == last
        assert await client.hgetall(keys.month(202312)) == {b"L1|202312|u": b"2"}
        assert await client.hgetall(keys.month(MONTH)) == {b"L1|202401|u": b"1"}

    at(story)


def test_months_that_have_no_days_are_not_listed(at: At) -> None:
    async def story(house: House) -> None:
        await house.write(L1_20240105_u=5)
        assert await house.folds.with_days([202312, MONTH, 202402]) == [MONTH]
        assert await house.folds.with_days([]) == []
        assert await house.folds.moments() == (0, 0)

    at(story)
