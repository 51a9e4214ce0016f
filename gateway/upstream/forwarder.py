"""The forwarder: which outboxes are delivered when, under which lease, and how it stops.

Decided here: rounds over the partitions with something to forward, one round per upstream at a
time; pauses between rounds; when lapses are swept; draining and stopping. Not decided here: how one
outbox is delivered (delivery.py), which old days are folded when (folding.py). Clocks, sleep and
random are arguments. Source: DESIGN 3 (lapses) and 5.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from gateway.core.ports import CatalogueReader, Outbox, Route
from gateway.upstream.delivery import Delivery, Progress
from gateway.upstream.folding import FoldRounds
from gateway.upstream.leases import Leases

PARTITIONS_AT_ONCE_MAX: Final = 8
SWEEP_S: Final = 1.0
PAUSE_S: Final = 0.5  # before a round after one that could not do its work, for its own reasons
CROWD_LOOK_S: Final = 10.0  # how often it is seen that a batch could be filled before its time
ELSEWHERE_S: Final = 20.0  # a lease held elsewhere has ended or lapsed by then
DRAIN_ROUNDS_MAX: Final = 10_000
DRAIN_FAILURES_MAX: Final = 8  # in a row; then the upstream is taken to be away
DRAIN_PAUSE_S_MAX: Final = 30.0
LEFTOVERS_MAX: Final = 1_000
LEFT_TOLD_MAX: Final = 20  # outboxes that a stop names in the log
STOP_LIST_S: Final = 1.0

_log: Final = structlog.get_logger("gateway.forward")


class Leftover(msgspec.Struct, frozen=True):
    """An outbox that is not empty: open rows, the sealed batch ("" for none), and why."""

    instance: str
    upstream: str
    open_rows: int
    sealed: str
    reason: str


@dataclass
class _Round:
    """What a round met: how visits ended, and the instances that another process worked on."""

    ended: dict[str, Progress] = field(default_factory=dict)  # by instance
    elsewhere: set[str] = field(default_factory=set)
    trouble: bool = False  # the store did not answer somewhere

    def having(self, progress: Progress) -> set[str]:
        """The instances where it ended so."""
        return {instance for instance, ended in self.ended.items() if ended is progress}

    @property
    def hindered(self) -> bool:
        """Whether something kept it from an outbox that is neither the outbox's nor upstream's."""
        return bool(self.elsewhere) or self.trouble


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
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _draining: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _troubled: bool = False  # what was done last failed: a change of health is logged, not a state

    def __post_init__(self) -> None:
        self.leases = Leases(self.outbox, self.monotonic_s, self.sleep)
        self.delivery = Delivery(
            self.outbox,
            self.monotonic_s,
            self.random,
            self._stopping.is_set,
            self.blocked_retry_s,
        )
        # A process shares its leases, so within it only this keeps two visits of one outbox apart.
        self._rounds = {route.name: asyncio.Lock() for route in self.routes}

    def start(self) -> None:
        """Begin to forward, to sweep and to fold, in tasks of their own."""
        self._tasks = [asyncio.create_task(self._serve(route)) for route in self.routes]
        if self.sweep is not None:
            self._tasks.append(asyncio.create_task(self._sweep_on(self.sweep)))
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
        left: list[Leftover] = []
        configured = {route.name for route in self.routes}
        for instances in (await self.outbox.dirty()).values():
            for instance in instances:
                index = await self.catalogues.read(instance)
                for attachment in index.catalogue.upstreams if index else ():
                    name = attachment.name
                    rest = await self.outbox.rest(instance, name)
                    if rest.open_rows or rest.sealed:
                        reason = self.delivery.hindrances.reason((instance, name))
                        if name not in configured:
                            reason = "upstream is not configured"
                        left.append(Leftover(instance, name, rest.open_rows, rest.sealed, reason))
                if len(left) >= LEFTOVERS_MAX:
                    return left
        return left

    async def _serve(self, route: Route) -> None:
        """Make rounds for one upstream until told to stop.

        A round over all instances at the interval, and between two of them one over those for which
        there is a reason of their own: the others keep their interval.
        """
        full_s = self.monotonic_s()  # when the next round over all is due
        wakes: dict[str, float] = {}  # instances that are due before that
        while not self._stopping.is_set():
            only: set[str] | None = None
            if self.monotonic_s() < full_s:
                only = {each for each, at_s in wakes.items() if at_s <= self.monotonic_s()}
            else:
                full_s = self.monotonic_s() + route.interval_s
                wakes.clear()
            for instance in only or ():
                del wakes[instance]
            met = await self._round(route, only)
            now_s = self.monotonic_s()
            if met.trouble:
                full_s = min(full_s, now_s + PAUSE_S)
            wakes |= self._wakes(route, met, now_s)
            await self._pause_until(route, met, full_s, wakes)

    def _wakes(self, route: Route, met: _Round, now_s: float) -> dict[str, float]:
        """Say which instances are to be visited again before all are, and when."""
        hindrances = self.delivery.hindrances
        due = {name: max(PAUSE_S, wait_s) for name, wait_s in hindrances.waits(route.name).items()}
        due |= dict.fromkeys(met.elsewhere, ELSEWHERE_S)
        due |= dict.fromkeys(met.having(Progress.MORE), PAUSE_S)
        wait_s = hindrances.breaker(route.name).wait_s(now_s)
        due |= dict.fromkeys(met.having(Progress.LATER), max(PAUSE_S / 10, wait_s))
        return {instance: now_s + wait_s for instance, wait_s in due.items()}

    async def _pause_until(
        self, route: Route, met: _Round, full_s: float, wakes: dict[str, float]
    ) -> None:
        """Pause until somebody is due, or a batch could be filled somewhere; that is then noted."""
        until_s = min([full_s, *wakes.values()])
        if met.having(Progress.LATER):
            # Before the upstream is to be asked again, a round for another reason can do nothing.
            breaker = self.delivery.hindrances.breaker(route.name)
            until_s = self.monotonic_s() + max(PAUSE_S / 10, breaker.wait_s(self.monotonic_s()))

        async def look() -> None:
            # What is refused or cannot be sent stays where it is, however much it is.
            held = self.delivery.hindrances.waits(route.name).keys() | wakes.keys()
            for instance in await self.outbox.crowded(route.name, route.rows_max) - held:
                wakes[instance] = self.monotonic_s()

        while not self._stopping.is_set() and (left_s := until_s - self.monotonic_s()) > 0:
            await self._pause(min(left_s, CROWD_LOOK_S))
            if left_s > CROWD_LOOK_S and not met.having(Progress.LATER):
                await self._guard(look(), _Round())
                until_s = min([until_s, *wakes.values()])

    def _drain_pauses(self, route: Route, met: _Round, patient: bool) -> list[float]:
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

    async def _round(self, route: Route, only: set[str] | None = None) -> _Round:
        """Visit the outboxes of this upstream that may have something, all or of some instances."""
        met = _Round()
        at_once = asyncio.Semaphore(PARTITIONS_AT_ONCE_MAX)

        async def visit(partition: int, instances: list[str]) -> None:
            async with at_once:
                if not self._stopping.is_set():
                    await self._guard(self._visit(route, partition, instances, met), met)

        async def visit_all() -> None:
            dirty = await self.outbox.dirty()
            if only is not None:
                dirty = {
                    at: [each for each in names if each in only] for at, names in dirty.items()
                }
            places = [(partition, names) for partition, names in dirty.items() if names]
            # Each replica begins elsewhere, so that they share the work instead of meeting.
            first = int(self.random() * len(places))
            await asyncio.gather(*(visit(*each) for each in places[first:] + places[:first]))

        async with self._rounds[route.name]:
            await self._guard(visit_all(), met)
        return met

    async def _visit(self, route: Route, partition: int, instances: list[str], met: _Round) -> None:
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
                        ended = await self.delivery.run(
                            lease, index, attachment, route, to_the_end=self._draining
                        )
                met.ended[instance] = ended
                if ended is Progress.EMPTY:
                    names = [each.name for each in index.catalogue.upstreams]
                    await self.outbox.clean(instance, index.catalogue.version, names)

    async def _sweep_on(self, sweep: Callable[[str], Awaitable[object]]) -> None:
        """Have lapses swept that are due, so that requests seldom have to, until told to stop."""
        while not self._stopping.is_set():
            await self._guard(self._sweep_due(sweep), _Round())
            await self._pause(SWEEP_S)

    async def _sweep_due(self, sweep: Callable[[str], Awaitable[object]]) -> None:
        for partition, instances in (await self.outbox.due(self.now_ms())).items():
            async with self.leases.hold(partition) as lease:
                for instance in instances if lease else ():
                    if self._stopping.is_set():
                        return
                    # One that fails must not keep the others from being swept.
                    await self._guard(sweep(instance), _Round())

    async def _fold_on(self, rounds: FoldRounds) -> None:
        """Have days that are old folded into months, until told to stop."""
        while not self._stopping.is_set():
            await self._guard(rounds.make(), _Round())
            await self._pause(rounds.pause_s)

    async def _guard(self, work: Awaitable[object], met: _Round) -> None:
        """Do work that the store may fail; nothing is lost by leaving it to the next round."""
        try:
            await work
        except Exception as error:  # whatever a store's client raises: the loop must live on
            met.trouble = True
            if not self._troubled:
                _log.warning("work_interrupted", error=type(error).__name__, why=str(error)[:200])
        else:
            if self._troubled and not met.trouble:
                _log.info("work_resumed")
        self._troubled = met.trouble

    async def _pause(self, delay_s: float) -> None:
        """Sleep, but no longer than until told to stop."""
        sleeping = asyncio.ensure_future(self.sleep(delay_s))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
