"""The outbox on a real store: every step once, fenced by the lease, and the equation after each."""

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
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
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
from gateway.core.ports import Rest, Step
from gateway.core.usage import Batch, Row, choose_rows
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


@pytest.mark.parametrize("fsync", [False, True])
def test_usage_goes_from_open_over_sealed_to_forwarded(tmp_path: Path, fsync: bool) -> None:
    async def story(house: House) -> None:
        outbox = house.outbox
        assert await outbox.dirty() == {}
        await house.use("sessions", 42)
        await house.use("users", 7)
        await house.use("users", -3)
        assert await outbox.dirty() == {house.partition: [INSTANCE]}
        assert await house.sums() == {"L1": {"open": 42}, "L2": {"open": 4}}
        holder = await house.lease()
        batch = await house.seal(holder)
        assert {row.line: row.units for row in batch.rows} == {"L1": 42, "L2": 4}
        assert await house.sums() == {"L1": {"sealed": 42}, "L2": {"sealed": 4}}
        assert batch == await outbox.sealed(INSTANCE, UPSTREAM)
        assert (batch.body, batch.first_sent_ms, batch.attempts) == (b"body of b1", None, 0)
        assert await outbox.begin_attempt(holder, batch, HORIZON_MS) is Step.DONE
        noted = await outbox.sealed(INSTANCE, UPSTREAM)
        assert noted is not None
        assert noted.attempts == 1
        assert noted.first_sent_ms is not None
        assert await outbox.rest(INSTANCE, UPSTREAM) == Rest(0, "b1")
        assert await outbox.settle(holder, noted) is Step.DONE
        assert await house.sums() == {"L1": {"forwarded": 42}, "L2": {"forwarded": 4}}
        assert await outbox.rest(INSTANCE, UPSTREAM) == Rest(0, "")
        # The other upstream has its own outbox, which keeps the mark.
        assert await house.sums("hosts") == {"L1": {"open": 42}, "L2": {"open": 4}}
        rows = await outbox.open_rows(INSTANCE, "hosts", 100)
        assert {row.host for row in rows} == {"STRING:h1"}

    at_home(tmp_path, story, fsync=fsync)


