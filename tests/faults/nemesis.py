"""What is done to a scene while its clients work: everything at random, from one seed.

Decided here: the deeds, how often each is done, and that a thing has one done to it at a time while
different things suffer together. Not decided here: what must hold all the while (checker.py). The
same seed draws the same deeds in the same order; when the kernel lets each happen is its own.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.faults.plan import Plan
from tests.faults.plans import draw_plan
from tests.faults.scene import AWAY, FEATURES, INSTANCES, Scene, name_of
from tests.faults.sites import HttpSite, SpoolSite

PAUSE_S = (0.05, 0.6)  # between deeds
SPAN_S = (0.1, 1.5)  # of being away or stopped
LEASE_PASSED_S = 17.0
LONG_RUN_S = 60.0  # in which there is time for a lease to run out by itself
TICK_S = 1.0
JUDGED_WITHIN_S = 90.0  # once all runs again
FORWARDERS = 2
NAMES = [name_of(instance, feature) for instance in INSTANCES for feature in FEATURES]


@dataclass(frozen=True)
class Deed:
    """Something to do to a `thing`, and how often in comparison with others."""

    weight: int
    name: str
    thing: str
    do: Callable[[], Awaitable[None]]


@dataclass
class Nemesis:
    """Does deeds to a scene; `done` is what was done when, for whoever looks at a failure."""

    scene: Scene
    seed: int
    duration_s: float
    done: list[str] = field(default_factory=list)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _over: bool = False

    def __post_init__(self) -> None:
        self._dice = random.Random(f"nemesis {self.seed}")  # noqa: S311 (to be repeatable)
        self._begun_s = time.monotonic()

    async def run(self) -> None:
        """Do deeds until time is over or something is amiss; afterwards all runs that ran before.

        Clients work and the books are judged all the while.
        """
        for _ in range(FORWARDERS):
            self.scene.start_forwarder()
        working = asyncio.create_task(self.scene.load.run())
        judging = asyncio.create_task(self._judge())
        deeds: list[asyncio.Task[None]] = []
        while not self.scene.found and self._passed_s < self.duration_s:
            deeds.append(asyncio.create_task(self._do(self._draw())))
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))
        await asyncio.gather(*deeds)
        working.cancel()
        self._over = True
        with suppress(asyncio.CancelledError):
            await working
        await asyncio.wait_for(judging, JUDGED_WITHIN_S)

    @property
    def _passed_s(self) -> float:
        return time.monotonic() - self._begun_s

    async def _judge(self) -> None:
        """Judge the books until all is over, at least once.

        It is never cancelled: the store's client may swallow that.
        """
        while not await self.scene.judge() and not (self._over and self.scene.ticks):
            for spool in self.scene.spools:
                spool.visit()
            await asyncio.sleep(TICK_S)

    async def _do(self, deed: Deed) -> None:
        """Do a deed, unless something is being done to that thing already."""
        lock = self._locks.setdefault(deed.thing, asyncio.Lock())
        if lock.locked():
            return
        async with lock:
            self.done.append(f"{self._passed_s:.2f} {deed.name}")
            await deed.do()

    def _draw(self) -> Deed:
        """Draw a deed. The dice fall alike each time, whatever became of the deeds before."""
        dice = self._dice
        place, span_s = dice.randrange(FORWARDERS), dice.uniform(*SPAN_S)
        deeds = [*self._to_forwarders(place, span_s), *self._to_store(span_s)]
        for site in self.scene.sites:
            if isinstance(site, SpoolSite):
                deeds += self._to_spool(site, span_s)
            if isinstance(site, HttpSite):
                deeds += self._to_upstream(site, span_s)
        return dice.choices(deeds, [deed.weight for deed in deeds])[0]

    def _to_forwarders(self, place: int, span_s: float) -> list[Deed]:
        lapse = self._dice.random() < 0.8
        thing = f"forwarder {place}"
        deeds = [
            Deed(3, "kill forwarder", thing, lambda: self._kill(place, lapse)),
            Deed(2, "end forwarder", thing, lambda: self._end(place)),
            Deed(3, "stop forwarder", thing, lambda: self._stop(place, span_s, lapse)),
            Deed(2, "leases lapse", "leases", self.scene.lapse_leases),
        ]
        if self.duration_s >= LONG_RUN_S:
            long = Deed(1, "suspend", thing, lambda: self._stop(place, LEASE_PASSED_S, False))
            deeds.append(long)
        return deeds

    def _to_store(self, span_s: float) -> list[Deed]:
        downtime_s = self._dice.choice([0.0, span_s])
        server = self.scene.server
        return [
            Deed(2, "kill store", "store", lambda: _away(server.kill, server.start, downtime_s)),
            Deed(1, "pause store", "store", lambda: _away(server.pause, server.resume, span_s)),
            Deed(1, "flush scripts", "scripts", lambda: self._tell("SCRIPT", "FLUSH")),
            Deed(
                1, "kill clients", "clients", lambda: self._tell("CLIENT", "KILL", "TYPE", "normal")
            ),
        ]

    def _to_upstream(self, site: HttpSite, span_s: float) -> list[Deed]:
        up, downtime_s = site.upstream, self._dice.choice([0.0, span_s])
        drawn = random.Random(self._dice.randrange(2**32))  # noqa: S311 (what it needs may vary)
        name, plan = draw_plan(drawn, NAMES, up.totals())
        deeds = [
            Deed(1, f"kill {site.name}", site.name, lambda: _away(up.kill, up.start, downtime_s)),
            Deed(1, f"pause {site.name}", site.name, lambda: _away(up.pause, up.resume, span_s)),
        ]
        follow = Deed(9, f"{site.name} {name}", f"{site.name} plan", lambda: _follow(site, plan))
        return [*deeds, follow]

    def _to_spool(self, site: SpoolSite, span_s: float) -> list[Deed]:
        return [
            Deed(3, "pull stick", site.name, lambda: _away(site.pull, site.plug, span_s)),
            Deed(3, "receipt", f"{site.name} receipt", lambda: self._receipt(site)),
        ]

    async def _kill(self, place: int, lapse: bool) -> None:
        self.scene.kill_forwarder(place)
        if lapse:
            await self.scene.lapse_leases()
        self.scene.start_forwarder(place)

    async def _end(self, place: int) -> None:
        await self.scene.end_forwarder(place)
        self.scene.start_forwarder(place)

    async def _stop(self, place: int, span_s: float, lapse: bool) -> None:
        """Let one sleep, and perhaps others take its leases meanwhile, without its knowing."""
        process = self.scene.forwarders[place].process
        process.send_signal(signal.SIGSTOP)
        if lapse:
            await self.scene.lapse_leases()
        await asyncio.sleep(span_s)
        process.send_signal(signal.SIGCONT)

    async def _tell(self, *words: str) -> None:
        with suppress(*AWAY):
            await self.scene.store.client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def _receipt(self, site: SpoolSite) -> None:
        """Bring a receipt; of a file that no forwarder has parked yet, it is refused."""
        receipt = site.carrier.receipt()
        if receipt is not None:
            ended = await self.scene.command("forward", "--receipt", str(receipt))
            if ended.returncode not in (0, 1) or "Traceback" in ended.stderr:
                self.scene.found.append(f"a receipt: {ended.stdout}{ended.stderr}")


async def _follow(site: HttpSite, plan: Plan) -> None:
    site.upstream.follow(plan)


async def _away(leave: Callable[[], None], come_back: Callable[[], None], span_s: float) -> None:
    leave()
    await asyncio.sleep(span_s)
    come_back()
