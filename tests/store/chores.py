"""All that is done over a store beside answering requests, done at once and for as long as wanted.

Decided here: what is done (as the gateway does it, with its own objects), what may come of it while
something is amiss (it is done, or Unavailable says that it was not, in bounded time), and what must
be true afterwards. Not decided here: what is amiss.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.errors import Unavailable
from gateway.core.model import AccessRequest, Attachment, Catalogue, Host, Line, Model, Want
from gateway.core.ports import Answer, Route
from gateway.core.ports import Verdict as Judged
from gateway.core.reports_asked import View, read_asked
from gateway.core.usage import Batch, Choice
from gateway.service.balance import audit
from gateway.service.features import Features
from gateway.service.folding import Folder
from gateway.service.reports import Reports
from gateway.service.sweeping import Sweeper
from gateway.store.asides import Asides
from gateway.store.calls import Job
from gateway.store.clients import Hosts
from gateway.store.explained import read_why
from gateway.store.logins import Logins
from gateway.store.opening import Store
from gateway.store.outbox import RedisOutbox
from gateway.store.rewriting import rewrite
from gateway.store.signing import session_key
from gateway.upstream.forwarder import Forwarder

UPSTREAM = "up"
CALL_S_MAX = 60.0  # of several commands, each with a deadline of its own, on a busy machine
DRAINED_S_MAX = 90.0
PAUSE_S = 0.01
MANY = 10**9
LINES = tuple(
    Line(
        id=name,
        feature=name,
        version="1.0",
        model=model,
        count=MANY,
        capacity=MANY,
        undo_ms=3_600_000 if model is Model.METERED else 0,
    )
    for name, model in (("L1", Model.METERED), ("L2", Model.METERED_REUSABLE))
)
ASKED = read_asked(View.USAGE, {"period": ["today"], "by": ["day,line"]})


class Upstream:
    """Takes every batch, counts each id once, and takes none for another's."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.units: Counter[tuple[str, str]] = Counter()

    async def send(self, batch: Batch) -> Judged:
        if batch.id not in self.bodies:
            for row in batch.rows:
                self.units[batch.instance, row.line] += row.units
        assert self.bodies.setdefault(batch.id, batch.body) == batch.body
        return Judged(Answer.GRANTED, conclusive=True)

    def route(self) -> Route:
        def encode(choice: Choice, instance: str, batch_id: str, _: Mapping[str, Line]) -> bytes:
            return msgspec.json.encode((instance, batch_id, choice.rows))

        return Route(UPSTREAM, self, encode, interval_s=0.2, horizon_ms=86_400_000)


