"""What is taken out of a lane on a real store: kept, listed, decided about once, and recorded."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.decisions import Decision, Fate
from gateway.core.ports import Mark, Standing, Step
from gateway.core.usage import Batch, Row
from gateway.store.asides import Waiting
from gateway.store.ledgers import read_deep
from gateway.store.outbox import ASIDE_MAX
from tests.store.outbox_house import HORIZON_MS, INSTANCE, UPSTREAM, House, at_home
from tests.stores.homes import Home

MARK = Mark("L1", "", "sessions 1.0: LIMIT", since_ms=1_000, retry_ms=2_000)


def decision(what: str, subject: str) -> Decision:
    return Decision("dana", what, "because", UPSTREAM, subject)


def test_named_rows_of_a_refused_batch_wait_and_the_others_are_open_once(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        await house.use("users", 7)
        holder = await house.lease()
        batch = await house.seal(holder)
        named = [place for place, row in enumerate(batch.rows) if row.line == "L1"]
        before = await house.dump()
        assert await house.outbox.refuse("x:1", batch, named, [MARK]) is Step.LEASE_LOST
        assert before == await house.dump()
        assert await house.outbox.refuse(holder, batch, named, [MARK]) is Step.DONE
        assert await house.sums() == {"L1": {"parked": 42}, "L2": {"open": 7}}
        (blocked,) = await house.asides.blocked(INSTANCE, UPSTREAM)
        assert (blocked.line, blocked.marks, blocked.units) == ("L1", (MARK,), {"L1": 42})
        before = await house.dump()
        assert await house.outbox.refuse(holder, batch, named, [MARK]) is Step.GONE
        assert before == await house.dump()
        assert await house.outbox.unblock(holder, INSTANCE, UPSTREAM, [MARK]) is Step.DONE
        assert await house.sums() == {"L1": {"open": 42}, "L2": {"open": 7}}
        assert await house.asides.blocked(INSTANCE, UPSTREAM) == []
        assert (await house.outbox.marks(INSTANCE, UPSTREAM))[0] == []

    at_home(home, story)


@pytest.mark.parametrize("standing", Standing)
def test_a_batch_is_set_aside_with_all_that_is_known_of_it(home: Home, standing: Standing) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        batch = await house.put_aside("b1", standing, "timed out", attempts=2)
        assert await house.sums() == {"L1": {standing.value: 42}, "L2": {}}
        (listed,) = await house.asides.batches(INSTANCE, UPSTREAM)
        assert (listed.id, listed.standing, listed.why) == ("b1", standing, "timed out")
        assert (listed.attempts, listed.rows, listed.body) == (2, batch.rows, b"")
        assert 0 < listed.first_sent_ms <= listed.at_ms
        whole = await house.asides.batch(INSTANCE, UPSTREAM, "b1")
        assert whole == msgspec.structs.replace(listed, body=batch.body)
        assert await house.asides.batch(INSTANCE, UPSTREAM, "b2") is None
        places = [(INSTANCE, "hosts"), (INSTANCE, UPSTREAM), ("NOBODY", UPSTREAM)]
        assert await house.asides.occupied(places) == [(INSTANCE, UPSTREAM)]
        # Newer usage passes.
        await house.use("sessions", 1)
        assert (await house.seal(await house.lease(), "b2")).id == "b2"

    at_home(home, story, fsync=standing is Standing.DEAD)


def test_nothing_more_is_set_aside_when_the_shelf_is_full(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        holder = await house.lease()
        batch = await house.seal(holder)
        key = house.store.catalogues.keys(INSTANCE).aside(UPSTREAM)
        await house.store.client.hset(key, mapping={str(n): "x" for n in range(3 * ASIDE_MAX)})
        before = await house.dump()
        full = await house.outbox.set_aside(holder, batch, Standing.PARKED, "timed out")
        assert full is Step.FULL
        assert before == await house.dump()

    at_home(home, story)


@pytest.mark.parametrize("standing", Standing)
@pytest.mark.parametrize("fate", Fate)
def test_a_decision_moves_the_units_once_and_is_recorded_once(
    home: Home, standing: Standing, fate: Fate
) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        await house.use("users", 7)
        await house.put_aside("b1", standing)
        assert await house.asides.decide(INSTANCE, fate, "b1", decision("what", "b1"))
        assert await house.sums() == {"L1": {fate.value: 42}, "L2": {fate.value: 7}}
        assert await house.asides.batches(INSTANCE, UPSTREAM) == []
        (recorded,) = await house.asides.decisions(INSTANCE)
        assert (recorded.who, recorded.what, recorded.why) == ("dana", "what", "because")
        assert (recorded.subject, recorded.units) == ("b1", "L1=42 L2=7")
        assert recorded.at_ms > 0
        before = await house.dump()
        assert not await house.asides.decide(INSTANCE, fate, "b1", decision("what", "b1"))
        assert before == await house.dump()
        if fate is Fate.OPEN:
            assert await house.outbox.dirty() == {house.partition: [INSTANCE]}
            assert (await house.seal(await house.lease(), "b2")).id == "b2"

    at_home(home, story)


@pytest.mark.parametrize("fate", [Fate.OPEN, Fate.DEAD])
def test_blocked_rows_are_released_with_their_marks(home: Home, fate: Fate) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        await house.block("b1", [MARK])
        (blocked,) = await house.asides.blocked(INSTANCE, UPSTREAM)
        await house.asides.release(blocked, fate, decision("what", "L1"))
        assert await house.sums() == {"L1": {fate.value: 42}, "L2": {}}
        assert await house.asides.blocked(INSTANCE, UPSTREAM) == []
        assert (await house.outbox.marks(INSTANCE, UPSTREAM))[0] == []
        (recorded,) = await house.asides.decisions(INSTANCE)
        assert (recorded.subject, recorded.units) == ("L1", "L1=42")

    at_home(home, story)


def test_halves_wait_in_turn_and_count_as_sealed(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        await house.use("users", 7)
        holder = await house.lease()
        batch = await house.seal(holder)
        first, second = (
            Batch(f"h{number}", UPSTREAM, INSTANCE, (row,), b"half")
            for number, row in enumerate(batch.rows)
        )
        assert await house.outbox.split(holder, batch, first, second) is Step.DONE
        keys = house.store.catalogues.keys(INSTANCE)
        ledger = await read_deep(house.store.client, keys, [UPSTREAM], "UTC")
        assert ledger.rows is not None
        assert ledger.rows.sealed == {("L1", UPSTREAM): 42, ("L2", UPSTREAM): 7}
        assert await house.outbox.begin_attempt(holder, first, HORIZON_MS) is Step.DONE
        assert await house.outbox.set_aside(holder, first, Standing.DEAD, "no") is Step.DONE
        under_way = await house.outbox.sealed(INSTANCE, UPSTREAM)
        assert under_way == second
        ledger = await read_deep(house.store.client, keys, [UPSTREAM], "UTC")
        assert ledger.rows is not None
        assert sum(ledger.rows.sealed.values()) == second.rows[0].units

    at_home(home, story)


def test_what_waits_for_an_upstream_is_told_by_line_and_place(home: Home) -> None:
    async def story(house: House) -> None:
        assert await house.asides.waiting(INSTANCE, UPSTREAM) is None
        await house.use("sessions", 1)
        await house.put_aside("b1", Standing.DEAD)
        await house.use("sessions", 10)
        await house.put_aside("b2", Standing.PARKED)
        await house.use("sessions", 100)
        await house.seal(await house.lease(), "b3")
        await house.use("sessions", 1_000)
        await house.use("users", 5)
        units = {
            "L1": {"open": 1_000, "sealed": 100, "parked": 10, "dead": 1},
            "L2": {"open": 5},
        }
        assert await house.asides.waiting(INSTANCE, UPSTREAM) == Waiting(units)

    at_home(home, story)


def test_a_carried_mark_speaks_of_no_blocked_row(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("users", 7)
        carried = Mark("L2", "", "UNDO_WINDOW", since_ms=1, retry_ms=2, carried=True)
        await house.block("b1", [carried])
        (blocked,) = await house.asides.blocked(INSTANCE, UPSTREAM)
        assert blocked.marks == ()
        assert blocked.rows == (Row("L2", blocked.rows[0].hour, "", 7),)

    at_home(home, story)


def test_batches_are_told_of_without_their_rows_and_some_of_them_with(home: Home) -> None:
    async def story(house: House) -> None:
        assert await house.asides.facts(INSTANCE, UPSTREAM) == []
        for batch_id in ("b2", "b1"):
            await house.use("sessions", 21)
            await house.put_aside(batch_id, Standing.PARKED, "why")
        facts = await house.asides.facts(INSTANCE, UPSTREAM)
        assert [(each.id, each.rows, each.why) for each in facts] == [
            ("b2", (), "why"),
            ("b1", (), "why"),
        ]
        (one,) = await house.asides.batches(INSTANCE, UPSTREAM, ["b1", "gone"])
        assert (one.id, one.units) == ("b1", {"L1": 21})

    at_home(home, story)


def test_refused_rows_of_one_line_are_read_alone(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 21)
        await house.use("users", 3)
        await house.block("b1", [])
        assert [each.line for each in await house.asides.blocked(INSTANCE, UPSTREAM)] == [
            "L1",
            "L2",
        ]
        (one,) = await house.asides.blocked(INSTANCE, UPSTREAM, line="L2")
        assert one.units == {"L2": 3}
        assert await house.asides.blocked(INSTANCE, UPSTREAM, line="L") == []
        # A small hash comes whole, whatever is asked for.
        assert await house.asides.blocked(INSTANCE, UPSTREAM, rows_max=1)

    at_home(home, story)


def test_the_record_is_read_from_a_place_on(home: Home) -> None:
    async def story(house: House) -> None:
        for batch_id in ("b1", "b2", "b3"):
            await house.use("sessions", 1)
            await house.put_aside(batch_id, Standing.PARKED)
            what = decision("discard", batch_id)
            assert await house.asides.decide(INSTANCE, Fate.DEAD, batch_id, what)
        newest = await house.asides.decided(INSTANCE, 2)
        assert [each.subject for _, each in newest] == ["b3", "b2"]
        older = await house.asides.decided(INSTANCE, 2, newest[-1][0])
        assert [each.subject for _, each in older] == ["b1"]
        assert await house.asides.decided(INSTANCE, 2, older[0][0]) == []

    at_home(home, story)
