"""What a drawn history of the outbox seldom reaches: its ends of numbers, its sizes, its errors.

Each on a real store, and each with the ledger's equation and every key looked at afterwards.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.core.decisions import Decision, Fate
from gateway.core.errors import Unavailable
from gateway.core.model import UNITS_MAX, Attachment, Catalogue, Line, Model
from gateway.core.ports import Mark, Standing, Step
from gateway.core.usage import BATCH_ROWS_MAX, Batch, Row
from gateway.store.asides import Asides
from gateway.store.durability import wait_for
from gateway.store.keys import InstanceKeys
from gateway.store.outbox import ASIDE_MAX, RedisOutbox
from tests.stores.homes import Home

INSTANCE, UP, HOLDER = "DEMO", "up", "a:1"
VERSION = 1
LINES = tuple(
    Line(id=name, feature=name, version="1.0", model=Model.METERED, count=9, capacity=9)
    for name in ("L1", "L2")
)
DECISION = Decision("ann", "decide", "the invoice says so", UP)


@dataclass
class Desk:
    """One outbox, what is known of its rows, and the law that holds over them."""

    outbox: RedisOutbox
    asides: Asides
    keys: InstanceKeys

    async def put(self, *rows: Row) -> None:
        """Have usage wait, as if it had just been acknowledged."""
        client, sums, fields = self.outbox.client, Counter[str](), dict[str, int]()
        for row in rows:
            sums[row.line] += row.units
            fields[f"{row.line}|{row.hour}" + (f"|{row.host}" if row.host else "")] = row.units
        await client.hset(self.keys.open(UP), mapping=dict(fields))
        for line, units in sums.items():
            await client.hincrby(self.keys.ledger, f"acked|{line}", units)
            await client.hincrby(self.keys.ledger, f"open|{line}|{UP}", units)

    async def seal(self, *rows: Row, name: str = "b1") -> Batch:
        batch = Batch(name, UP, INSTANCE, rows, b"body of " + name.encode())
        assert await self.outbox.seal(HOLDER, batch, VERSION) == (Step.DONE, batch)
        return batch

    async def ledger(self) -> dict[str, int]:
        found: Any = await self.outbox.client.hgetall(self.keys.ledger)
        return {name.decode(): int(units) for name, units in found.items()}

    async def places(self, line: str = "L1") -> dict[str, int]:
        """Say where a line's units are; together they are what was acknowledged."""
        ledger = await self.ledger()
        words = ("base", "open", "sealed", "forwarded", "parked", "dead")
        places = {word: ledger.get(f"{word}|{line}|{UP}", 0) for word in words}
        assert ledger.get(f"acked|{line}", 0) == sum(places.values())
        return {word: units for word, units in places.items() if units}

    async def dump(self) -> dict[str, Any]:
        """Read every key of the partition as the store has it, to see that nothing moved."""
        client = self.outbox.client
        names: Any = await client.keys(f"gw:{self.keys.tag}:*")
        return {name.decode(): await self._content(name) for name in sorted(names)}

    async def _content(self, name: bytes) -> Any:
        """Read a key of any kind: how a server packs it may change by itself."""
        client = self.outbox.client
        match await client.type(name):
            case b"hash":
                return await client.hgetall(name)
            case b"zset":
                return await client.zrange(name, 0, -1, withscores=True)
            case b"set":
                return await client.smembers(name)
            case b"stream":
                return await client.xrange(name)
        return await client.get(name)


@asynccontextmanager
async def open_desk(home: Home, fsync: bool) -> AsyncIterator[Desk]:
    ack = "local" if fsync else "written"
    async with home.open(partitions=4, ack=ack) as store:
        catalogue = Catalogue(id=INSTANCE, lines=LINES, upstreams=(Attachment(UP, by_host=True),))
        await store.catalogues.put(catalogue)
        wait = wait_for("local" if fsync else "written", 1)
        said = (store.topology, store.scripts, store.partitions, wait)
        outbox = RedisOutbox(*said)
        keys = store.catalogues.keys(INSTANCE)
        assert await outbox.take_lease(keys.partition, HOLDER, 60_000)
        yield Desk(outbox, Asides(*said), keys)