@dataclass
class Chores:
    """The work over an open store, for some instances; `done` and `refused` count by its name."""

    store: Store
    instances: list[str]
    upstream: Upstream = field(default_factory=Upstream)
    acked: Counter[tuple[str, str]] = field(default_factory=Counter)  # as answers told
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    log: list[Any] = field(default_factory=list)
    _held: Counter[tuple[str, str]] = field(default_factory=Counter)  # by instance and host
    _ended: bool = False
    _given_up: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def provision(self) -> None:
        for name in self.instances:
            catalogue = Catalogue(id=name, lines=LINES, upstreams=(Attachment(UPSTREAM),))
            await self.store.catalogues.put(catalogue)

    @contextmanager
    def listening(self) -> Iterator[None]:
        with ExitStack() as stack:
            self.log = stack.enter_context(capture_logs())
            yield

    def begin(self) -> None:
        """Begin with everything, in tasks of their own."""
        self.forwarder = self._forwarder()
        self.forwarder.start()
        sweep = Sweeper(self.store.catalogues, self.store.lane).sweep
        reports = Reports(self.store.catalogues, sweep)
        for name in self.instances:
            self._keep_on("use", self._use(name))
            self._keep_on("sweep", lambda name=name: sweep(name))
            self._keep_on("verify", lambda name=name: self._verify(name, deep=False))
            self._keep_on("verify deep", lambda name=name: self._verify(name, deep=True))
            self._keep_on("report", lambda name=name: self._report(reports, name))
            self._keep_on("log in", lambda name=name: self._log_in(name))
            self._keep_on("look", lambda name=name: self._look(name))
            self._keep_on("change", lambda name=name: self._change(name))
        self._keep_on("list", self._list)

    async def end(self) -> None:
        """End all of it once each has been done; raises what was neither done nor Unavailable."""
        self._ended = True
        ended, late = await asyncio.wait(self._tasks, timeout=DRAINED_S_MAX)
        self._given_up = True  # not cancelled: the client of the store may swallow that
        for task in ended:
            task.result()
        assert not late, (Counter(task.get_name() for task in late), self.refused)
        await self.forwarder.stop()

    async def done_again(self, *, but: str = "") -> None:
        """Wait until each of these has been done once more, as it is when all is well again."""
        before = Counter(self.done)
        names = {task.get_name() for task in self._tasks} - {but}
        await self.until(lambda: all(self.done[name] > before[name] for name in names))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something; raises what was neither done nor Unavailable."""
        async with asyncio.timeout(DRAINED_S_MAX):
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(PAUSE_S)

    async def check(self) -> None:
        """Drain, and hold against one another what was answered, counted and taken upstream."""
        async with asyncio.timeout(DRAINED_S_MAX):
            left = await self._forwarder().drain()
        assert left == [], left
        told: Counter[tuple[str, str]] = Counter()
        for name in self.instances:
            books = await audit(self.store.catalogues, name, deep=True)
            assert books.differences == [], books.differences
            for entry in books.lines:
                told[name, entry.id] = entry.acked
                assert entry.forwarded == entry.acked
        assert told == self.acked, (told, self.acked)
        assert told == self.upstream.units, (told, self.upstream.units)
        assert self.slowest_s < CALL_S_MAX, self.slowest_s
        interrupted = [each for each in self.log if each["event"] == "work_interrupted"]
        kinds = {each["error"] for each in interrupted}
        assert kinds <= {"Unavailable", "PartlyUnavailable"}, kinds

    def _forwarder(self) -> Forwarder:
        store = self.store
        sweep = Sweeper(store.catalogues, store.lane).sweep
        return Forwarder(
            RedisOutbox(store.topology, store.scripts, store.partitions, store.strength.wait),
            store.catalogues,
            [self.upstream.route()],
            sweep=sweep,
            fold=Folder(store.catalogues, sweep, 24, lambda: time.time_ns() // 10**6).fold,
        )

    def _keep_on(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        async def keep_on() -> None:
            # Who was not answered asks again: what was counted for it is told then.
            while True:
                if (await self._try(name, call) and self._ended) or self._given_up:
                    return
                await asyncio.sleep(PAUSE_S)

        self._tasks.append(asyncio.create_task(keep_on(), name=name))

    async def _try(self, name: str, call: Callable[[], Awaitable[object]]) -> bool:
        begun_s = time.monotonic()
        try:
            await call()
        except Unavailable as error:
            self.refused[f"{name}: {error.outcome}"] += 1
            return False
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
        self.done[name] += 1
        return True

    def _use(self, instance: str) -> Callable[[], Awaitable[object]]:
        """Give what uses some units; who is not answered asks again under the same id."""
        numbers = itertools.count(1)
        open_: list[int] = []

        async def use() -> None:
            if not open_:
                open_.append(next(numbers))
            await self._ask(instance, open_[0])
            open_.clear()

        return use

    async def _ask(self, instance: str, number: int) -> None:
        line = LINES[number % len(LINES)].id
        index = await self.store.catalogues.get(instance)
        while True:
            assert index is not None
            request = AccessRequest(
                host=Host("string", f"h{number % 20}"),
                wants=(Want(line, "1.0", number % 7 + 1),),
                incremental=True,
            )
            said = (60_000, "f", "", request.host.canonical, INCREMENTAL)
            job = Job(index, index.resolve(request), f"{instance}-{number}", *said)
            reply = await self.store.lane.submit(job)
            if reply.verdict is not Verdict.STALE:
                break
            index = await self.store.catalogues.read(instance)
        assert reply.outcome is not None
        for grant in reply.outcome.grants:
            self.acked[instance, grant.line] += grant.units
        for held in reply.outcome.held:  # all that the host has by now
            place = (instance, request.host.canonical)
            self.acked[instance, held.line] += held.count - self._held[place]
            self._held[place] = held.count

    async def _verify(self, instance: str, *, deep: bool) -> None:
        books = await audit(self.store.catalogues, instance, deep=deep)
        assert books.differences == []

    async def _report(self, reports: Reports, instance: str) -> None:
        index = await self.store.catalogues.fresh(instance)
        assert index is not None
        await (await reports.open(index, ASKED)).read()
        await reports.near_capacity(index)

    async def _log_in(self, instance: str) -> None:
        store = self.store
        logins = Logins(store.client, store.scripts, store.partitions, MANY, MANY)
        for end in (logins.failed, logins.withdrawn, logins.succeeded):
            await end(await logins.begin(instance, "ann", f"198.51.100.{len(instance)}"))

    async def _look(self, instance: str) -> None:
        store, keys = self.store, self.store.catalogues.keys(instance)
        index = await store.catalogues.get(instance)
        assert index is not None
        hosts, _ = await Hosts(store.client, store.partitions).page(instance, None, 10)
        await Hosts(store.client, store.partitions).held(instance, [each.host for each in hosts])
        await Hosts(store.client, store.partitions).numbered(instance, 7)
        await Features(store.catalogues, store.lane).summaries(index)
        await read_why(store.client, keys, f"{instance}-1")
        asides = Asides(store.topology, store.scripts, store.partitions, store.strength.wait)
        assert await asides.batches(instance, UPSTREAM) == []
        assert await asides.blocked(instance, UPSTREAM) == []
        assert await asides.decisions(instance) == []
        await asides.waiting(instance, UPSTREAM)

    async def _change(self, instance: str) -> None:
        """Change the catalogue, as an administrator does; one that is overtaken does it again."""
        numbers = str(time.monotonic_ns())
        await rewrite(
            self.store.catalogues, instance, lambda catalogue: replace(catalogue, name=numbers)
        )
        await asyncio.sleep(0.2)  # everybody reads it anew

    async def _list(self) -> None:
        places = [(name, UPSTREAM) for name in self.instances]
        asides = Asides(self.store.topology, self.store.scripts, self.store.partitions)
        assert await asides.occupied(places) == []
        assert set(await self.store.catalogues.instances()) == set(self.instances)
        await self.store.catalogues.default()
        await session_key(self.store)
