"""What is done to gateways and to their clients, with three of them behind HAProxy over one store.

Kills, rolling restarts, clients that go away, one id asked for everywhere at once, a race for what
is left. Counts are raised by GATEWAY_FAULT_KILLS, _RESTARTS, _CANCELLED, _REPEATED, _CAPACITY and
_WORKERS; GATEWAY_FAULT_SEED repeats a run. Source: RELIABILITY 4, rows 1, 2, 5, 6 and 14.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.cli.demonstration.wire import Unanswered, Wire
from tests.faults.fleet import ASKED_S_MAX, Fleet, Instance, drawn_seed, knob, open_fleet
from tests.faults.fleet_load import Load
from tests.faults.fleet_replica import Replica
from tests.faults.fleet_requests import Ask
from tests.stores.programs import HOST
from tests.system.processes import eventually

KILLS = knob("KILLS", 6)
RESTARTS = knob("RESTARTS", 1)  # of all gateways, one after the other
CANCELLED = knob("CANCELLED", 500)
REPEATED = knob("REPEATED", 3)  # ids
CAPACITY = knob("CAPACITY", 400)
WORKERS = knob("WORKERS", 64)
PLENTY = 10**9
CLIENTS = 10
APART_S_MAX = 0.3  # of kills
SIDE_BY_SIDE = 50  # attempts under one id; connections of clients that will be cancelled
CANCELLED_S = 0.006  # on average: some before they are read, some after they are answered
SPARE = 8  # files, and connections to the store, that come and go

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    instances = (
        Instance("KILLED", {"k1": PLENTY, "k2": PLENTY}),
        Instance("ROLLED", {"r1": PLENTY, "r2": PLENTY}),
        Instance("LEFT", {"l1": PLENTY, "l2": PLENTY}),
        Instance("ONE", {"o1": PLENTY, "o2": PLENTY}),
        Instance("RACED", {"scarce": CAPACITY}),
    )
    with open_fleet(tmp_path_factory.mktemp("fleet"), *instances) as opened:
        yield opened


def test_a_gateway_that_is_killed_costs_its_clients_one_retry_and_nothing_else(
    fleet: Fleet,
) -> None:
    """Row 1: at random moments; what it had counted and not said is replayed by another one."""
    seed = drawn_seed()
    dice = random.Random(f"kills {seed}")  # noqa: S311 (to be repeatable)

    async def run() -> None:
        starting: list[asyncio.Task[None]] = []
        async with fleet.load("KILLED", seed) as load:
            async with load.working(CLIENTS):
                await load.enough(20)
                for _ in range(KILLS):
                    up = await asyncio.to_thread(_two_up, fleet)
                    await asyncio.sleep(dice.uniform(0, APART_S_MAX))
                    killed = dice.choice(up)
                    killed.kill()
                    # Not before it is missed: or it would be sent what it cannot answer yet.
                    await asyncio.to_thread(fleet.balancer.wait_down, killed.name)
                    await load.calm()
                    starting.append(asyncio.create_task(asyncio.to_thread(killed.start)))
                await asyncio.gather(*starting)
                await asyncio.to_thread(fleet.balancer.wait_up)
                await load.enough(20)
            assert load.failed == []
            await fleet.judge("kill -9 of a gateway", load, faults=KILLS)

    asyncio.run(run())


def test_a_rolling_restart_of_all_gateways_fails_nobody(fleet: Fleet) -> None:
    """Row 2: each ends in order and in time; with one retry every request is answered."""
    seed = drawn_seed()

    async def run() -> None:
        ends_s = []
        async with fleet.load("ROLLED", seed) as load:
            async with load.working(CLIENTS):
                await load.enough(20)
                for replica in fleet.replicas * RESTARTS:
                    ends_s.append(await asyncio.to_thread(replica.end))
                    await asyncio.to_thread(replica.start)
                    await asyncio.to_thread(fleet.balancer.wait_up)
            assert load.failed == []
            retried = sum(len(ask.endings) > 1 for ask in load.answered)
            print(f"ended within {max(ends_s):.1f} s; failed 0, answered by the retry {retried}")
            await fleet.judge("rolling restart", load, faults=len(ends_s))

    asyncio.run(run())


def test_clients_that_go_away_take_nothing_along(fleet: Fleet) -> None:
    """Row 5: at random moments; connections, memory and the others' answers stay what they were."""
    seed = drawn_seed()
    dice = random.Random(f"cancelled {seed}")  # noqa: S311 (to be repeatable)

    async def run() -> None:
        async with fleet.load("LEFT", seed, direct=True) as load:
            async with load.working(CLIENTS):
                await load.enough(50)
                before = {each.name: each.memory_bytes for each in fleet.replicas}
                files, clients = _files(fleet), _store_clients(fleet)
                turns = asyncio.Semaphore(SIDE_BY_SIDE)
                async with asyncio.TaskGroup() as group:
                    for number in range(CANCELLED):
                        asked = {dice.choice(load.lines): dice.randint(1, 9)}
                        ask = load.make(f"gone{number % SIDE_BY_SIDE}", asked)
                        after_s, resets = dice.expovariate(1 / CANCELLED_S), dice.random() < 0.5
                        port = fleet.replicas[number % len(fleet.replicas)].port
                        group.create_task(_go_away(load, ask, port, after_s, resets, turns))
                await load.enough(50)
            eventually(lambda: _no_more(_files(fleet), files))
            eventually(lambda: _store_clients(fleet) <= clients + SPARE)
            grown = {each.name: (before[each.name], each.memory_bytes) for each in fleet.replicas}
            assert load.failed == []
            await fleet.judge("clients cancelled", load, faults=CANCELLED, memory_bytes=grown)

    asyncio.run(run())


