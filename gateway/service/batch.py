"""The story of a batch: authenticate once, read every line, submit all at once, answer every line.

Decided here: that nothing is submitted before every line is read, in which order lines are applied
when the catalogue moves, and whose an error is: the whole batch's as long as the store has answered
no line of it, from then on that of the lines which wait. Not decided here: what a single request
comes to (access.py), what a line is (protocols/cmapi_batch.py). Source: INTERFACE 4, SEMANTICS 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from gateway.core.calls import Reply, Verdict
from gateway.core.errors import GatewayError, Unavailable
from gateway.core.model import AccessRequest
from gateway.protocols.cmapi_batch import (
    LineReader,
    Refused,
    encode_answer,
    encode_refusal,
    split_body,
    split_requests,
)
from gateway.service.access import CATALOGUE_TRIES_MAX, Access, plain_answer
from gateway.service.credentials import Caller

# Of work on lines before the event loop sees to others. The lane takes some turns of the loop for
# a call: slices of 2 ms kept the store waiting half of its time.
SLICE_S: Final = 0.0005

T = TypeVar("T")

_Waiting = tuple[int, AccessRequest]  # a line's place in the batch, and what it asks


class PostedBatch(msgspec.Struct, frozen=True):
    """What arrived: the instance as named in the path, headers that matter, the raw body."""

    instance: str
    body: bytes
    jose: bool  # the body is a JWS
    authorization: str | None = None


class Answers(msgspec.Struct, frozen=True):
    """What goes back, with status 200: NDJSON, a line for a line.

    `unavailable`: what was wrong with each line that the store did not answer.
    """

    body: bytes
    unavailable: list[Unavailable]


@dataclass(slots=True)
class Batch:
    """Answers batches, each line of one as `access` would have answered it alone."""

    access: Access
    line_bytes_max: int = 65_536
    # Batches are made ready one after the other: the store works on the first while the next is
    # read. In turns of a slice each, all would be ready late, and at the same time.
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def serve(self, posted: PostedBatch) -> Answers:
        """Answer one posted batch.

        Raises what SEMANTICS 10 names, in its order, for the whole; nothing is applied then. It is
        always safe to send the batch again, or any of its lines in another one or alone.
        """
        caller = await self._authenticated(posted)
        work = _Work(self.access, _texts(posted, caller), LineReader(self.line_bytes_max))
        try:
            for _ in range(CATALOGUE_TRIES_MAX):
                async with self._turn:
                    replies = await work.submit(caller)
                await work.settle(caller, replies)
                if not work.waiting:
                    return work.answered()
                # Read again and judge the credential again: its key may have been revoked.
                await self.access.credentials.catalogues.read(caller.index.catalogue.id)
                caller = await self._authenticated(posted)
            raise Unavailable("The catalogue changes too fast to follow", "not_applied")
        except GatewayError as error:
            if not work.begun:
                raise
            work.give_up(error)
            return work.answered()

    async def _authenticated(self, posted: PostedBatch) -> Caller:
        credentials = self.access.credentials
        if posted.jose:
            return await credentials.by_payload(
                posted.instance, posted.body, jti_required=True, batch=True
            )
        return await credentials.by_token(posted.instance, posted.authorization)


class _Work:
    """A batch under way: what its lines are answered, and which of them wait for the store."""

    def __init__(self, access: Access, texts: list[bytes], reader: LineReader) -> None:
        self.access = access
        self.begun = False  # the store has answered a line, or may have had it
        self.waiting: list[_Waiting] = []  # in the order of the batch
        self._texts, self._reader = texts, reader
        self._answers: list[bytes] = []
        self._unavailable: list[Unavailable] = []

    async def submit(self, caller: Caller) -> list[asyncio.Future[Reply]]:
        """Read what is not read yet, and submit all lines that wait.

        Raises Unavailable when the lane has no room for all of them; then none was submitted.
        """
        async for text in _in_slices(self._texts):
            self._read(text)
        self._texts = []
        job = self.access.job
        jobs = [
            job(caller, request, request.correlation_id, "")
            async for _, request in _in_slices(self.waiting)
        ]
        return self.access.lane.submit_all(jobs)

    async def settle(self, caller: Caller, replies: list[asyncio.Future[Reply]]) -> None:
        """Answer all lines that wait but for those refused as stale, which wait on.

        Who cancels this ends the waiting only: what was submitted is applied all the same.
        """
        # The lane sends one call after the other, a call is refused as stale for an instance as a
        # whole, and a version that was left does not come back. So what is stale is the end of what
        # was submitted: nothing behind it was applied, and it goes again in its order.
        submitted, self.waiting = self.waiting, []
        try:
            async for line, future in _in_slices(zip(submitted, replies, strict=True)):
                try:
                    reply = await future
                    if reply.verdict is Verdict.STALE:
                        self.waiting.append(line)
                        continue
                    self.begun = True
                    place, request = line
                    self._answers[place] = _answer(caller, request, reply)
                except GatewayError as error:
                    self.begun = True
                    self._refuse(line, error)
        except asyncio.CancelledError:
            for future in replies:
                future.cancel()  # nobody hears what becomes of it
            raise

    def give_up(self, error: GatewayError) -> None:
        """Answer all lines that wait with one error."""
        for line in self.waiting:
            self._refuse(line, error)
        self.waiting = []

    def answered(self) -> Answers:
        """Give the answers; no line waits any more."""
        return Answers(b"".join(self._answers), self._unavailable)

    def _read(self, text: bytes) -> None:
        read = self._reader.read(text)
        if isinstance(read, Refused):
            self._answers.append(encode_refusal(read.correlation_id, read.error))
        else:
            self.waiting.append((len(self._answers), read))
            self._answers.append(b"")

    def _refuse(self, line: _Waiting, error: GatewayError) -> None:
        place, request = line
        self._answers[place] = encode_refusal(request.correlation_id, error)
        if isinstance(error, Unavailable):
            self._unavailable.append(error)


def _texts(posted: PostedBatch, caller: Caller) -> list[bytes]:
    if caller.claims is None:
        return split_body(posted.body)
    return split_requests(caller.claims.get("requests"))


def _answer(caller: Caller, request: AccessRequest, reply: Reply) -> bytes:
    body, _ = plain_answer(caller.index, request, reply)
    replayed = reply.verdict is Verdict.REPLAYED
    return encode_answer(request.correlation_id, body, replayed=replayed)


async def _in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """Give items one by one, and others their turn whenever the work on them took SLICE_S."""
    clock_s = asyncio.get_running_loop().time
    until_s = clock_s() + SLICE_S
    for item in items:
        yield item
        if clock_s() >= until_s:
            await asyncio.sleep(0)
            until_s = clock_s() + SLICE_S
