"""Batches over a real store, and over lanes between whose calls things happen."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from gateway.core.calls import Reply, Verdict
from gateway.core.errors import Unavailable
from gateway.core.keys import generate
from gateway.core.model import Outcome
from gateway.service.access import Access, Answer, Kind, Posted, Signer
from gateway.service.batch import WINDOW_WORK, Answers, Batch, PostedBatch
from gateway.service.credentials import Credentials
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.lanes import Lane
from gateway.store.opening import Store
from tests.stores.homes import Home
from tests.vectors.credentials import keys_of, token
from tests.vectors.loader import applied
from tests.vectors.patience import PATIENT_S

CAPACITY = 100  # of sessions in DEMO
WINDOW = WINDOW_WORK // 2  # lines of `sessions`, each a line's worth of work and one candidate
WIDE_LINES = 60  # of each of the features that a heavy line asks for
WIDE = tuple(f"wide-{number}" for number in range(8))
SIGNER = Signer("k", "ES256", generate("ES256"))
_numbers = itertools.count(1)


class House:
    """An instance of a test's own, and a gateway that is not told when it changes."""

    def __init__(self, store: Store) -> None:
        self.store, self.instance = store, f"BATCH-{next(_numbers)}"
        self.own = Catalogues(store.topology, store.scripts, store.partitions)
        self.lane: Any = store.lane
        self.clock_s: Callable[[], float] = time.monotonic

    async def put(self, **changes: Any) -> None:
        found = await self.store.catalogues.read(self.instance)
        if found is None:
            current = replace(applied("DEMO", self.instance), keys=keys_of("own"))
        else:
            current = found.catalogue
        await self.store.catalogues.put(replace(current, **changes))

    async def put_sessions(self, count: int) -> None:
        (line,) = (each for each in applied("DEMO", self.instance).lines if each.id == "sessions")
        await self.put(lines=(replace(line, count=count, capacity=count),))

    async def put_wide(self) -> None:
        (line,) = (each for each in applied("DEMO", self.instance).lines if each.id == "sessions")
        lines = (
            replace(line, id=f"{name}-{number}", feature=name, number=at * WIDE_LINES + number + 1)
            for at, name in enumerate(WIDE)
            for number in range(WIDE_LINES)
        )
        await self.put(lines=tuple(lines))

    async def serve(self, *lines: dict[str, Any]) -> list[dict[str, Any]]:
        return told(await self.batch().serve(self.posted(*lines)))

    def batch(self) -> Batch:
        credentials = Credentials(self.own, time.time)
        return Batch(Access(credentials, self.lane, SIGNER, time.time), clock_s=self.clock_s)

    async def serve_alone(self, line: dict[str, Any]) -> Answer:
        access = self.batch().access
        body = json.dumps(line).encode()
        posted = Posted(Kind.ACCESS, self.instance, body, False, f"Bearer {token()}")
        return await access.serve(posted, "r" * 22)

    def posted(self, *lines: dict[str, Any]) -> PostedBatch:
        return PostedBatch(self.instance, ndjson(*lines), False, f"Bearer {token()}")

    async def acked(self) -> int:
        found = await self.store.client.hget(self.own.keys(self.instance).ledger, "acked|sessions")
        return int(found or 0)


At = Callable[[Callable[[House], Awaitable[None]]], None]


@contextmanager
def houses(home: Home) -> Iterator[At]:
    """Give what runs a story at a house that is provisioned."""
    with asyncio.Runner() as runner:
        opened = home.open(partitions=8, deadline_s=PATIENT_S)
        store = runner.run(opened.__aenter__())

        def run(story: Callable[[House], Awaitable[None]]) -> None:
            async def whole() -> None:
                house = House(store)
                await house.put()
                await story(house)

            runner.run(whole())

        try:
            yield run
        finally:
            runner.run(opened.__aexit__(None, None, None))


