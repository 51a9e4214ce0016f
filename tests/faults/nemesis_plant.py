"""What is done to a house but for its store: gateways, forwarders, upstreams, provisioning.

Decided here: the deeds and how often each is done. Whoever ends is started again until it is ready,
as those do who look after services. Not decided here: when (nemesis_deeds.py), what is done to
the store (nemesis_stores.py), what must hold all the while (nemesis_books.py).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.faults.fleet_replica import Replica
from tests.faults.nemesis_clients import SPARE_KID, Spares
from tests.faults.nemesis_deeds import Deed, span_s
from tests.faults.nemesis_house import (
    CHANGES,
    CONSUMED,
    GATEWAYS,
    MANY_WORKERS,
    House,
    add_spare,
)
from tests.faults.nemesis_processes import Forwarder
from tests.faults.nemesis_servers import wire_deeds
from tests.faults.plans import draw_plan
from tests.faults.sites import HttpSite
from tests.faults.wire_deeds import DEEDS
from tests.system.processes import children_of, eventually, words

READY_S_MAX = 240.0  # the store may be away for most of it
COMMAND_S_MAX = 180.0
COMMAND_AGAIN_S = 0.2
AHEAD_S, BEHIND_S = 120, -45  # off by more than 30 s, and what is signed now is still good
CLOCK_S = (0.5, 2.5)
LAPSES = 0.7  # of leases whose holder was killed or sleeps
WORKER = "gateway.cli.worker"


def plant_deeds(house: House) -> list[Deed]:
    """Give everything that is done to a house but for its store."""
    return [
        *(deed for gateway in house.gateways for deed in _to_gateway(house, gateway)),
        *(deed for each in house.forwarders for deed in _to_forwarder(house, each)),
        *(deed for site in house.sites for deed in _to_upstream(site)),
        *wire_deeds(DEEDS[:6], "upstream", lambda dice: dice.choice(house.wires)),
        Deed(1, "rolling restart", GATEWAYS, lambda _: roll(house)),
        Deed(2, "leases lapse", ("leases",), lambda _: asyncio.to_thread(house.lapse_leases)),
        Deed(2, "clock off", ("clock",), lambda dice: _clock_off(house, dice)),
        Deed(2, "capacity changed", ("catalogue",), lambda dice: _change(house, dice)),
        Deed(2, "key revoked", ("catalogue",), lambda dice: _revoke(house, dice)),
    ]


async def roll(house: House) -> None:
    """Restart all gateways, one after the other, each once the one before it has requests again."""
    for gateway in house.gateways:
        await asyncio.to_thread(gateway.end)
        await asyncio.to_thread(gateway.keep_starting, READY_S_MAX)
        await asyncio.to_thread(
            eventually, lambda name=gateway.name: name in house.balancer.up(), READY_S_MAX
        )


def _to_gateway(house: House, gateway: Replica) -> list[Deed]:
    things = (gateway.name,)

    async def kill(dice: random.Random) -> None:
        gateway.kill()
        await asyncio.sleep(span_s(dice))
        await asyncio.to_thread(gateway.keep_starting, READY_S_MAX)

    async def end(dice: random.Random) -> None:
        await asyncio.to_thread(gateway.end)
        await asyncio.sleep(span_s(dice))
        await asyncio.to_thread(gateway.keep_starting, READY_S_MAX)

    async def stop(dice: random.Random) -> None:
        pids = [gateway.pid, *_workers(gateway)]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(span_s(dice))
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    async def kill_worker(dice: random.Random) -> None:
        for pid in _workers(gateway)[:1]:
            _signal(pid, signal.SIGKILL)
        await asyncio.to_thread(eventually, gateway.ready, READY_S_MAX)

    deeds = [
        Deed(2, "kill gateway", things, kill),
        Deed(1, "end gateway", things, end),
        Deed(2, "stop gateway", things, stop),
    ]
    if gateway.name == MANY_WORKERS:
        deeds.append(Deed(2, "kill worker", things, kill_worker))
    return deeds


def _to_forwarder(house: House, forwarder: Forwarder) -> list[Deed]:
    things = (forwarder.name,)

    async def lapse(dice: random.Random) -> None:
        if dice.random() < LAPSES:
            await asyncio.to_thread(house.lapse_leases)

    async def kill(dice: random.Random) -> None:
        forwarder.kill()
        await lapse(dice)
        await asyncio.to_thread(forwarder.keep_starting, READY_S_MAX)

    async def end(_: random.Random) -> None:
        await asyncio.to_thread(forwarder.stop)
        await asyncio.to_thread(forwarder.keep_starting, READY_S_MAX)

    async def stop(dice: random.Random) -> None:
        if not forwarder.running:
            return  # it found no store for long; the next deed has it back
        forwarder.pause()
        await lapse(dice)
        await asyncio.sleep(span_s(dice))
        forwarder.wake()

    return [
        Deed(2, "kill forwarder", things, kill),
        Deed(1, "end forwarder", things, end),
        Deed(2, "stop forwarder", things, stop),
    ]


def _to_upstream(site: HttpSite) -> list[Deed]:
    upstream = site.upstream

    async def kill(dice: random.Random) -> None:
        upstream.kill()
        await asyncio.sleep(dice.choice([0.0, span_s(dice)]))
        await asyncio.to_thread(upstream.start)

    async def pause(dice: random.Random) -> None:
        upstream.pause()
        await asyncio.sleep(span_s(dice))
        upstream.resume()

    async def plan(dice: random.Random) -> None:
        totals = await asyncio.to_thread(upstream.totals)
        _, drawn = draw_plan(dice, NAMES, totals)
        upstream.follow(drawn)

    return [
        Deed(1, "kill upstream", (site.name,), kill),
        Deed(1, "pause upstream", (site.name,), pause),
        Deed(5, "upstream misbehaves", (f"{site.name} plan",), plan),
    ]


async def _clock_off(house: House, dice: random.Random) -> None:
    house.clock.step(dice.choice([AHEAD_S, BEHIND_S]))
    await asyncio.sleep(dice.uniform(*CLOCK_S))
    house.clock.step(0)


async def _change(house: House, dice: random.Random) -> None:
    file = house.directory / "changed.toml"
    file.write_text(house.changed_toml(dice.randint(*CHANGES)))
    await _told(house, "apply", str(file))


async def _revoke(house: House, dice: random.Random) -> None:
    """Revoke a key, and add it again; only in between it is known to be of no use."""
    spares = [load for load in house.loads if isinstance(load, Spares)]
    await _told(house, "keys", "revoke", CONSUMED, SPARE_KID, done="has no key")
    for load in spares:
        load.be_shut(True)
    await asyncio.sleep(span_s(dice))
    for load in spares:
        load.be_shut(False)
    await _told(house, *add_spare(house))


async def _told(house: House, *command: str, done: str = "\0") -> None:
    """Give a command again until it succeeds, or says that it was `done`: the store may be away."""
    until_s = time.monotonic() + COMMAND_S_MAX
    while True:
        ended = await house.command(*command)
        if "Traceback" in ended.stderr:
            house.found.append(f"{' '.join(command)}: {ended.stderr}")
        if ended.returncode == 0 or done in ended.stderr:
            return
        assert time.monotonic() < until_s, f"{' '.join(command)}: {ended.stderr}"
        await asyncio.sleep(COMMAND_AGAIN_S)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a worker that ended meanwhile
        os.kill(pid, number)


def _workers(gateway: Replica) -> Sequence[int]:
    return [pid for pid in children_of(gateway.pid) if WORKER in words(pid)]


# What upstreams may be told about: by name of a feature here, which is a line's too.
NAMES = ("much", "more", "tight", "batched", "heaped", "changed", "f-units", "f-pages")
