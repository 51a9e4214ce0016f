"""Clocks that are off, one gateway's or the store's, under three gateways and clients at work.

libfaketime steps them. Clients ask with capability tokens, which are good for longer than any step:
a payload signed an hour ago is refused, and rightly. GATEWAY_FAULT_STEPS raises how often each step
is made; GATEWAY_FAULT_SEED repeats a run. Source: RELIABILITY 4, row 12; DESIGN 6.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults.fleet import ASKED_S_MAX, REPLICAS, Fleet, Instance, drawn_seed, knob, open_fleet
from tests.faults.fleet_clock import StepClock, SteppedServer
from tests.faults.fleet_replica import Replica
from tests.system.processes import eventually

STEPS = knob("STEPS", 1)
HOUR_S = 3_600
RETENTION = "1d"  # of ids, by the store's clock: what is put right by an hour makes them older
LITTLE_S = 20  # less than the 30 s from which a gateway is not ready
SLACK_S = 5
PLENTY = 10**9
CLIENTS = 8
SERVED = 100  # takes longer than the balancer needs for a look

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> list[StepClock]:
    """Give the clock of each gateway, and behind them the store's."""
    directory = tmp_path_factory.mktemp("clocks")
    return [StepClock(directory / f"clock-{number}") for number in range(REPLICAS + 1)]


@pytest.fixture(scope="module")
def fleet(clocks: list[StepClock], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    *gateways, stores = clocks
    environs = [{"GATEWAY_DEDUPE__RETENTION": RETENTION, **each.environ} for each in gateways]
    instances = [Instance(id_, {f"{id_}1": PLENTY, f"{id_}2": PLENTY}) for id_ in ("GATE", "STORE")]
    with (
        SteppedServer(directory / "store", stores) as server,
        open_fleet(directory, *instances, store=server, environs=environs) as opened,
    ):
        yield opened


def test_a_gateway_whose_clock_is_off_is_not_ready_and_tells_the_stores_time(
    fleet: Fleet, clocks: list[StepClock]
) -> None:
    """Row 12: it gets no more requests; those that came before it was noticed are in order."""
    seed = drawn_seed()
    began_s = time.time()

    async def run() -> None:
        async with fleet.load("GATE", seed, tokens=True) as load:
            async with load.working(CLIENTS):
                for place in [*range(REPLICAS)] * STEPS:
                    clock, replica = clocks[place], fleet.replicas[place]
                    for seconds in (HOUR_S, -HOUR_S):
                        await load.enough(SERVED)
                        clock.step(seconds)
                        await asyncio.to_thread(fleet.balancer.wait_down, replica.name)
                        # For a moment it may say something else besides, where the machine stalls.
                        await asyncio.to_thread(eventually, partial(_is_off_only, replica))
                        await load.enough(SERVED)
                        clock.step(0)
                        await asyncio.to_thread(fleet.balancer.wait_up)
            assert load.failed == []
            moments_s = [ask.told.at_ms / 1000 for ask in load.answered if ask.told]
            assert began_s - SLACK_S < min(moments_s)
            assert max(moments_s) < time.time() + SLACK_S
            await fleet.judge("gateway's clock off", load, faults=2 * STEPS * REPLICAS)

    asyncio.run(run())


def test_time_goes_on_when_the_stores_clock_goes_back(
    fleet: Fleet, clocks: list[StepClock]
) -> None:
    """Row 12: what was told once is not taken back; far off, nobody is ready."""
    seed = drawn_seed()
    clock = clocks[-1]

    async def run() -> None:
        async with fleet.load("STORE", seed, tokens=True) as load:
            for _ in range(STEPS):
                async with load.working(CLIENTS):
                    await load.enough(SERVED)
                    clock.step(-LITTLE_S)
                    assert _store_is_behind_s(fleet) > LITTLE_S - SLACK_S
                    await load.enough(SERVED)
                    # Who were down for it would stay so.
                    await asyncio.to_thread(fleet.balancer.wait_up)
                    clock.step(0)
                assert load.failed == []
                # The balancer would let nobody in now; who comes another way is answered well.
                load.urls = fleet.urls
                async with load.working(CLIENTS):
                    clock.step(-HOUR_S)
                    assert _store_is_behind_s(fleet) > HOUR_S - SLACK_S
                    await asyncio.to_thread(fleet.balancer.wait_down, *fleet.balancer.servers)
                    await load.enough(SERVED)
                    clock.step(0)
                    await asyncio.to_thread(fleet.balancer.wait_up)
                    await load.enough(SERVED)
                load.urls = [fleet.balancer.url]
            assert load.failed == []
            await fleet.judge("store's clock back", load, faults=2 * STEPS)

    asyncio.run(run())


def _is_off_only(replica: Replica) -> bool:
    """Whether a gateway is not ready, and for its clock alone."""
    status, body = replica.get("/readyz")
    reasons = json.loads(body)["reasons"] if status == 503 else []
    return [reason.split(" ")[:2] for reason in reasons] == [["The", "clock"]]


def _store_is_behind_s(fleet: Fleet) -> float:
    seconds, _ = fleet.store.ask("TIME", answer_s_max=ASKED_S_MAX)
    return time.time() - int(seconds)
