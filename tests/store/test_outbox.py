"""The outbox on a real store: every step once, fenced by the lease, and the equation after each."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import (
    Attachment,
    Catalogue,
)
from gateway.core.ports import Rest, Step
from gateway.core.usage import Batch, Row
from gateway.store.keys import PartitionKeys
from tests.store.outbox_house import (
    HORIZON_MS,
    INSTANCE,
    TTL_MS,
    UPSTREAM,
    House,
    at_home,
    eventually,
)
from tests.stores.homes import Home


def test_a_refused_batch_goes_back_to_open_once(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        holder = await house.lease()
        batch = await house.seal(holder)
        await house.use("sessions", 8)
        assert await house.outbox.refuse("nobody:1", batch, [], []) is Step.LEASE_LOST
        assert (await house.sums())["L1"] == {"open": 8, "sealed": 42}
        assert await house.outbox.refuse(holder, batch, [], []) is Step.DONE
        assert (await house.sums())["L1"] == {"open": 50}
        assert await house.outbox.refuse(holder, batch, [], []) is Step.GONE
        assert (await house.sums())["L1"] == {"open": 50}
        assert await house.outbox.sealed(INSTANCE, UPSTREAM) is None
        rows = await house.outbox.open_rows(INSTANCE, UPSTREAM, 100)
        assert [row.units for row in rows] == [50]

    at_home(home, story)


def test_a_batch_whose_line_nets_to_nothing_goes_back_and_forth(home: Home) -> None:
    """Minus nothing is "-0" to a script and no integer to the store."""

    async def story(house: House) -> None:
        holder = await house.lease()
        rows = (Row("L1", 1, "", 5), Row("L1", 2, "", -5), Row("L2", 1, "", 3))
        batch = Batch("nets", UPSTREAM, INSTANCE, rows, b"body")
        before = await house.sums()
        assert (await house.outbox.seal(holder, batch, house.version))[0] is Step.DONE
        assert await house.outbox.refuse(holder, batch, [], []) is Step.DONE
        assert before == await house.sums()

    at_home(home, story)


@pytest.mark.parametrize("fsync", [False, True])
def test_usage_goes_from_open_over_sealed_to_forwarded(home: Home, fsync: bool) -> None:
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

    at_home(home, story, fsync=fsync)


def test_a_repeat_of_any_step_changes_nothing_and_says_so(home: Home) -> None:
    async def story(house: House) -> None:
        outbox = house.outbox
        await house.use("sessions", 42)
        holder = await house.lease()
        assert await outbox.take_lease(house.partition, holder, TTL_MS)
        chosen = await house.choose()
        _, batch = await outbox.seal(holder, chosen, house.version)
        assert batch is not None
        before = await house.dump()
        assert await outbox.seal(holder, chosen, house.version) == (Step.GONE, batch)
        # Another choice does not replace what is sealed: what was promised to go goes first.
        other = Batch("b2", UPSTREAM, INSTANCE, (Row("L2", 1, "", 5),), b"other")
        assert await outbox.seal(holder, other, house.version) == (Step.GONE, batch)
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

    at_home(home, story)


def test_only_the_holder_of_the_lease_moves_anything(home: Home) -> None:
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
        assert await outbox.seal(old, zombie_s, house.version) == (Step.LEASE_LOST, None)
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

    at_home(home, story)


def test_a_lease_lapses_by_itself_and_is_kept_by_renewal(home: Home) -> None:
    async def story(house: House) -> None:
        key = PartitionKeys(house.partition).lease
        assert await house.outbox.take_lease(house.partition, "a:1", TTL_MS // 4)
        assert await house.outbox.keep_lease(house.partition, "a:1", TTL_MS)
        assert TTL_MS // 4 < await house.store.client.pttl(key) <= TTL_MS
        assert await house.outbox.keep_lease(house.partition, "a:1", 1)
        await eventually(lambda: house.outbox.take_lease(house.partition, "b:1", TTL_MS))
        assert not await house.outbox.keep_lease(house.partition, "a:1", TTL_MS)

    at_home(home, story)


def test_rows_that_change_after_they_were_read_keep_the_equation(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("users", 7)
        holder = await house.lease()
        chosen = await house.choose()
        await house.use("users", -7)
        await house.use("sessions", 1)
        assert (await house.outbox.seal(holder, chosen, house.version))[0] is Step.DONE
        assert await house.sums() == {"L1": {"open": 1}, "L2": {"open": -7, "sealed": 7}}
        await house.use("users", 2)
        assert await house.sums() == {"L1": {"open": 1}, "L2": {"open": -5, "sealed": 7}}
        assert await house.outbox.settle(holder, chosen) is Step.DONE
        assert await house.sums() == {"L1": {"open": 1}, "L2": {"open": -5, "forwarded": 7}}

    at_home(home, story)


def test_part_of_a_row_can_be_sealed(home: Home) -> None:
    async def story(house: House) -> None:
        for _ in range(3):
            await house.use("sessions", 10**12)
        holder = await house.lease()
        batch = await house.seal(holder)
        assert [row.units for row in batch.rows] == [10**12]
        left = {"open": 2 * 10**12, "sealed": 10**12}
        assert await house.sums() == {"L1": left, "L2": {}}

    at_home(home, story)


def test_an_attempt_in_doubt_is_not_repeated_once_the_upstream_has_forgotten_it(
    home: Home,
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

    at_home(home, story)


def test_the_mark_goes_only_when_every_outbox_is_empty(home: Home) -> None:
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
        await outbox.seal(holder, Batch("b9", "hosts", INSTANCE, rows, b"x"), house.version)
        assert not await outbox.clean(INSTANCE, version, names)
        await outbox.settle(holder, Batch("b9", "hosts", INSTANCE, rows, b"x"))
        # In another version of the catalogue there may be an upstream that we do not know.
        assert not await outbox.clean(INSTANCE, version + 1, names)
        assert await outbox.dirty() == {house.partition: [INSTANCE]}
        assert await outbox.clean(INSTANCE, version, names)
        assert await outbox.dirty() == {}
        assert await outbox.clean(INSTANCE, version, names)

    at_home(home, story)


def test_an_upstream_attached_later_starts_from_that_moment(home: Home) -> None:
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
        await house.outbox.seal(holder, batch, house.version)
        await house.outbox.settle(holder, batch)
        assert await house.sums("later") == {"L1": {"base": 42, "forwarded": 5}, "L2": {}}

    at_home(home, story)


def test_two_owners_race_and_each_unit_is_moved_once(home: Home) -> None:
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
                        _, batch = await outbox.seal(holder, chosen, house.version)
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

    at_home(home, story)


def test_what_is_due_is_listed_by_partition(home: Home) -> None:
    async def story(house: House) -> None:
        due = PartitionKeys(house.partition).due
        await house.store.client.zadd(due, {INSTANCE: 5_000, "LATER": 5_001})
        assert await house.outbox.due(4_999) == {}
        assert await house.outbox.due(5_000) == {house.partition: [INSTANCE]}

    at_home(home, story)
