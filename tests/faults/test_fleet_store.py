"""What is done to the store, and to the way there, under three gateways at `local`.

It is killed, refuses for every reason it has, and a proxy before it does what bad networks do.
Counts are raised by GATEWAY_FAULT_STORE_KILLS, _REFUSALS and _WIRE; GATEWAY_FAULT_SEED repeats a
run. Source: RELIABILITY 4, rows 3, 4 and 9.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.fleet import ASKED_S_MAX, Fleet, Instance, drawn_seed, knob, open_fleet
from tests.faults.fleet_load import Load
from tests.faults.scene import until
from tests.faults.store_troubles import BUSY_MS, TROUBLES
from tests.faults.wire_deeds import DEEDS
from tests.stores.servers import Server

STORE_KILLS = knob("STORE_KILLS", 3)
REFUSALS = knob("REFUSALS", 1)  # of each kind
WIRE = knob("WIRE", 9)  # one of each deed, then drawn
PLENTY = 10**9
CLIENTS = 8
DEADLINE_S = 1.0
LATE_S_MAX = 8.0  # beyond the deadline, on a machine that stalls; who has none waits for 30
AWAY_S = (0.1, 1.5)
SPAN_S = (0.3, 1.3)
DELAY_S = (1.0, 10.0)
REFUSED = 5  # requests that a refusal is waited for to meet
SERVED = 10  # requests that are answered again, before the next fault
CLEAN = {"200", "503 not_applied", "503 unknown", "503 applied_not_durable"}

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    instances = (
        Instance("KILLED", {"k1": PLENTY, "k2": PLENTY}),
        Instance("REFUSED", {"r1": PLENTY, "r2": PLENTY}),
        Instance("WIRED", {"w1": PLENTY, "w2": PLENTY}),
    )
    directory = tmp_path_factory.mktemp("fleet")
    settings = {"appendfsync": "always", "busy_reply_threshold": BUSY_MS}
    deadline_ms = int(DEADLINE_S * 1000)
    with open_fleet(
        directory, *instances, ack="local", deadline_ms=deadline_ms, **settings
    ) as opened:
        yield opened


def test_a_store_that_is_killed_keeps_what_was_acknowledged(fleet: Fleet) -> None:
    """Row 3: meanwhile there are only clean refusals, and answers again by themselves."""
    seed = drawn_seed()
    dice = random.Random(f"store {seed}")  # noqa: S311 (to be repeatable)

    async def run() -> None:
        async with fleet.load("KILLED", seed) as load:
            async with load.working(CLIENTS):
                for _ in range(STORE_KILLS):
                    await load.enough(SERVED)
                    await asyncio.sleep(dice.uniform(*SPAN_S))
                    fleet.store.kill()
                    await asyncio.sleep(dice.uniform(*AWAY_S))
                    await asyncio.to_thread(fleet.store.start)
                await load.enough(SERVED)
            assert set(load.endings) <= CLEAN
            await fleet.judge("kill -9 of the store", load, faults=STORE_KILLS)

    asyncio.run(run())


def test_a_store_that_refuses_has_done_nothing(fleet: Fleet) -> None:
    """Row 9: what is refused was not applied, not even in part; whoever asks again is answered."""
    seed = drawn_seed()

    async def run() -> None:
        async with fleet.load("REFUSED", seed, direct=True) as load:
            async with load.working(CLIENTS):
                await load.enough(SERVED)
                await asyncio.to_thread(_forget_scripts, fleet.store, REFUSALS)
                await load.enough(SERVED)
                assert set(load.endings) == {"200"}  # nobody notices
                for _ in range(REFUSALS):
                    for word, trouble in TROUBLES:
                        async with trouble(fleet.store):
                            await _refused(load, word)
                        await load.enough(SERVED)
            assert set(load.endings) <= CLEAN
            await fleet.judge("refusals", load, faults=REFUSALS * (len(TROUBLES) + 1))

    asyncio.run(run())


def test_what_a_bad_network_does_stays_within_the_deadline(fleet: Fleet) -> None:
    """Row 4: nobody waits longer than he has to, nobody hears another one's answer."""
    seed = drawn_seed()
    dice = random.Random(f"wire {seed}")  # noqa: S311 (to be repeatable)
    deeds = dice.sample(DEEDS, len(DEEDS))
    deeds += dice.choices(DEEDS, k=max(0, WIRE - len(deeds)))

    async def run() -> None:
        done: Counter[str] = Counter()
        async with fleet.load("WIRED", seed, direct=True) as load:
            async with load.working(CLIENTS):
                for deed in deeds[:WIRE]:
                    await load.enough(SERVED)
                    delay_s, span_s = dice.uniform(*DELAY_S), dice.uniform(*SPAN_S)
                    done[deed(fleet.proxy, delay_s)] += 1
                    await asyncio.sleep(span_s)
                    fleet.proxy.heal()
                await load.enough(SERVED)
            assert load.slowest_s < DEADLINE_S + LATE_S_MAX
            print(dict(done))
            assert set(load.endings) <= CLEAN
            await fleet.judge("bad network", load, faults=WIRE)

    asyncio.run(run())


def _forget_scripts(store: Server, times: int) -> None:
    for _ in range(times):
        store.ask("SCRIPT", "FLUSH", answer_s_max=ASKED_S_MAX)


async def _refused(load: Load, word: str) -> None:
    """Wait until some requests are refused, not applied, for a reason that the message tells."""

    def refused() -> int:
        said = load.messages.items()
        return sum(n for (outcome, why), n in said if outcome == "not_applied" and word in why)

    before = refused()
    await until(lambda: refused() >= before + REFUSED)