def test_a_repeat_of_any_step_changes_nothing_and_says_so(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        outbox = house.outbox
        await house.use("sessions", 42)
        holder = await house.lease()
        assert await outbox.take_lease(house.partition, holder, TTL_MS)
        chosen = await house.choose()
        _, batch = await outbox.seal(holder, chosen)
        assert batch is not None
        before = await house.dump()
        assert await outbox.seal(holder, chosen) == (Step.GONE, batch)
        # Another choice does not replace what is sealed: what was promised to go goes first.
        other = Batch("b2", UPSTREAM, INSTANCE, (Row("L2", 1, "", 5),), b"other")
        assert await outbox.seal(holder, other) == (Step.GONE, batch)
        assert before == await house.dump()
        assert await outbox.begin_attempt(holder, batch, 0) is Step.DONE
        before = await house.dump()
        assert await outbox.begin_attempt(holder, batch, 0) is Step.DONE
        assert before == await house.dump()
        assert await outbox.clear_attempt(holder, batch) is Step.DONE
        before = await house.dump()
        assert await outbox.clear_attempt(holder, batch) is Step.DONE
        assert before == await house.dump()
        assert await outbox.settle(holder, batch) is Step.DONE
        before = await house.dump()
        assert await outbox.settle(holder, batch) is Step.GONE
        assert await outbox.begin_attempt(holder, batch, HORIZON_MS) is Step.GONE
        assert await outbox.clear_attempt(holder, batch) is Step.GONE
        assert before == await house.dump()
        assert await house.sums() == {"L1": {"forwarded": 42}, "L2": {}}
        assert await outbox.drop_lease(house.partition, holder)
        assert not await outbox.drop_lease(house.partition, holder)

    at_home(tmp_path, story)


def test_only_the_holder_of_the_lease_moves_anything(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        outbox = house.outbox
        await house.use("sessions", 42)
        old = await house.lease("a:1")
        assert not await outbox.take_lease(house.partition, "b:1", TTL_MS)
        assert not await outbox.keep_lease(house.partition, "b:1", TTL_MS)
        assert not await outbox.drop_lease(house.partition, "b:1")
        batch = await house.seal(old)
        assert await outbox.begin_attempt(old, batch, HORIZON_MS) is Step.DONE
        await house.lose_lease()
        assert not await outbox.keep_lease(house.partition, old, TTL_MS)
        # The same process under a new token is a new holder too.
        new = await house.lease("a:2")
        before = await house.dump()
        zombie_s = await house.choose("b2")
        assert await outbox.seal(old, zombie_s) == (Step.LEASE_LOST, None)
        assert await outbox.begin_attempt(old, batch, HORIZON_MS) is Step.LEASE_LOST
        assert await outbox.clear_attempt(old, batch) is Step.LEASE_LOST
        assert await outbox.settle(old, batch) is Step.LEASE_LOST
        assert not await outbox.drop_lease(house.partition, old)
        assert before == await house.dump()
        taken_over = await outbox.sealed(INSTANCE, UPSTREAM)
        assert taken_over is not None
        assert (taken_over.id, taken_over.body) == (batch.id, batch.body)
        assert await outbox.settle(new, taken_over) is Step.DONE
        assert await outbox.settle(old, batch) is Step.LEASE_LOST
        assert await house.sums() == {"L1": {"forwarded": 42}, "L2": {}}

    at_home(tmp_path, story)


def test_a_lease_lapses_by_itself_and_is_kept_by_renewal(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        key = PartitionKeys(house.partition).lease
        assert await house.outbox.take_lease(house.partition, "a:1", 400)
        assert await house.outbox.keep_lease(house.partition, "a:1", TTL_MS)
        assert 400 < await house.store.client.pttl(key) <= TTL_MS
        assert await house.outbox.keep_lease(house.partition, "a:1", 1)
        await eventually(lambda: house.outbox.take_lease(house.partition, "b:1", TTL_MS))
        assert not await house.outbox.keep_lease(house.partition, "a:1", TTL_MS)

    at_home(tmp_path, story)


def test_rows_that_change_after_they_were_read_keep_the_equation(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.use("users", 7)
        holder = await house.lease()
        chosen = await house.choose()
        await house.use("users", -7)
        await house.use("sessions", 1)
        assert (await house.outbox.seal(holder, chosen))[0] is Step.DONE
        assert await house.sums() == {"L1": {"open": 1}, "L2": {"open": -7, "sealed": 7}}
        await house.use("users", 2)
        assert await house.sums() == {"L1": {"open": 1}, "L2": {"open": -5, "sealed": 7}}
        assert await house.outbox.settle(holder, chosen) is Step.DONE
        assert await house.sums() == {"L1": {"open": 1}, "L2": {"open": -5, "forwarded": 7}}

    at_home(tmp_path, story)


def test_part_of_a_row_can_be_sealed(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        for _ in range(3):
            await house.use("sessions", 10**12)
        holder = await house.lease()
        batch = await house.seal(holder)
        assert [row.units for row in batch.rows] == [10**12]
        left = {"open": 2 * 10**12, "sealed": 10**12}
        assert await house.sums() == {"L1": left, "L2": {}}

    at_home(tmp_path, story)


def test_an_attempt_in_doubt_is_not_repeated_once_the_upstream_has_forgotten_it(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        outbox = house.outbox
        await house.use("sessions", 42)
        holder = await house.lease()

        async def sealed() -> Batch:
            batch = await outbox.sealed(INSTANCE, UPSTREAM)
            assert batch is not None
            return batch

        await house.seal(holder)
        # Not applied for sure: nothing is in doubt, also for an upstream that remembers nothing.
        for number in (1, 2):
            batch = await sealed()
            assert await outbox.begin_attempt(holder, batch, 0) is Step.DONE
            assert await outbox.clear_attempt(holder, batch) is Step.DONE
            after = await sealed()
            assert (after.attempts, after.first_sent_ms) == (number, None)
        # Unknown: in doubt from now on.
        assert await outbox.begin_attempt(holder, await sealed(), 0) is Step.DONE
        doubted = await sealed()
        before = await house.dump()
        assert await outbox.begin_attempt(holder, doubted, 0) is Step.IN_DOUBT
        assert before == await house.dump()
        # While it is remembered it goes again; that a later one was not applied settles no doubt.
        assert await outbox.begin_attempt(holder, doubted, HORIZON_MS) is Step.DONE
        assert await outbox.clear_attempt(holder, doubted) is Step.DONE
        again = await sealed()
        assert (again.attempts, again.first_sent_ms) == (4, doubted.first_sent_ms)
        assert again.first_sent_ms is not None
        key = house.store.catalogues.keys(INSTANCE).sealed(UPSTREAM)
        long_ago_ms = again.first_sent_ms - HORIZON_MS
        await house.store.client.hset(key, "first_sent_ms", long_ago_ms)
        assert await outbox.begin_attempt(holder, again, HORIZON_MS) is Step.IN_DOUBT
        # An attempt that was not counted here is none of ours.
        assert await outbox.begin_attempt(holder, doubted, 2**40) is Step.DONE  # repeat of the 4th
        assert await outbox.begin_attempt(holder, batch, 2**40) is Step.GONE

    at_home(tmp_path, story)


def test_the_mark_goes_only_when_every_outbox_is_empty(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        outbox, names = house.outbox, [UPSTREAM, "hosts"]
        version = house.index.catalogue.version
        await house.use("sessions", 42)
        holder = await house.lease()
        assert not await outbox.clean(INSTANCE, version, names)
        batch = await house.seal(holder)
        assert not await outbox.clean(INSTANCE, version, names)
        await outbox.settle(holder, batch)
        assert not await outbox.clean(INSTANCE, version, names)
        rows = tuple(await outbox.open_rows(INSTANCE, "hosts", 10))
        await outbox.seal(holder, Batch("b9", "hosts", INSTANCE, rows, b"x"))
        assert not await outbox.clean(INSTANCE, version, names)
        await outbox.settle(holder, Batch("b9", "hosts", INSTANCE, rows, b"x"))
        # In another version of the catalogue there may be an upstream that we do not know.
        assert not await outbox.clean(INSTANCE, version + 1, names)
        assert await outbox.dirty() == {house.partition: [INSTANCE]}
        assert await outbox.clean(INSTANCE, version, names)
        assert await outbox.dirty() == {}
        assert await outbox.clean(INSTANCE, version, names)

    at_home(tmp_path, story)


def test_an_upstream_attached_later_starts_from_that_moment(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        now = house.index.catalogue
        later = Attachment("later")
        attached = Catalogue(
            id=INSTANCE,
            version=now.version,
            default=True,
            lines=now.lines,
            upstreams=(*now.upstreams, later),
        )
        await house.store.catalogues.put(attached)
        index = await house.store.catalogues.read(INSTANCE)
        assert index is not None
        house.index = index
        await house.use("sessions", 5)
        assert await house.sums("later") == {"L1": {"base": 42, "open": 5}, "L2": {}}
        holder = await house.lease()
        rows = tuple(await house.outbox.open_rows(INSTANCE, "later", 10))
        batch = Batch("b1", "later", INSTANCE, rows, b"x")
        await house.outbox.seal(holder, batch)
        await house.outbox.settle(holder, batch)
        assert await house.sums("later") == {"L1": {"base": 42, "forwarded": 5}, "L2": {}}

    at_home(tmp_path, story)


def test_many_rows_are_read_and_sealed_whole(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        keys = house.store.catalogues.keys(INSTANCE)
        rows = tuple(Row("L1", hour, "STRING:a|b", 2) for hour in range(5_000))
        fields = {f"L1|{row.hour}|{row.host}": row.units for row in rows}
        await house.store.client.hset(keys.open("hosts"), mapping=fields)  # type: ignore[arg-type]
        await house.store.client.hset(keys.ledger, "open|L1|hosts", 10_000)
        await house.store.client.hset(keys.ledger, "acked|L1", 10_000)
        found = await house.outbox.open_rows(INSTANCE, "hosts", 10**6)
        assert sorted(found) == sorted(rows)
        assert 2_000 <= len(await house.outbox.open_rows(INSTANCE, "hosts", 2_000)) < 5_000
        holder = await house.lease()
        part = rows[:4_500]
        step, _ = await house.outbox.seal(holder, Batch("b1", "hosts", INSTANCE, part, b""))
        assert step is Step.DONE
        sums = await house.sums("hosts")
        assert sums == {"L1": {"open": 1_000, "sealed": 9_000}, "L2": {}}

    at_home(tmp_path, story)


def test_units_past_what_is_exact_are_refused_before_anything_moves(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        holder = await house.lease()
        rows = (Row("L2", 1, "", 5), Row("L1", 1, "", 2**53 - 1), Row("L1", 2, "", 2**53 - 1))
        before = await house.dump()
        with pytest.raises(Unavailable):
            await house.outbox.seal(holder, Batch("b1", UPSTREAM, INSTANCE, rows, b""))
        assert before == await house.dump()

    at_home(tmp_path, story)


def test_two_owners_race_and_each_unit_is_moved_once(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        outbox = house.outbox
        settled: list[str] = []

        async def owner(name: str) -> None:
            for turn in range(40):
                holder = f"{name}:{turn}"
                if not await outbox.take_lease(house.partition, holder, TTL_MS):
                    continue
                batch = await outbox.sealed(INSTANCE, UPSTREAM)
                if batch is None:
                    chosen = await house.choose(f"{name}-{turn}")
                    if chosen.rows:
                        _, batch = await outbox.seal(holder, chosen)
                if turn % 3 == 0:
                    await house.lose_lease()  # whoever has it by now
                if batch and await outbox.settle(holder, batch) is Step.DONE:
                    settled.append(batch.id)
                await outbox.drop_lease(house.partition, holder)

        async def client() -> None:
            for _ in range(40):
                await house.use("sessions", 1)

        await asyncio.gather(owner("a"), owner("b"), owner("c"), client())
        assert len(settled) == len(set(settled)) > 0
        sums = (await house.sums())["L1"]
        assert sum(sums.values()) == 40

    at_home(tmp_path, story)


def test_what_is_due_is_listed_by_partition(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        due = PartitionKeys(house.partition).due
        await house.store.client.zadd(due, {INSTANCE: 5_000, "LATER": 5_001})
        assert await house.outbox.due(4_999) == {}
        assert await house.outbox.due(5_000) == {house.partition: [INSTANCE]}

    at_home(tmp_path, story)


def test_scripts_that_the_store_forgot_are_sent_again(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        for fsync in (False, True):
            house.outbox.fsync = fsync
            await house.store.client.script_flush()
            holder = await house.lease(f"a:{fsync}")
            batch = await house.seal(holder, f"b{fsync}")
            await house.store.client.script_flush()
            assert await house.outbox.settle(holder, batch) is Step.DONE
            assert await house.outbox.drop_lease(house.partition, holder)
            await house.use("sessions", 1)

    at_home(tmp_path, story)


def test_a_step_that_is_not_safe_on_disk_is_not_taken_for_done(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        holder = await house.lease()
        house.outbox.fsync = True
        await house.store.client.config_set("appendonly", "no")  # then WAITAOF is an error
        with pytest.raises(Unavailable):
            await house.seal(holder)
        await house.store.client.config_set("appendonly", "yes")
        found = await house.outbox.sealed(INSTANCE, UPSTREAM)
        assert found is not None
        assert found.id == "b1"
        assert await house.sums() == {"L1": {"sealed": 42}, "L2": {}}

    at_home(tmp_path, story)


def test_a_store_that_is_away_is_said_in_our_words(tmp_path: Path) -> None:
    class Away:
        def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
            async def fail(*_: object, **__: object) -> None:
                raise StoreConnectionError("gone")

            return fail

    async def story(house: House) -> None:
        outbox = RedisOutbox(Away(), house.store.scripts, 4)  # type: ignore[arg-type]
        with pytest.raises(Unavailable) as caught:
            await outbox.sealed(INSTANCE, UPSTREAM)
        assert caught.value.outcome == "unknown"

    at_home(tmp_path, story)


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
    step_s = 0.005
    for _ in range(int(within_s / step_s)):
        if await condition():
            return
        await asyncio.sleep(step_s)
    pytest.fail(f"not within {within_s} s")