def test_one_id_everywhere_at_once_is_applied_once(fleet: Fleet) -> None:
    """Row 6: one is told that it was applied now, all others the same as a replay."""
    seed = drawn_seed()

    async def run() -> None:
        async with fleet.load("ONE", seed, direct=True) as load:
            for number in range(REPEATED):
                one = load.make(f"h{number}", {"o1": number + 1, "o2": 3})
                # Of each by itself nobody knows whether another one was there before.
                asks = [replace(one, doubt=True, endings=[]) for _ in range(SIDE_BY_SIDE)]
                urls = load.urls * SIDE_BY_SIDE
                await asyncio.gather(*map(load.attempt, asks, urls))
                told = [ask.told for ask in asks if ask.told is not None]
                assert [each.replayed for each in told].count(False) == 1
                assert (len(told), len({each.digest for each in told})) == (SIDE_BY_SIDE, 1)
            faults = REPEATED * (SIDE_BY_SIDE - 1)
            await fleet.judge("one id at once", load, faults=faults)

    asyncio.run(run())


def test_who_races_for_what_is_left_gets_exactly_that(fleet: Fleet) -> None:
    """Row 14: until nothing is left; in parts and whole, by all gateways."""
    seed = drawn_seed()

    async def run() -> None:
        async with fleet.load("RACED", seed) as load:
            await asyncio.gather(*(_race(load, f"w{number}") for number in range(WORKERS)))
            granted = sum(sum(ask.told.granted.values()) for ask in load.answered if ask.told)
            assert (granted, load.failed) == (CAPACITY, [])
            await fleet.judge("race", load, faults=WORKERS, capacity={"scarce": CAPACITY})

    asyncio.run(run())


def _two_up(fleet: Fleet) -> list[Replica]:
    """Wait until two gateways are in service, so that one may be killed; give those that are."""
    eventually(lambda: len(fleet.balancer.up()) > 1, 90)
    up = fleet.balancer.up()
    return [replica for replica in fleet.replicas if replica.name in up]


async def _go_away(
    load: Load, ask: Ask, port: int, after_s: float, resets: bool, turns: asyncio.Semaphore
) -> None:
    """Send a request and go away, by a reset or in order, before its answer, or not quite."""
    async with turns:
        headers, body = load.leave(ask)
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        path = f"/api/1.0/instances/{load.instance}/access_request"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        wire = Wire(HOST, port)
        if resets:
            await wire.post_and_reset(head.encode() + body, after_s)
            return
        with suppress(TimeoutError, Unanswered):
            async with asyncio.timeout(after_s):
                await wire.post(head.encode() + body)
        wire.close()


async def _race(load: Load, host: str) -> None:
    """Ask for units, whole or in part, until not one is left."""
    dice = random.Random(f"{load.seed} {host}")  # noqa: S311 (to be repeatable)
    while True:
        partial = dice.random() < 0.5
        ask = load.make(host, {"scarce": dice.randint(1, 3)}, partial=partial)
        await load.ask(ask)
        if ask.told is None or (partial and not ask.told.granted):
            return


def _files(fleet: Fleet) -> list[int]:
    return [replica.files for replica in fleet.replicas]


def _no_more(files: list[int], before: list[int]) -> bool:
    return all(now <= then + SPARE for now, then in zip(files, before, strict=True))


def _store_clients(fleet: Fleet) -> int:
    told = fleet.store.ask("INFO", "clients", answer_s_max=ASKED_S_MAX)
    return int(told["connected_clients"])
