"""What the reads of features find in the store is all of it, and nothing that has lapsed."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Any

import msgspec
import pytest

from gateway.core.numbers import served_number
from gateway.store import reads
from gateway.store.keys import InstanceKeys
from gateway.store.reads import (
    Bounds,
    Served,
    read_holders,
    read_last_seen,
    read_standing,
    read_undoable,
)
from tests.stores.homes import Home

NOW_MS = 1_800_000_000_000
Story = Callable[[Any, InstanceKeys], Awaitable[None]]
Told = Callable[[Story], None]


@pytest.fixture(scope="module")
def told(shared_home: Home) -> Iterator[Told]:
    """Run a story with a client of a real store, and the keys of an instance of its own."""
    numbers = itertools.count(1)
    with asyncio.Runner() as runner:
        opened = shared_home.open(partitions=4)
        store = runner.run(opened.__aenter__())

        async def tell(story: Story) -> None:
            await story(store.client, InstanceKeys(f"I{next(numbers)}", 4))

        try:
            yield lambda story: runner.run(tell(story))
        finally:
            runner.run(opened.__aexit__(None, None, None))


def holds(*each: tuple[str, int, int]) -> bytes:
    return msgspec.msgpack.encode([(*hold, 2) for hold in each])


def consumed(*each: tuple[int, int]) -> bytes:
    """Pack consumptions of (last moment, units)."""
    return b"".join(struct.pack("<ddd24s", at_ms, at_ms, units, b"0") for at_ms, units in each)


async def holders(
    client: Any, keys: InstanceKeys, after: int = 0, most: int = 1_000
) -> list[tuple[int, Served]]:
    return await read_holders(client, keys, "L1", Bounds(after, most, NOW_MS, inf))


def test_an_instance_that_never_was_stands_at_nothing(told: Told) -> None:
    async def story(client: Any, keys: InstanceKeys) -> None:
        standing = await read_standing(client, keys)
        assert (standing.version, standing.at_ms, standing.since_ms) == (0, 0, 0)
        assert standing.settled
        assert standing.used("L1", "0") == 0
        assert await holders(client, keys) == []
        assert await read_last_seen(client, keys, []) == {}

    told(story)


def test_an_instance_is_settled_when_nothing_lapsed_is_left_to_sweep(told: Told) -> None:
    async def story(client: Any, keys: InstanceKeys) -> None:
        await client.hset(keys.cat, "version", 3)
        await client.hset(keys.ledger, mapping={"last_ms": NOW_MS, "since_ms": 5})
        await client.hset(keys.used, mapping={"L1|0": 7, "L1|m20260101": 9})
        await client.zadd(keys.lapse, {"STRING:h1": NOW_MS + 1})
        standing = await read_standing(client, keys)
        assert (standing.version, standing.at_ms, standing.since_ms) == (3, NOW_MS, 5)
        assert (standing.used("L1", "0"), standing.used("L1", "m20260101")) == (7, 9)
        assert standing.settled
        await client.zadd(keys.lapse, {"STRING:h2": NOW_MS})
        assert not (await read_standing(client, keys)).settled

    told(story)


def test_holders_are_those_who_hold_some_of_the_line_now(told: Told) -> None:
    async def story(client: Any, keys: InstanceKeys) -> None:
        mapping = {
            "STRING:lasting": holds(("L1", 2, 0)),
            "STRING:later": holds(("L2", 1, 0), ("L1", 3, NOW_MS + 1)),
            "STRING:lapsed": holds(("L1", 4, NOW_MS)),
            "USER:other": holds(("L10", 5, 0)),
        }
        await client.hset(keys.holds, mapping=mapping)
        found = await holders(client, keys)
        assert {each.host: each for _, each in found} == {
            "STRING:lasting": Served("STRING:lasting", 2, NOW_MS),
            "STRING:later": Served("STRING:later", 3, NOW_MS),
        }

    told(story)


def test_pages_by_number_show_every_host_once(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "STEP_HOSTS", 50)

    async def story(client: Any, keys: InstanceKeys) -> None:
        hosts = [f"STRING:host-{number}" for number in range(1_500)]
        await client.hset(keys.holds, mapping={host: holds(("L1", 1, 0)) for host in hosts})
        expected = sorted(served_number("L1", host) for host in hosts)
        assert [number for number, _ in await holders(client, keys, most=2_000)] == expected
        found: list[int] = []
        while page := await holders(client, keys, after=found[-1] if found else 0, most=400):
            assert len(page) <= 400
            found += [number for number, _ in page]
        assert found == expected

    told(story)


def test_a_walk_holds_nobody_up_for_more_than_a_step(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    number_of, turns = served_number, itertools.count()

    def numbered(line: str, host: str) -> int:
        steps.append(turn)
        return number_of(line, host)

    async def others() -> None:
        nonlocal turn
        while True:
            turn = next(turns)
            await asyncio.sleep(0)

    turn = 0
    monkeypatch.setattr(reads, "served_number", numbered)

    async def story(client: Any, keys: InstanceKeys) -> None:
        hosts = [f"STRING:host-{number}" for number in range(3_000)]
        await client.hset(keys.holds, mapping={host: holds(("L1", 1, 0)) for host in hosts})
        waiting = asyncio.create_task(others())
        assert len(await holders(client, keys, most=10)) == 10
        waiting.cancel()
        assert len(steps) >= 3_000
        # The store gives some more than it is asked for, where fields meet in its table.
        assert max(Counter(steps).values()) < 2 * 250

    told(story)


def test_what_can_be_undone_is_what_was_consumed_inside_the_interval(told: Told) -> None:
    async def story(client: Any, keys: InstanceKeys) -> None:
        mapping = {
            "L1|STRING:h|1": consumed((NOW_MS - 11, 100), (NOW_MS - 10, 5), (NOW_MS - 1, 2)),
            "L1|STRING:late": consumed((NOW_MS - 11, 100)),
            "L10|STRING:h1": consumed((NOW_MS, 100)),
            "XL1|STRING:h1": consumed((NOW_MS, 100)),
        }
        await client.hset(keys.undo, mapping=mapping)
        found = await read_undoable(client, keys, "L1", 10, Bounds(0, 9, NOW_MS, inf))
        assert found == [(served_number("L1", "STRING:h|1"), Served("STRING:h|1", 7, NOW_MS - 1))]

    told(story)


def test_a_host_that_was_forgotten_has_not_been_seen(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PART_HOSTS", 2)

    async def story(client: Any, keys: InstanceKeys) -> None:
        await client.zadd(keys.seen, {"STRING:h1": NOW_MS, "STRING:h3": 5})
        found = await read_last_seen(client, keys, ["STRING:h1", "STRING:h2", "STRING:h3"])
        assert found == {"STRING:h1": NOW_MS, "STRING:h3": 5}

    told(story)
