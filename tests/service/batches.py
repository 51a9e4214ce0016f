"""Batches over a real store, and over lanes between whose calls things happen."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from gateway.core.calls import Reply, Verdict
from gateway.core.errors import Unavailable
from gateway.core.keys import generate
from gateway.core.model import Outcome
from gateway.service.access import Access, Signer
from gateway.service.batch import Answers, Batch, PostedBatch
from gateway.service.credentials import Credentials
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.lanes import Lane
from gateway.store.opening import Store
from tests.vectors.credentials import keys_of, token
from tests.vectors.loader import applied

CAPACITY = 100  # of sessions in DEMO
SIGNER = Signer("k", "ES256", generate("ES256"))
_numbers = itertools.count(1)


class House:
    """An instance of a test's own, and a gateway that is not told when it changes."""

    def __init__(self, store: Store) -> None:
        self.store, self.instance = store, f"BATCH-{next(_numbers)}"
        self.own = Catalogues(store.client, store.scripts, store.partitions)
        self.lane: Any = store.lane

    async def put(self, **changes: Any) -> None:
        found = await self.store.catalogues.read(self.instance)
        if found is None:
            current = replace(applied("DEMO", self.instance), keys=keys_of("own"))
        else:
            current = found.catalogue
        await self.store.catalogues.put(replace(current, **changes))

    async def serve(self, *lines: dict[str, Any]) -> list[dict[str, Any]]:
        return told(await self.batch().serve(self.posted(*lines)))

    def batch(self) -> Batch:
        credentials = Credentials(self.own, time.time)
        return Batch(Access(credentials, self.lane, SIGNER, time.time))

    def posted(self, *lines: dict[str, Any]) -> PostedBatch:
        return PostedBatch(self.instance, ndjson(*lines), False, f"Bearer {token()}")

    async def acked(self) -> int:
        found = await self.store.client.hget(self.own.keys(self.instance).ledger, "acked|sessions")
        return int(found or 0)


class Between:
    """The store's lane, but that something happens between two calls for one batch."""

    def __init__(self, lane: Lane, first: int, happen: Callable[[], Awaitable[None]]) -> None:
        self.lane, self.first, self.happen = lane, first, happen
        self.submitted: list[int] = []

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        self.submitted.append(len(jobs))
        if len(self.submitted) > 1:
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
    """The store's lane; it tells when something was submitted."""

    def __init__(self, lane: Lane) -> None:
        self.lane, self.submitted = lane, asyncio.Event()

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        futures = self.lane.submit_all(jobs)
        self.submitted.set()
        return futures


class Saying:
    """A lane that gives replies in turn, whatever it is given; an error stands for itself.

    What comes after the first submission has the replies of `then`, if there are any.
    """

    def __init__(self, *replies: Reply | Unavailable, then: Sequence[Reply] = ()) -> None:
        self.replies, self.then, self.batches = replies, then, 0

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        said = self.then if self.batches and self.then else self.replies
        self.batches += 1
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


def ndjson(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def told(answers: Answers) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answers.body.splitlines()]


def granted(answers: list[dict[str, Any]]) -> list[int]:
    return [sum(entry["count"] for entry in each["response"]["features"]) for each in answers]
