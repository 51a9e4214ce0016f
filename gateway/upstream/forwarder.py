"""The forwarder: which outboxes are delivered when, under which lease, and how it stops.

Decided here: rounds over the partitions with something to forward, one round per upstream at a
time; pauses between rounds; when lapses are swept; draining and stopping. Not decided here: how one
outbox is delivered (delivery.py), which old days are folded when (folding.py). Clocks, sleep and
random are arguments. Source: DESIGN 3 (lapses) and 5.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from gateway.core.meters import Meters
from gateway.core.ports import CatalogueReader, Demands, Outbox, Places, Route
from gateway.upstream.delivery import Delivery, Progress
from gateway.upstream.demands import Demanded
from gateway.upstream.folding import FoldRounds
from gateway.upstream.leases import Leases
from gateway.upstream.leftovers import Leftover as Leftover
from gateway.upstream.leftovers import leftovers
from gateway.upstream.sweeping import SweepRounds
from gateway.upstream.visits import Round, visited

PARTITIONS_AT_ONCE_MAX: Final = 8
SWEEP_S: Final = 1.0
PAUSE_S: Final = 0.5  # before a round after one that could not do its work, for its own reasons
CROWD_LOOK_S: Final = 10.0  # how often it is seen that a batch could be filled, or is wanted now
SYNC_LOOK_S: Final = 10.0  # how often it is seen who is due by a schedule of its own, or asked
ELSEWHERE_S: Final = 20.0  # a lease held elsewhere has ended or lapsed by then
DRAIN_ROUNDS_MAX: Final = 10_000
DRAIN_FAILURES_MAX: Final = 6  # in a row; then the upstream is taken to be away
DRAIN_PAUSE_S_MAX: Final = 30.0
LEFT_TOLD_MAX: Final = 20  # outboxes that a stop names in the log
STOP_LIST_S: Final = 1.0

_log: Final = structlog.get_logger("gateway.forward")


@dataclass
class Forwarder:
    """Forwards usage of all instances over `routes`; `sweep` is told instances with lapses due,
    `fold` all of them, to fold days that are old and say whether there are more.

    Either `start` and `stop`, or `drain` alone, or `drain` between the two.
    """

    outbox: Outbox
    catalogues: CatalogueReader
    routes: Sequence[Route]
    sweep: Callable[[str], Awaitable[object]] | None = None
    fold: Callable[[str], Awaitable[bool]] | None = None
    blocked_retry_s: float = 3_600.0
    monotonic_s: Callable[[], float] = time.monotonic
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Callable[[], float] = random.random
    meters: Meters = field(default_factory=Meters)
    demands: Demands | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _draining: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _interrupted: set[str] = field(default_factory=set)  # what failed last; a change is logged

    def __post_init__(self) -> None:
        self.leases = Leases(self.outbox, self.monotonic_s, self.sleep)
        self.demanded = Demanded(self.demands)
        self.delivery = Delivery(
            *(self.outbox, self.monotonic_s, self.random, self._stopping.is_set),
            self.blocked_retry_s,
            meters=self.meters,
        )
        # A process shares its leases, so within it only this keeps two visits of one outbox apart.
        self._rounds = {route.name: asyncio.Lock() for route in self.routes}

    def start(self) -> None:
        """Begin to forward, to sweep and to fold, in tasks of their own."""
        self._tasks = [asyncio.create_task(self._serve(route)) for route in self.routes]
        if self.sweep is not None:
            sweeps = SweepRounds(
                self.outbox, self.leases, self.sweep, self.now_ms, self._stopping.is_set
            )
            self._tasks.append(asyncio.create_task(self._sweep_on(sweeps)))
        if self.fold is not None:
            rounds = FoldRounds(
                self.outbox,
                self.leases,
                self.fold,
                self.monotonic_s,
                self.random,
                self._stopping.is_set,
            )
            self._tasks.append(asyncio.create_task(self._fold_on(rounds)))

    async def stop(self, grace_s: float = 8.0) -> list[Leftover]:
        """Stop in order: claim nothing new, finish what is sent, give leases back, list the rest.

        What has no answer after `grace_s` is abandoned: it is sealed, and goes again under its id.
        """
        self._stopping.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        left: list[Leftover] = []
        try:
            async with asyncio.timeout(STOP_LIST_S):
                left = await self.leftovers()
        except Exception as error:  # the store may be gone first; what it has it keeps
            _log.warning("leftovers_unknown", error=type(error).__name__)
        for each in left[:LEFT_TOLD_MAX]:
            _log.info("outbox_left", **msgspec.structs.asdict(each))
        _log.info("forwarder_stopped", outboxes_left=len(left))
        return left

    async def drain(self, lease_wait_s: float = 20.0) -> list[Leftover]:
        """Forward what is there, and return what could not be, with the reasons; [] is all done.

        Waits up to `lease_wait_s` in all for leases held elsewhere and for the store, and for an
        upstream that does not answer through DRAIN_FAILURES_MAX attempts. Blocked lanes are tried
        once.
        """
        waited_s = 0.0  # the sum of pauses, so that time spent working uses up no patience
        self.delivery.unblock()
        self._draining = True
        for _ in range(DRAIN_ROUNDS_MAX):
            rounds = await asyncio.gather(*(self._round(route) for route in self.routes))
            pauses = [
                pause_s
                for route, met in zip(self.routes, rounds, strict=True)
                for pause_s in self._drain_pauses(route, met, waited_s < lease_wait_s)
            ]
            if not pauses or self._stopping.is_set():
                break
            if any(met.hindered for met in rounds):
                waited_s += min(pauses)
            await self.sleep(min(pauses))
        return await self.leftovers()

    async def leftovers(self) -> list[Leftover]:
        """List outboxes that are not empty, LEFTOVERS_MAX at most."""
        configured = {route.name for route in self.routes}
        return await leftovers(self.outbox, self.catalogues, self.delivery.hindrances, configured)

    async def _serve(self, route: Route) -> None:
        """Make rounds for one upstream until told to stop.

        A round over all instances at the interval, and between two of them one over those for which
        there is a reason of their own, such as that the store kept it from them: the others keep
        their interval.
        """
        full_s, again_s = self.monotonic_s(), math.inf  # when all are due, and those not served yet
        wakes: dict[str, float] = {}  # instances that are due before that
        served: set[str] = set()
        while not self._stopping.is_set():
            now_s = self.monotonic_s()
            only: set[str] | None = None
            wanted: set[str] = set()
            if now_s >= full_s or now_s < again_s:
                wanted = {each for each, at_s in wakes.items() if at_s <= now_s}
            if now_s >= full_s:
                interval_s = SYNC_LOOK_S if route.sync else route.interval_s
                full_s, served = now_s + interval_s, set()
                if route.sync is None:  # which visits only who is due, or wanted
                    wakes.clear()
            elif now_s < again_s:
                only = wanted
            wakes = {each: at_s for each, at_s in wakes.items() if each not in wanted}
            met = await self._round(route, only, wanted, but=() if only else served)
            served = (served - (only or set())) | met.ended.keys() | met.elsewhere
            now_s = self.monotonic_s()
            if met.trouble is not None:
                again_s = now_s + PAUSE_S
            elif only is None:
                again_s = math.inf
            wakes |= self._wakes(route, met, wanted, now_s)
            await self._pause_until(route, met, min(full_s, again_s), wakes)

    def _wakes(self, route: Route, met: Round, wanted: set[str], now_s: float) -> dict[str, float]:
        """Say which instances are to be visited again before all are, and when."""
        hindrances = self.delivery.hindrances
        due = {name: max(PAUSE_S, wait_s) for name, wait_s in hindrances.waits(route.name).items()}
        missed = wanted - met.ended.keys() if met.trouble else wanted & met.elsewhere
        # A schedule says who is still due, but not who was wanted.
        due |= dict.fromkeys(missed if route.sync else met.elsewhere, ELSEWHERE_S)
        due |= dict.fromkeys(met.having(Progress.MORE), PAUSE_S)
        wait_s = hindrances.breaker(route.name).wait_s(now_s)
        due |= dict.fromkeys(met.having(Progress.LATER), max(PAUSE_S / 10, wait_s))
        return {instance: now_s + wait_s for instance, wait_s in due.items()}

    async def _pause_until(
        self, route: Route, met: Round, full_s: float, wakes: dict[str, float]
    ) -> None:
        """Pause until somebody is due or wanted, or a batch could be filled; that is then noted."""
        until_s = min([full_s, *wakes.values()])
        later = bool(met.having(Progress.LATER))
        if later:
            # Before the upstream is to be asked again, a round for another reason can do nothing.
            breaker = self.delivery.hindrances.breaker(route.name)
            until_s = self.monotonic_s() + max(PAUSE_S / 10, breaker.wait_s(self.monotonic_s()))

        async def look() -> None:
            nonlocal until_s
            for instance in await self.demanded.at(route):
                self.delivery.hindrances.hasten_lane((instance, route.name))
                until_s = wakes[instance] = self.monotonic_s()
            if later:
                return
            # What is refused or cannot be sent stays where it is, however much it is.
            held = self.delivery.hindrances.waits(route.name).keys() | wakes.keys()
            for instance in await self.outbox.crowded(route.name, route.rows_max) - held:
                until_s = wakes[instance] = self.monotonic_s()

        while not self._stopping.is_set() and (left_s := until_s - self.monotonic_s()) > 0:
            await self._pause(min(left_s, CROWD_LOOK_S))
            if left_s > CROWD_LOOK_S:
                await self._guard(look(), Round())

    def _drain_pauses(self, route: Route, met: Round, patient: bool) -> list[float]:
        """List how long to wait for each thing that waiting may help; [] when nothing may."""
        pauses: list[float] = []
        breaker = self.delivery.hindrances.breaker(route.name)
        wait_s = breaker.wait_s(self.monotonic_s())
        may_return = breaker.failures < DRAIN_FAILURES_MAX and wait_s <= DRAIN_PAUSE_S_MAX
        if met.having(Progress.LATER) and may_return:
            pauses.append(wait_s)
        if met.having(Progress.MORE):
            pauses.append(0.0)
        if met.hindered and patient:
            pauses.append(PAUSE_S)
        return pauses

    async def _round(
        self,
        route: Route,
        only: Collection[str] | None = None,
        wanted: Collection[str] = (),
        *,
        but: Collection[str] = (),
    ) -> Round:
        """Visit the outboxes that may have something, or are `wanted`: of all or some instances."""
        met = Round()
        at_once = asyncio.Semaphore(PARTITIONS_AT_ONCE_MAX)

        async def visit(partition: int, instances: list[str]) -> None:
            async with at_once:
                if not self._stopping.is_set():
                    await self._guard(self._visit(route, partition, instances, met), met)

        async def visit_all(dirty: Places) -> None:
            wanted = {
                at: [each for each in names if each not in but and (only is None or each in only)]
                for at, names in dirty.items()
            }
            places = [(partition, names) for partition, names in wanted.items() if names]
            # Each replica begins elsewhere, so that they share the work instead of meeting.
            first = int(self.random() * len(places))
            await asyncio.gather(*(visit(*each) for each in places[first:] + places[:first]))

        async with self._rounds[route.name]:
            await self._guard(visited(self._told(route, wanted), visit_all), met)
        self._tell(route.name, met)
        return met

    async def _told(self, route: Route, wanted: Collection[str]) -> Places:
        """Ask who may have something for an upstream."""
        if route.sync is None:
            return await self.outbox.dirty()
        return await route.sync.due(wanted, everything=self._draining)

    async def _visit(self, route: Route, partition: int, instances: list[str], met: Round) -> None:
        """Deliver the instances of one partition over one route, under its lease."""
        async with self.leases.hold(partition) as lease:
            if lease is None:
                met.elsewhere.update(instances)
                return
            for instance in instances:
                index = await self.catalogues.read(instance)
                if index is None:
                    continue
                ended = Progress.EMPTY
                for attachment in index.catalogue.upstreams:
                    if attachment.name == route.name:
                        async with self.demanded.met(instance, route):
                            ended = await self.delivery.run(
                                lease, index, attachment, route, to_the_end=self._draining
                            )
                if route.sync is not None and ended in (Progress.EMPTY, Progress.BLOCKED):
                    await route.sync.pull(lease, index)
                met.ended[instance] = ended
                if ended is Progress.EMPTY:
                    names = [each.name for each in index.catalogue.upstreams]
                    await self.outbox.clean(instance, index.catalogue.version, names)

    async def _sweep_on(self, rounds: SweepRounds) -> None:
        """Have lapses swept that are due, until told to stop."""
        while not self._stopping.is_set():
            met = Round()
            await self._guard(rounds.make(), met)
            self._tell("sweep", met)
            await self._pause(SWEEP_S)

    async def _fold_on(self, rounds: FoldRounds) -> None:
        """Have days that are old folded into months, until told to stop."""
        while not self._stopping.is_set():
            met = Round()
            await self._guard(rounds.make(), met)
            self._tell("fold", met)
            await self._pause(rounds.pause_s)

    async def _guard(self, work: Awaitable[object], met: Round) -> None:
        """Do work that the store may fail; nothing is lost by leaving it to the next round."""
        try:
            await work
        except Exception as error:  # whatever a store's client raises: the loop must live on
            met.trouble = met.trouble or error

    def _tell(self, work: str, met: Round) -> None:
        """Log that something is interrupted that was not, and that nothing is any more."""
        before = bool(self._interrupted)
        if met.trouble is None:
            self._interrupted.discard(work)
        else:
            self._interrupted.add(work)
        if before and not self._interrupted:
            _log.info("work_resumed")
        elif self._interrupted and not before:
            error = met.trouble
            _log.warning("work_interrupted", error=type(error).__name__, why=str(error)[:200])

    async def _pause(self, delay_s: float) -> None:
        """Sleep, but no longer than until told to stop."""
        sleeping = asyncio.ensure_future(self.sleep(delay_s))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
