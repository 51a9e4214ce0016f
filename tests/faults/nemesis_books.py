"""The books of a nemesis: looked at all the while, and once more when everything has come to rest.

Decided here: what is held against what at a moment under load, and the faultless end: everybody is
answered under the id it had, gateways forward by themselves until nothing is left, every seat is
given back; then all records against all. Not decided here: what must agree (checker.py,
tests/stores/journal.py, nemesis_seats.py). Source: RELIABILITY 1 and 4, row 17.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.faults.checker import Finding, Journal, findings, over_capacity
from tests.faults.ending import decide, drain
from tests.faults.ledger import FILES
from tests.faults.nemesis_deeds import Nemesis
from tests.faults.nemesis_house import CONSUMED, TIGHT, House
from tests.faults.nemesis_plant import roll
from tests.faults.nemesis_seats import over_seats
from tests.faults.plan import Plan
from tests.faults.scene import AWAY, until
from tests.stores import journal

CLIENTS = 2  # of each load
SERVED = 20  # answers of each load before the first deed
LOOK_S = 1.0
LOOKS_S_MAX = 180.0  # until there has been one: the store may be away
AGAIN_MAX = 15  # looks at what may be of a primary that is none any more
REPLAYED = 4  # answered ids of each load that are sent to every gateway again in the end
DRAINED_S_MAX = 180.0
LOG_CHARS_MAX = 3_000


@dataclass
class Looks:
    """Looks at the books of a house while a nemesis is at work; `count` of them said something."""

    house: House
    nemesis: Nemesis
    count: int = 0
    doubts: list[str] = field(default_factory=list)

    async def go_on(self) -> None:
        """Look until something is amiss, or for ever."""
        while not self.house.found:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Hold everything against everything that can be known in the middle of it all."""
        self._look_for_dead()
        found = await self._found()
        for _ in range(AGAIN_MAX if self.house.at.replicated else 0):
            # For a moment the books may have been read of one that is no primary any more. What is
            # lost stays lost, so it is looked for again.
            if not found:
                break
            self.doubts += found
            await asyncio.sleep(LOOK_S)
            found = await self._found()
        self.house.found += found or []

    async def _found(self) -> list[str] | None:
        house = self.house
        moments = [load.moment() for load in house.loads]
        try:
            told = await house.books()
        except AWAY:  # then nothing can be said now
            return None
        known = Journal()
        for load, moment in zip(house.loads, moments, strict=True):
            load.enter(known, moment)
        evidence = await asyncio.to_thread(
            lambda: {site.name: site.evidence({}) for site in house.sites}
        )
        found = findings(told, known, evidence)
        found += over_capacity(told, house.capacity)
        found += over_capacity(told, house.seats)
        self.count += 1
        return [each.text for each in found]

    def _look_for_dead(self) -> None:
        """Nobody ends but by a deed."""
        for gateway in self.house.gateways:
            if not gateway.running and not self.nemesis.is_busy(gateway.name):
                tail = gateway.log[-LOG_CHARS_MAX:]
                self.house.found.append(f"{gateway.name} ended by itself: {tail}")


async def safety(house: House, nemesis: Nemesis, looks: Looks, duration_s: float) -> None:
    """Let clients work and deeds be done for so long; look at the books all the while."""
    async with AsyncExitStack() as working:
        for load in house.loads:
            await working.enter_async_context(load.working(CLIENTS))
        await asyncio.gather(*(load.enough(SERVED) for load in house.loads))
        looking = asyncio.create_task(looks.go_on())
        await nemesis.run(duration_s, lambda: house.found or house.oddities or looking.done())
        await until(lambda: looks.count or looking.done(), LOOKS_S_MAX)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def settle(house: House) -> None:
    """Let everybody be answered and everything be forwarded; nothing is done to anybody any more.

    Gateways are restarted first: a lane that an upstream stopped is probed then, or in 5 min.
    """
    for site in house.sites:
        site.upstream.follow(Plan())
    for forwarder in house.forwarders:
        if not forwarder.running:
            forwarder.begin()
    await roll(house)
    await asyncio.gather(*(load.settle() for load in house.loads))
    urls = [gateway.url for gateway in house.gateways]
    await asyncio.gather(*(load.leave_all() for load in house.loads))
    await asyncio.gather(*(load.replay(urls, REPLAYED) for load in house.loads))
    for forwarder in house.forwarders:  # as the gateways: what stands is probed at a start
        await asyncio.to_thread(forwarder.restart)
    await asyncio.to_thread(house.lapse_leases)
    left: list[str] = []
    for _ in range(int(DRAINED_S_MAX / LOOK_S)):
        left = waiting(await house.books())
        if not left:
            break
        await asyncio.sleep(LOOK_S)
    house.found += [f"not forwarded by the gateways in {DRAINED_S_MAX} s: {each}" for each in left]
    for gateway in house.gateways:
        await asyncio.to_thread(gateway.end)
    for forwarder in house.forwarders:
        await asyncio.to_thread(forwarder.stop)
    await asyncio.to_thread(house.lapse_leases)
    await drain(house)
    if await decide(house):
        await drain(house)