def at_desk(home: Home, story: Callable[[Desk], Awaitable[None]], *, fsync: bool = False) -> None:
    async def run() -> None:
        async with open_desk(home, fsync) as desk:
            await story(desk)

    asyncio.run(run())


async def set_aside(desk: Desk, batch: Batch, standing: Standing = Standing.PARKED) -> None:
    assert await desk.outbox.set_aside(HOLDER, batch, standing, "why") is Step.DONE


async def settle(desk: Desk, batch: Batch) -> None:
    await desk.outbox.settle(HOLDER, batch)


async def refuse(desk: Desk, batch: Batch) -> None:
    await desk.outbox.refuse(HOLDER, batch, [0], [Mark("L1", "", "why", 1, 2)])


@pytest.mark.parametrize(
    ("step", "place"),
    [(settle, "forwarded"), (set_aside, "parked"), (refuse, "parked")],
)
def test_units_out_of_range_are_an_error_and_nothing_moves(
    home: Home, step: Callable[[Desk, Batch], Awaitable[None]], place: str
) -> None:
    async def story(desk: Desk) -> None:
        row, other = Row("L1", 1, "h", 5), Row("L2", 1, "h", 7)
        await desk.put(row, other)
        batch = await desk.seal(row, other)
        await desk.outbox.client.hset(desk.keys.ledger, f"{place}|L1|{UP}", UNITS_MAX - 4)
        before = await desk.dump()
        with pytest.raises(Unavailable):
            await step(desk, batch)
        assert before == await desk.dump()
        await desk.outbox.client.hset(desk.keys.ledger, f"{place}|L1|{UP}", UNITS_MAX - 5)
        await step(desk, batch)
        assert (await desk.ledger())[f"{place}|L1|{UP}"] == UNITS_MAX

    at_desk(home, story)


def test_a_decision_out_of_range_is_neither_carried_out_nor_recorded(home: Home) -> None:
    async def story(desk: Desk) -> None:
        row = Row("L1", 1, "h", 5)
        await desk.put(row)
        await set_aside(desk, await desk.seal(row))
        await desk.outbox.client.hset(desk.keys.ledger, f"dead|L1|{UP}", UNITS_MAX - 4)
        before = await desk.dump()
        with pytest.raises(Unavailable):
            await desk.asides.decide(INSTANCE, Fate.DEAD, "b1", DECISION)
        assert before == await desk.dump()

    at_desk(home, story)


def test_a_batch_of_all_rows_it_may_have_goes_every_way(home: Home) -> None:
    """Each row has a host of its own, so that every step writes thousands of fields."""
    rows = tuple(Row("L1", 490_000 + n, f"string:h{n}", n + 1) for n in range(BATCH_ROWS_MAX))
    units = sum(row.units for row in rows)

    async def story(desk: Desk) -> None:
        outbox, ways = desk.outbox, ((Standing.PARKED, Fate.OPEN), (Standing.DEAD, Fate.OPEN))
        await desk.put(*rows)
        for number, (standing, fate) in enumerate(ways):
            await set_aside(desk, await desk.seal(*rows, name=f"b{number}"), standing)
            assert await desk.places() == {standing: units}
            assert await desk.asides.decide(INSTANCE, fate, f"b{number}", DECISION)
            assert await desk.places() == {"open": units}
        batch = await desk.seal(*rows, name="refused")
        marks = [Mark(row.line, row.host, "why", 1, 2) for row in rows]
        assert await outbox.refuse(HOLDER, batch, range(len(rows)), marks) is Step.DONE
        assert await desk.places() == {"parked": units}
        assert await outbox.unblock(HOLDER, INSTANCE, UP, marks) is Step.DONE
        assert (await outbox.marks(INSTANCE, UP))[0] == []
        assert sorted(rows) == sorted(await outbox.open_rows(INSTANCE, UP, 10_000))
        batch = await desk.seal(*rows, name="whole")
        half = len(rows) // 2
        first, second = (
            Batch(name, UP, INSTANCE, part, b"half")
            for name, part in (("first", rows[:half]), ("second", rows[half:]))
        )
        assert await outbox.split(HOLDER, batch, first, second) is Step.DONE
        assert await outbox.settle(HOLDER, first) is Step.DONE
        assert await outbox.sealed(INSTANCE, UP) == second
        assert await outbox.settle(HOLDER, second) is Step.DONE
        assert await desk.places() == {"forwarded": units}

    at_desk(home, story)


