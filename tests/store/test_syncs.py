"""What is kept of syncs with a cloud, and what is read together for them."""

from __future__ import annotations

import msgspec

from gateway.core.elsewhere import Known
from gateway.core.ports import Standing, Step
from gateway.store.syncs import Syncs
from tests.store.outbox_house import INSTANCE, UPSTREAM, House, at_home
from tests.stores.homes import Home


def syncs(house: House) -> Syncs:
    store = house.store
    return Syncs(store.topology, store.scripts, store.partitions)


def test_a_schedule_is_what_was_said_last(shared_home: Home) -> None:
    async def story(house: House) -> None:
        book = syncs(house)
        found = await book.schedule(INSTANCE, UPSTREAM)
        assert (found.enabled, found.hours, found.asked, found.begun_ms) == (True, None, 0, 0)
        assert found.now_ms > 0
        await book.set_schedule(INSTANCE, UPSTREAM, enabled=False, hours=2, minutes=5)
        await book.set_schedule(INSTANCE, UPSTREAM, enabled=False, hours=None, minutes=None)
        await book.ask(INSTANCE, UPSTREAM)
        await book.synced(INSTANCE, UPSTREAM, 77, 1)
        found = await book.schedule(INSTANCE, UPSTREAM)
        assert (found.enabled, found.hours, found.minutes) == (False, 2, 5)
        assert (found.asked, found.answered, found.begun_ms) == (1, 1, 77)
        assert await book.asking([INSTANCE, "nobody"], UPSTREAM) == [INSTANCE]
        assert INSTANCE in (await house.outbox.dirty())[house.partition]
        assert await book.known(INSTANCE, UPSTREAM) == {}

    at_home(shared_home, story)


def test_a_demand_is_seen_until_it_is_met_and_what_is_damaged_hides_no_other(home: Home) -> None:
    async def story(house: House) -> None:
        book, client = syncs(house), house.store.client
        await house.use("sessions", 1)
        assert await book.demanded(UPSTREAM) == []
        await book.ask(INSTANCE, UPSTREAM)
        await book.ask(INSTANCE, UPSTREAM)
        assert await book.demanded(UPSTREAM) == [INSTANCE]
        assert await book.demanded("hosts") == []
        keys = house.store.catalogues.keys("DAMAGED")
        await client.sadd(keys.dirty, "DAMAGED")
        await client.set(keys.sync(UPSTREAM), "no hash")
        assert await book.demanded(UPSTREAM) == [INSTANCE]
        await book.synced(INSTANCE, UPSTREAM, 77, 1)  # of two, one came later
        assert (await book.schedule(INSTANCE, UPSTREAM)).demanded
        await book.synced(INSTANCE, UPSTREAM, 78, 2)
        assert await book.demanded(UPSTREAM) == []

    at_home(home, story)


def test_what_was_heard_of_lines_is_kept_beside_it(shared_home: Home) -> None:
    async def story(house: House) -> None:
        book, one = syncs(house), Known(at_ms=5, total=-3, period="m20260101", late=2)
        await book.note(INSTANCE, UPSTREAM, {"L1": one})
        await book.note(INSTANCE, UPSTREAM, {"L2": Known(at_ms=6)})
        await book.note(INSTANCE, UPSTREAM, {})
        assert await book.known_of(INSTANCE, UPSTREAM, "L1") == one
        assert await book.known_of(INSTANCE, UPSTREAM, "L3") is None
        assert sorted(await book.known(INSTANCE, UPSTREAM)) == ["L1", "L2"]

    at_home(shared_home, story)


def test_counters_have_every_row_that_is_not_settled(home: Home) -> None:
    async def story(house: House) -> None:
        book = syncs(house)
        await house.use("users", 7)
        await house.put_aside("b1", Standing.PARKED)
        await house.use("users", 5)
        await house.put_aside("b2", Standing.DEAD)
        await house.use("users", 3)
        await house.block("b3", [])
        await house.use("users", 2)
        holder = await house.lease()
        batch = await house.seal(holder, "b4")
        await house.use("users", 1)
        await house.use("sessions", 9)
        found = await book.counters(INSTANCE, UPSTREAM)
        assert {line: sum(row.units for row in rows) for line, rows in found.unsettled.items()} == {
            "L1": 9,
            "L2": 18,
        }
        assert found.under_way == {"L2"}
        assert (found.used["L1|0"], found.used["L2|0"]) == (9, 18)
        assert await house.outbox.settle(holder, batch) is Step.DONE
        found = await book.counters(INSTANCE, UPSTREAM)
        assert sum(row.units for row in found.unsettled["L2"]) == 16
        assert found.under_way == frozenset()

    at_home(home, story)


def test_an_attempt_keeps_what_was_before_it_until_the_next_batch(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("users", 7)
        holder = await house.lease()
        batch = await house.seal(holder)
        assert batch.before == ""
        noted = msgspec.structs.replace(batch, before='{"total": 7}')
        assert await house.outbox.begin_attempt(holder, noted, 0) is Step.DONE
        found = await house.outbox.sealed(INSTANCE, UPSTREAM)
        assert found is not None
        assert (found.before, found.attempts) == ('{"total": 7}', 1)
        # In doubt nothing goes again, whoever tries.
        again = msgspec.structs.replace(found, before="other")
        assert await house.outbox.begin_attempt(holder, again, 0) is Step.IN_DOUBT
        cleared = msgspec.structs.replace(found, attempts=0)
        assert await house.outbox.clear_attempt(holder, cleared) is Step.DONE
        assert await house.outbox.begin_attempt(holder, again, 0) is Step.DONE
        found = await house.outbox.sealed(INSTANCE, UPSTREAM)
        assert found is not None
        assert (found.before, found.attempts) == ("other", 2)

    at_home(home, story)