def waiting(told: Mapping[str, Any]) -> list[str]:
    """Say which lines have something that is still to be forwarded. Pure."""
    return [
        f"{instance['id']} line {entry['id']} to {entry['upstream']}: {entry['open']} open,"
        f" {entry['sealed']} sealed"
        for instance in told["instances"]
        for entry in instance["lines"]
        if entry["sealed"] or entry["open"] != entry.get("carried", 0)
    ]


async def last_judgement(house: House, nemesis: Nemesis) -> tuple[journal.Verdict, list[str]]:
    """Hold all records against all; give the verdict, and everything that is amiss."""
    evidence = {}
    for site in house.sites:
        evidence[site.name] = journal.Upstream(by=site.by, aside=await house.asides(site))  # type: ignore[arg-type]
        kept = house.records / journal.UPSTREAMS_DIR / site.name
        kept.mkdir(parents=True)
        for ledger in map(site.upstream.directory.joinpath, FILES.values()):
            if ledger.exists():
                shutil.copy(ledger, kept)
    verified = await house.command("verify", "--deep", "--format", "json")
    capacity: dict[str, dict[str, int]] = {CONSUMED: {"tight": TIGHT}}
    run = journal.Run(
        name=f"nemesis: {house.at.name}",
        seed=nemesis.seed,
        faults=nemesis.counts.total(),
        drained=True,
        capacity=capacity,
        upstreams=evidence,
    )
    journal.write_run(house.records, run, verified.stdout.encode())
    verdict = await asyncio.to_thread(journal.judge, house.records)
    return verdict, [
        *house.found,
        *verdict.violations,
        *(each.text for each in beyond(house)),
        *house.oddities,
        *_held_still(await house.books()),
        *tracebacks(house),
        *(f"{site.name}: {site.upstream.log}" for site in house.sites if site.upstream.log),
    ]


def beyond(house: House) -> Sequence[Finding]:
    """I4 of seats, by what clients were told."""
    told = [held for load in house.loads for held in load.held]
    return list(over_seats(told, house.seats))


def tracebacks(house: House) -> list[str]:
    """Give what anybody said who met what nobody foresaw."""
    found = []
    for program in (*house.gateways, *house.forwarders):
        log = program.log
        if "Traceback" in log:
            found.append(f"{program}: {log[log.index('Traceback') :][:LOG_CHARS_MAX]}")
    return found


def _held_still(told: Mapping[str, Any]) -> list[str]:
    """Every seat was given back in the end."""
    return [
        f"{instance['id']} line {entry['id']}: {entry['held']} held, and all were given back"
        for instance in told["instances"]
        for entry in instance["lines"]
        if entry["held"]
    ]


def figures(house: House, looks: Looks) -> str:
    """Tell what clients and upstreams met, in two lines."""
    endings = sum((load.endings for load in house.loads), Counter[str]())
    told = ", ".join(f"{word}: {count:,}" for word, count in sorted(endings.items()))
    met = Counter(each.fault or "none" for site in house.sites for each in site.upstream.handled())
    upstreams = ", ".join(f"{word} {count:,}" for word, count in sorted(met.items()))
    return (
        f"answers [{told}], {sum(load.replays for load in house.loads):,} by a retry\n"
        f"upstreams met [{upstreams}]; {looks.count} looks, {len(looks.doubts)} doubts,"
        f" {house.decided} decisions"
    )