def test_a_line_with_more_blocked_rows_than_one_call_moves_is_released_whole(
    home: Home,
) -> None:
    rows = tuple(Row("L1", n, "", 1) for n in range(2 * BATCH_ROWS_MAX + 5))

    async def story(desk: Desk) -> None:
        await desk.put(*rows)
        for start in range(0, len(rows), BATCH_ROWS_MAX):
            batch = await desk.seal(*rows[start : start + BATCH_ROWS_MAX], name=f"b{start}")
            places = range(len(batch.rows))
            mark = Mark("L1", "", "why", 1, 2)
            assert await desk.outbox.refuse(HOLDER, batch, places, [mark]) is Step.DONE
        (blocked,) = await desk.asides.blocked(INSTANCE, UP)
        await desk.asides.release(blocked, Fate.DEAD, DECISION)
        assert await desk.places() == {"dead": len(rows)}
        assert await desk.asides.blocked(INSTANCE, UP) == []
        noted = [each.units for each in await desk.asides.decisions(INSTANCE)]
        assert noted == ["L1=5", f"L1={BATCH_ROWS_MAX}", f"L1={BATCH_ROWS_MAX}"]

    at_desk(home, story)


def test_a_release_that_is_repeated_is_recorded_once(home: Home) -> None:
    async def story(desk: Desk) -> None:
        row = Row("L1", 1, "h", 5)
        await desk.put(row)
        await refuse(desk, await desk.seal(row))
        (blocked,) = await desk.asides.blocked(INSTANCE, UP)
        await desk.asides.release(blocked, Fate.OPEN, DECISION)
        before = await desk.dump()
        await desk.asides.release(blocked, Fate.OPEN, DECISION)
        await desk.asides.release(blocked, Fate.DEAD, DECISION)
        assert before == await desk.dump()
        assert len(await desk.asides.decisions(INSTANCE)) == 1

    at_desk(home, story)


def test_bars_in_a_host_and_in_an_id_are_theirs(home: Home) -> None:
    rows = (Row("L1", 1, "user:a|b|7", 5), Row("L1", 1, "user:a|b", 3), Row("L2", 1, "user:|", 2))

    async def story(desk: Desk) -> None:
        await desk.put(*rows)
        batch = await desk.seal(*rows)
        marks = [Mark("L1", "user:a|b", "why", 1, 2), Mark("L2", "user:|", "why", 1, 2)]
        assert await desk.outbox.refuse(HOLDER, batch, [1, 2], marks) is Step.DONE
        assert await desk.places() == {"open": 5, "parked": 3}
        found, _ = await desk.outbox.marks(INSTANCE, UP)
        assert sorted(mark.scope for mark in found) == [("L1", "user:a|b"), ("L2", "user:|")]
        assert await desk.outbox.unblock(HOLDER, INSTANCE, UP, marks[:1]) is Step.DONE
        (blocked,) = await desk.asides.blocked(INSTANCE, UP)
        assert blocked.rows == rows[2:]
        await set_aside(desk, await desk.seal(*rows[:2], name="id|with|bars"))
        (aside,) = await desk.asides.batches(INSTANCE, UP)
        assert (aside.id, aside.rows) == ("id|with|bars", rows[:2])
        assert await desk.asides.decide(INSTANCE, Fate.FORWARDED, aside.id, DECISION)
        assert await desk.places() == {"forwarded": 8}
        assert await desk.places("L2") == {"parked": 2}

    at_desk(home, story)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((Row("L1", 1, "h", 5),), ()),
        ((Row("L1", 1, "h", 5),), (Row("L1", 2, "h", 2),)),
        ((Row("L1", 1, "h", 5),), (Row("L1", 2, "h", 3), Row("L2", 2, "h", 1))),
        ((Row("L1", 1, "h", 5),), (Row("L1", 2, "i", 3),)),
    ],
)
def test_halves_that_are_not_the_whole_are_an_error_and_nothing_moves(
    home: Home, first: tuple[Row, ...], second: tuple[Row, ...]
) -> None:
    async def story(desk: Desk) -> None:
        rows = (Row("L1", 1, "h", 5), Row("L1", 2, "h", 3))
        await desk.put(*rows)
        batch = await desk.seal(*rows)
        halves = [
            Batch(name, UP, INSTANCE, part, b"") for name, part in (("a", first), ("b", second))
        ]
        before = await desk.dump()
        with pytest.raises(Unavailable):
            await desk.outbox.split(HOLDER, batch, *halves)
        assert before == await desk.dump()

    at_desk(home, story)