class Between:
    """The store's lane, but that something happens within one window, behind its `first` jobs."""

    def __init__(
        self, lane: Lane, first: int, happen: Callable[[], Awaitable[None]], window: int = 1
    ) -> None:
        self.lane, self.first, self.happen, self.window = lane, first, happen, window
        self.submitted: list[int] = []

    @property
    def room(self) -> int:
        return self.lane.room

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        self.submitted.append(len(jobs))
        if len(self.submitted) != self.window:
            return self.lane.submit_all(jobs)
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Reply]] = [loop.create_future() for _ in jobs]
        self.task = loop.create_task(self._submit(jobs, futures))
        return futures

    async def _submit(self, jobs: Sequence[Job], futures: list[asyncio.Future[Reply]]) -> None:
        replies = await asyncio.gather(*self.lane.submit_all(jobs[: self.first]))
        await self.happen()
        replies += await asyncio.gather(*self.lane.submit_all(jobs[self.first :]))
        for future, reply in zip(futures, replies, strict=True):
            future.set_result(reply)


class Telling:
    """The store's lane; it tells what was submitted, and calls `then` with each window."""

    def __init__(self, lane: Lane, then: Callable[[], None] = lambda: None) -> None:
        self.lane, self.then = lane, then
        self.submitted = asyncio.Event()
        self.windows: list[Sequence[Job]] = []
        self.waiting: list[asyncio.Future[Reply]] = []  # of the window before

    @property
    def room(self) -> int:
        return self.lane.room

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        assert all(future.done() for future in self.waiting), "a window before is under way"
        self.waiting = self.lane.submit_all(jobs)
        self.windows.append(jobs)
        self.submitted.set()
        self.then()
        return self.waiting


class Saying:
    """A lane that gives replies in turn, whatever it is given; an error stands for itself.

    What comes after the first submission has the replies of `then`, if there are any. From
    submission `full` on it has no room.
    """

    room = 4_096

    def __init__(
        self, *replies: Reply | Unavailable, then: Sequence[Reply] = (), full: int | None = None
    ) -> None:
        self.replies, self.then, self.full, self.batches = replies, then, full, 0

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        said = self.then if self.batches and self.then else self.replies
        self.batches += 1
        if self.batches == self.full:
            raise Unavailable("Too many requests are waiting for the store", "not_applied")
        futures = []
        for reply in itertools.islice(itertools.cycle(said), len(jobs)):
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            if isinstance(reply, Unavailable):
                future.set_exception(reply)
            else:
                future.set_result(reply)
            futures.append(future)
        return futures


DONE = Reply(Verdict.DONE, outcome=Outcome(1_000, [], [], []))
STALE = Reply(Verdict.STALE, version=9)


def sessions(correlation_id: str, count: int = 1) -> dict[str, Any]:
    """Ask for sessions, as many of them as there are."""
    return {
        "correlationId": correlation_id,
        "hostId": {"type": "string", "value": "h1"},
        "features": [{"name": "sessions", "count": count}],
        "incremental": True,
        "partial": True,
    }


def many(count: int) -> list[dict[str, Any]]:
    return [sessions(f"c-{number}") for number in range(count)]


def heavy(correlation_id: str) -> dict[str, Any]:
    """Ask for every wide feature: nearly a call's worth of work."""
    features = [{"name": name, "count": 1} for name in WIDE]
    return sessions(correlation_id) | {"features": features}


def ndjson(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def told(answers: Answers) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answers.body.splitlines()]


def granted(answers: list[dict[str, Any]]) -> list[int]:
    return [sum(entry["count"] for entry in each["response"]["features"]) for each in answers]


def outcomes(answers: list[dict[str, Any]]) -> list[str]:
    """Say of each line that is unavailable whether it may have been applied."""
    refused = [each["response"] for each in answers if each["status"] == 503]
    assert {each["key"] for each in refused} <= {"gateway.unavailable"}
    return [outcome for each in refused for outcome in each["arguments"]]
