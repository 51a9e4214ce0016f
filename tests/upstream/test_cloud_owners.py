"""Forwarders that own a lane in turn: who dies, sleeps or wakes late, and a call that does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.ports import Verdict
from gateway.core.usage import Batch
from gateway.upstream.licensespring_cloud import Cloud
from tests.upstream.cloud_house import House, at_house

pytestmark = pytest.mark.slow


def test_a_call_that_comes_when_its_date_has_run_out_is_not_counted(tmp_path: Path) -> None:
    """It lay on its way while it was decided that it had not arrived, and was sent again."""

    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["lag"], lag_s=600.0)
        await house.use("main", 7)
        await house.settled()
        assert house.arrived() == [7]
        house.cloud.arrive()
        assert ("add", "lag", "date_header_diff") in house.cloud.calls
        assert house.arrived() == [7]
        assert house.total() == 7

    at_house(tmp_path, story, timeout_s=0.5)


def test_who_sleeps_between_note_and_send_counts_nothing_when_it_wakes(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        awake = asyncio.Event()
        asleep = asyncio.Event()
        await house.provision()
        await house.use("main", 7)
        sleeper = house.forwarder()
        (route,) = sleeper.routes
        send = route.sender.send

        async def late(batch: Batch) -> Verdict:
            asleep.set()
            await awake.wait()
            return await send(batch)

        route.sender.send = late  # type: ignore[method-assign]
        sleeping = asyncio.create_task(sleeper.drain())
        await asleep.wait()
        await house.lapse_leases()
        await house.settled()  # another one, in its place
        assert house.arrived() == [7]
        await house.use("main", 2)
        awake.set()
        await sleeping
        await house.settled()
        assert ("add", "", "date_header_diff") in house.cloud.calls
        assert sum(house.arrived()) == 9
        assert await house.sums() == {"forwarded": 9}
        assert (await house.known()).others_ms == 0

    at_house(tmp_path, story)


def test_who_sleeps_before_an_answer_takes_down_no_total_that_another_one_has_gone_beyond(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        awake = asyncio.Event()
        asleep = asyncio.Event()
        await house.provision()
        await house.use("main", 7)
        sleeper = house.forwarder()
        sender = sleeper.routes[0].sender
        assert isinstance(sender, Cloud)
        call = sender.calls.call

        async def late(name: str, *told: Any) -> Any:
            reply = await call(name, *told)
            if name == "add_consumption":
                asleep.set()
                await awake.wait()
            return reply

        sender.calls.call = late  # type: ignore[method-assign]
        sleeping = asyncio.create_task(sleeper.drain())
        await asleep.wait()
        await house.lapse_leases()
        await house.use("main", 2)
        await house.settled()  # another one, in its place
        awake.set()
        await sleeping
        assert (await house.known()).total == 9
        await house.use("main", 1)
        await house.settled()
        assert house.arrived() == [7, 2, 1]
        assert await house.sums() == {"forwarded": 10}
        assert (await house.known()).others_ms == 0  # or every doubt would be parked from now on

    at_house(tmp_path, story)


@pytest.mark.parametrize("step", ["seal", "begin_attempt", "send", "settle"])
def test_who_dies_between_two_steps_leaves_what_the_next_one_finishes(
    tmp_path: Path, step: str
) -> None:
    async def story(house: House) -> None:
        class Dead(Exception):
            pass

        def dying(call: Any) -> Any:
            async def last(*told: Any, **more: Any) -> Any:
                await call(*told, **more)
                raise Dead

            return last

        await house.provision()
        await house.use("main", 7)
        outbox = house.outbox()
        forwarder = house.forwarder(outbox=outbox)
        whose = forwarder.routes[0].sender if step == "send" else outbox
        object.__setattr__(whose, step, dying(getattr(whose, step)))
        if step != "send":
            forwarder.delivery.outbox = forwarder.delivery.outcomes.outbox = outbox
        forwarder.routes[0].sync.pull = dying(_nothing)  # type: ignore[union-attr, method-assign]
        draining = asyncio.create_task(forwarder.drain(lease_wait_s=0.0))
        await asyncio.wait([draining])
        await house.lapse_leases()
        await house.settled()
        assert house.arrived() == [7]
        assert await house.sums() == {"forwarded": 7}
        assert (await house.known()).others_ms == 0  # it is nobody else's doing

    at_house(tmp_path, story)


async def _nothing(holder: str, index: CatalogueIndex) -> None: ...