def test_when_all_places_are_taken_the_batch_stays_where_it_is(home: Home) -> None:
    async def story(desk: Desk) -> None:
        row, other = Row("L1", 1, "h", 1), Row("L1", 2, "h", 4)
        await desk.put(row, other)
        await set_aside(desk, await desk.seal(row))
        filler: dict[Any, Any] = {
            f"f{n}|{kind}": b"" for n in range(ASIDE_MAX - 1) for kind in ("rows", "body", "facts")
        }
        await desk.outbox.client.hset(desk.keys.aside(UP), mapping=filler)
        batch = await desk.seal(other, name="b2")
        before = await desk.dump()
        assert await desk.outbox.set_aside(HOLDER, batch, Standing.DEAD, "why") is Step.FULL
        assert before == await desk.dump()
        assert await desk.asides.decide(INSTANCE, Fate.FORWARDED, "b1", DECISION)
        await set_aside(desk, batch, Standing.DEAD)
        assert await desk.places() == {"forwarded": 1, "dead": 4}

    at_desk(home, story)


def test_every_step_waits_for_the_disk_at_a_level_that_asks_for_it(home: Home) -> None:
    """The store had forgotten its scripts, too: the wait goes with the second sending."""

    async def story(desk: Desk) -> None:
        outbox, rows = desk.outbox, (Row("L1", 1, "h", 5), Row("L2", 1, "h", 3))
        await desk.put(*rows)

        async def forget() -> None:
            await outbox.topology.client_of(desk.keys.cat).script_flush()

        await forget()
        batch = await desk.seal(*rows)
        halves = [Batch(row.line, UP, INSTANCE, (row,), b"half") for row in rows]
        await forget()
        assert await outbox.split(HOLDER, batch, *halves) is Step.DONE
        assert await outbox.split(HOLDER, batch, *halves) is Step.GONE
        await forget()
        assert await outbox.begin_attempt(HOLDER, halves[0], 1_000) is Step.DONE
        assert await outbox.clear_attempt(HOLDER, halves[0]) is Step.DONE
        await forget()
        mark = Mark("L1", "h", "why", 1, 2)
        assert await outbox.refuse(HOLDER, halves[0], [0], [mark]) is Step.DONE
        await forget()
        assert await outbox.unblock(HOLDER, INSTANCE, UP, [mark]) is Step.DONE
        await forget()
        await set_aside(desk, halves[1])
        assert await outbox.set_aside(HOLDER, halves[1], Standing.DEAD, "") is Step.GONE
        await forget()
        assert await desk.asides.decide(INSTANCE, Fate.FORWARDED, "L2", DECISION)
        assert not await desk.asides.decide(INSTANCE, Fate.DEAD, "L2", DECISION)
        assert await desk.places() == {"open": 5}
        assert await desk.places("L2") == {"forwarded": 3}

    at_desk(home, story, fsync=True)
