"""The forwarder: which outboxes are delivered when, under which lease, and how it stops.

Decided here: rounds over the partitions with something to forward, one round per upstream at a
time; pauses between rounds; the background sweep of lapses; draining and stopping. Not decided
here: how one outbox is delivered (delivery.py). Clocks, sleep and random are arguments.
Source: DESIGN 3 (lapses) and 5.
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
from gateway.upstream.leases import Leases

PARTITIONS_AT_ONCE_MAX: Final = 8
SWEEP_S: Final = 1.0
PAUSE_S: Final = 0.5  # before a round after one that could not do its work, for its own reasons
ELSEWHERE_S: Final = 20.0  # a lease held elsewhere has ended or lapsed by then
DRAIN_ROUNDS_MAX: Final = 10_000
DRAIN_FAILURES_MAX: Final = 8  # in a row; then the upstream is taken to be away
DRAIN_PAUSE_S_MAX: Final = 30.0
LEFTOVERS_MAX: Final = 1_000
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
    """What a round met: how visits ended, and the partitions that another process worked on."""

    ended: set[Progress] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)
    trouble: bool = False  # the store did not answer somewhere

    @property
    def hindered(self) -> bool:
        """Whether something kept it from an outbox that is neither the outbox's nor upstream's."""
        return bool(self.elsewhere) or self.trouble


@dataclass
class Forwarder:
    """Forwards usage of all instances over `routes`; `sweep` is told instances with lapses due.

    Either `start` and `stop`, or `drain` alone, or `drain` between the two.
    """

    outbox: Outbox
    catalogues: CatalogueReader
    routes: Sequence[Route]
    sweep: Callable[[str], Awaitable[object]] | None = None
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
        """Begin to forward and to sweep, in tasks of their own."""
        self._tasks = [asyncio.create_task(self._serve(route)) for route in self.routes]
        if self.sweep is not None:
            self._tasks.append(asyncio.create_task(self._sweep_on(self.sweep)))

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
                        reason = self.delivery.reason(instance, name)
                        if name not in configured:
                            reason = "upstream is not configured"
                        left.append(Leftover(instance, name, rest.open_rows, rest.sealed, reason))
                if len(left) >= LEFTOVERS_MAX:
                    return left
        return left

    async def _serve(self, route: Route) -> None:
        """Make rounds for one upstream until told to stop."""
        only: set[int] | None = None
        while not self._stopping.is_set():
            started_s = self.monotonic_s()
            met = await self._round(route, only)
            pause_s = self._pause_s(route, met, started_s)
            # A round only because of foreign leases leaves other outboxes to their interval.
            only = met.elsewhere if met.elsewhere and pause_s == ELSEWHERE_S else None
            await self._pause(pause_s)

    def _pause_s(self, route: Route, met: _Round, started_s: float) -> float:
        pauses = [max(0.0, started_s + route.interval_s - self.monotonic_s())]
        if met.trouble or Progress.MORE in met.ended:
            pauses.append(PAUSE_S)
        if met.elsewhere:
            pauses.append(ELSEWHERE_S)
        if Progress.BLOCKED in met.ended:
            pauses.append(max(PAUSE_S, self.delivery.blocked_wait_s(route.name) or 0.0))
        if Progress.LATER in met.ended:
            # Before the upstream is to be asked again, a round for another reason can do nothing.
            return max(PAUSE_S / 10, self.delivery.breaker(route.name).wait_s(self.monotonic_s()))
        return min(pauses)

    def _drain_pauses(self, route: Route, met: _Round, patient: bool) -> list[float]:
        """List how long to wait for each thing that waiting may help; [] when nothing may."""
        pauses: list[float] = []
        breaker = self.delivery.breaker(route.name)
        wait_s = breaker.wait_s(self.monotonic_s())
        may_return = breaker.failures < DRAIN_FAILURES_MAX and wait_s <= DRAIN_PAUSE_S_MAX
        if Progress.LATER in met.ended and may_return:
            pauses.append(wait_s)
        if Progress.MORE in met.ended:
            pauses.append(0.0)
        if met.hindered and patient:
            pauses.append(PAUSE_S)
        return pauses

    async def _round(self, route: Route, only: set[int] | None = None) -> _Round:
        """Visit every outbox of this upstream that may have something."""
        met = _Round()
        at_once = asyncio.Semaphore(PARTITIONS_AT_ONCE_MAX)

        async def visit(partition: int, instances: list[str]) -> None:
            async with at_once:
                if not self._stopping.is_set():
                    await self._guard(self._visit(route, partition, instances, met), met)

        async def visit_all() -> None:
            dirty = await self.outbox.dirty()
            await asyncio.gather(
                *(visit(*each) for each in dirty.items() if only is None or each[0] in only)
            )

        async with self._rounds[route.name]:
            await self._guard(visit_all(), met)
        return met

    async def _visit(self, route: Route, partition: int, instances: list[str], met: _Round) -> None:
        """Deliver the instances of one partition over one route, under its lease."""
        async with self.leases.hold(partition) as lease:
            if lease is None:
                met.elsewhere.add(partition)
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
                met.ended.add(ended)
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
