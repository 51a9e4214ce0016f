"""The outbox at its limits: many rows, numbers too large, a store that forgets or goes away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.core.errors import Unavailable
from gateway.core.ports import Step
from gateway.core.usage import Batch, Row
from gateway.store.outbox import RedisOutbox
from gateway.store.topology import OneServer
from tests.store.outbox_house import (
    INSTANCE,
    UPSTREAM,
    House,
    at_home,
)
from tests.stores.homes import Home


def test_many_rows_are_read_and_sealed_whole(home: Home) -> None:
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
        step, _ = await house.outbox.seal(
            holder, Batch("b1", "hosts", INSTANCE, part, b""), house.version
        )
        assert step is Step.DONE
        sums = await house.sums("hosts")
        assert sums == {"L1": {"open": 1_000, "sealed": 9_000}, "L2": {}}

    at_home(home, story)


def test_units_past_what_is_exact_are_refused_before_anything_moves(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        holder = await house.lease()
        rows = (Row("L2", 1, "", 5), Row("L1", 1, "", 2**53 - 1), Row("L1", 2, "", 2**53 - 1))
        before = await house.dump()
        with pytest.raises(Unavailable):
            await house.outbox.seal(
                holder, Batch("b1", UPSTREAM, INSTANCE, rows, b""), house.version
            )
        assert before == await house.dump()

    at_home(home, story)


def test_scripts_that_the_store_forgot_are_sent_again(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        for fsync in (False, True):
            house.fsync(fsync)
            await house.server.script_flush()
            holder = await house.lease(f"a:{fsync}")
            batch = await house.seal(holder, f"b{fsync}")
            await house.server.script_flush()
            assert await house.outbox.settle(holder, batch) is Step.DONE
            assert await house.outbox.drop_lease(house.partition, holder)
            await house.use("sessions", 1)

    at_home(home, story, fsync=True)


def test_a_step_that_is_not_safe_on_disk_is_not_taken_for_done(home: Home) -> None:
    async def story(house: House) -> None:
        await house.use("sessions", 42)
        holder = await house.lease()
        house.fsync(True)
        await house.server.config_set("appendonly", "no")  # then WAITAOF is an error
        with pytest.raises(Unavailable):
            await house.seal(holder)
        await house.server.config_set("appendonly", "yes")
        found = await house.outbox.sealed(INSTANCE, UPSTREAM)
        assert found is not None
        assert found.id == "b1"
        assert await house.sums() == {"L1": {"sealed": 42}, "L2": {}}

    at_home(home, story)


def test_a_store_that_is_away_is_said_in_our_words(home: Home) -> None:
    class Away:
        def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
            async def fail(*_: object, **__: object) -> None:
                raise StoreConnectionError("gone")

            return fail

    async def story(house: House) -> None:
        away = OneServer(Away())  # type: ignore[arg-type]
        outbox = RedisOutbox(away, house.store.scripts, 4)
        with pytest.raises(Unavailable) as caught:
            await outbox.sealed(INSTANCE, UPSTREAM)
        assert caught.value.outcome == "unknown"

    at_home(home, story)
