"""What the forwarder's tests stand on: a real store, a misbehaving parent, a jumping clock."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import httpx
import msgspec

from gateway.core.decisions import Aside
from gateway.core.fingerprint import fingerprint
from gateway.core.keys import PrivateKey, generate
from gateway.core.model import AccessRequest, Attachment, Catalogue, Host, Line, Model, Want
from gateway.core.ports import Demands, Outbox, Route
from gateway.store.asides import Asides
from gateway.store.calls import Job
from gateway.store.keys import PartitionKeys
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox
from gateway.upstream.cmapi import CmapiUpstream, route
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.sender import CmapiSender, open_http
from tests.upstream.parent import Parent, open_parent
from tests.vectors.patience import PATIENT_S, patience

DAY_MS = 86_400_000
TICK_S = 0.001  # of real time, in which whatever may run runs, before the clock jumps
TURNS = 20  # of the loop: a request comes from its client to its server in fewer
BEGIN_MS = 1_767_225_600_000  # 2026-01-01: when the tests' clock shows 0
PRELUDE = (Path(__file__).parents[1] / "model" / "clock.lua").read_text()
PRIVATE = generate("RS256")


@dataclass
class Clock:
    """Jumps to the next moment that somebody waits for, when nobody works."""

    working: Callable[[], bool]
    tell: Callable[[int], Awaitable[object]]  # the store, what time it is in ms
    ping: Callable[[], Awaitable[object]]  # the store, which answers others before us
    now_s: float = 1_000.0
    waiting: dict[asyncio.Future[None], float] = field(default_factory=dict)
    ended: bool = False

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[future] = self.now_s + delay_s
        try:
            await future
        finally:
            self.waiting.pop(future, None)

    async def run(self) -> None:
        # A call to the store may swallow that its task is cancelled, just as it returns.
        while not self.ended:
            await asyncio.sleep(TICK_S)
            if not self.waiting:
                continue
            # On a slow machine nothing may have run by then. What was asked of the store before is
            # answered before our ping, and what then passes through this loop does so in turns.
            await self.ping()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if self.waiting and not self.working():
                future = min(self.waiting, key=lambda each: self.waiting[each])
                self.now_s = max(self.now_s, self.waiting.pop(future))
                await self.tell(BEGIN_MS + int(self.now_s * 1000))
                if not future.done():
                    future.set_result(None)


@dataclass
class Works:
    """A store, a parent, and forwarders between the two."""

    store: Store
    parent: Parent
    client: httpx.AsyncClient
    clock: Clock
    config: CmapiUpstream

    def outbox(self) -> RedisOutbox:
        return RedisOutbox(self.store.topology, self.store.scripts, self.store.partitions)

    def asides(self) -> Asides:
        return Asides(self.store.topology, self.store.scripts, self.store.partitions)

    async def aside(self, instance: str = "DEMO") -> list[Aside]:
        return await self.asides().batches(instance, self.config.name)

    async def blocked(self, instance: str = "DEMO") -> dict[str, int]:
        """Units that wait as blocked, by line."""
        found = await self.asides().blocked(instance, self.config.name)
        return {each.line: sum(each.units.values()) for each in found}

    def sender(self, private: PrivateKey = PRIVATE) -> CmapiSender:
        return CmapiSender(self.config, private, self.client, now_s=asyncio.get_running_loop().time)

    def sender_to(self, parent: Parent) -> CmapiSender:
        config = msgspec.structs.replace(self.config, url=parent.url)
        return CmapiSender(config, PRIVATE, self.client, now_s=asyncio.get_running_loop().time)

    def route(self, **changes: object) -> Route:
        return replace(route(self.config, self.sender()), **changes)  # type: ignore[arg-type]

    def forwarder(
        self,
        *,
        outbox: Outbox | None = None,
        routes: list[Route] | None = None,
        sweep: Callable[[str], Awaitable[object]] | None = None,
        now_ms: Callable[[], int] = lambda: 0,
        demands: Demands | None = None,
    ) -> Forwarder:
        return Forwarder(
            outbox or self.outbox(),
            self.store.catalogues,
            [self.route()] if routes is None else routes,
            sweep=sweep,
            monotonic_s=self.clock.monotonic_s,
            now_ms=now_ms,
            sleep=self.clock.sleep,
            random=lambda: 0.5,
            demands=demands,
        )

    async def provision(
        self,
        instance: str = "DEMO",
        *,
        by_host: bool = False,
        upstreams: tuple[str, ...] = (),
        features: tuple[str, ...] = ("sessions", "users"),
    ) -> None:
        lines = tuple(
            Line(
                id=f"L-{feature}",
                feature=feature,
                version="1.0",
                model=Model.METERED,
                count=None,
                capacity=2**53 - 1,
                undo_ms=3_600_000,
            )
            for feature in features
        )
        names = upstreams or (self.config.name,)
        attached = tuple(Attachment(name, by_host=by_host) for name in names)
        await self.store.catalogues.put(Catalogue(id=instance, lines=lines, upstreams=attached))

    async def use(
        self, feature: str, units: int, *, instance: str = "DEMO", host: str = "h1"
    ) -> None:
        index = await self.store.catalogues.read(instance)
        assert index is not None
        request = AccessRequest(
            host=Host("string", host), wants=(Want(feature, "1.0", units),), incremental=True
        )
        key, meaning = secrets.token_urlsafe(16), fingerprint(request).hex()
        wants = index.resolve(request)
        reply = await self.store.lane.submit(
            Job(index, wants, key, 60_000, meaning, "", request.host.canonical, 1)
        )
        assert reply.outcome is not None
        assert not reply.outcome.shortfalls

    async def ledger(self, instance: str = "DEMO") -> dict[str, int]:
        """Sums over the lines, by word, for the upstream; the equation is checked on the way."""
        found = await self.store.client.hgetall(self.store.catalogues.keys(instance).ledger)
        sums = dict.fromkeys(("acked", "base", "open", "sealed", "forwarded", "dead", "parked"), 0)
        for name, value in found.items():
            word, *tail = name.decode().split("|")
            if word in sums and tail[1:] in ([], [self.config.name]):
                sums[word] += int(value)
        acked = sums.pop("acked")
        assert acked == sum(sums.values())
        return {word: units for word, units in sums.items() if units}

    async def lapse_leases(self) -> None:
        """What happens to the leases of a process that is killed or suspended for long."""
        keys = [PartitionKeys(partition).lease for partition in range(self.store.partitions)]
        await self.store.client.delete(*keys)


@asynccontextmanager
async def open_works(data_dir: Path, *, dedupe_ms: int, timeout_s: float) -> AsyncIterator[Works]:
    async with (
        open_store(
            "embedded", data_dir, partitions=4, prelude=PRELUDE, deadline_s=PATIENT_S
        ) as store,
        open_parent() as parent,
        open_http() as client,
    ):
        clock = Clock(
            lambda: parent.busy > 0, partial(store.client.set, "gw:clock"), store.client.ping
        )
        parent.now_s = clock.monotonic_s
        await clock.tell(BEGIN_MS + int(clock.now_s * 1000))
        running = asyncio.create_task(clock.run())
        config = CmapiUpstream(
            name="parent",
            url=parent.url,
            kid="k1",
            dedupe_horizon_ms=dedupe_ms,
            interval_s=60,
            timeout_s=timeout_s,
        )
        try:
            yield Works(store, parent, client, clock, config)
        finally:
            clock.ended = True
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def at_works(
    data_dir: Path,
    story: Callable[[Works], Awaitable[None]],
    *,
    dedupe_ms: int = DAY_MS,
    timeout_s: float = PATIENT_S,
) -> None:
    """Run a story on fresh works."""

    async def run() -> None:
        async with (
            asyncio.timeout(120),
            open_works(data_dir, dedupe_ms=dedupe_ms, timeout_s=timeout_s) as works,
        ):
            await story(works)

    with patience():
        asyncio.run(run())


async def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    step_s = 0.002
    for _ in range(int(within_s / step_s)):
        if condition():
            return
        await asyncio.sleep(step_s)
    raise AssertionError(f"not within {within_s} s")
