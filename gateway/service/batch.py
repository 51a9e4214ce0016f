"""The story of a batch: authenticate once, read every line, submit window by window, answer all.

Decided here: that nothing is submitted before every line is read, how much of a batch the store has
before it at a time, in which order lines are applied when the catalogue moves, and whose an error
is: the whole batch's as long as the store has answered no line of it, from then on that of the
lines which wait. Not decided here: what a single request comes to (access.py), what a line is
(protocols/cmapi_batch.py). Source: INTERFACE 4, SEMANTICS 9.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

import msgspec

from gateway.core.calls import Reply, Verdict
from gateway.core.errors import GatewayError, Unavailable
from gateway.core.metrics import Outcome, Protocol
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
from gateway.service.noted import Noted, outcome_of_error
from gateway.store.calls import Job
from gateway.store.lanes import CONTEXT_WORK, WORK_MAX

# Of a batch's work that is before the store at a time: two full calls, so that who comes meanwhile
# waits for no more of it. Only the last line of a window may go beyond.
WINDOW_WORK: Final = 2 * (WORK_MAX - CONTEXT_WORK)
BATCH_S_MAX: Final = 10.0  # from a batch's arrival until the last window of it is submitted
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
    """Answers batches, each line of one as `access` would have answered it alone.

    `clock_s` is monotonic.
    """

    access: Access
    line_bytes_max: int = 65_536
    clock_s: Callable[[], float] = time.monotonic
    # Batches are made ready one after the other: the store works on the first while the next is
    # read. In turns of a slice each, all would be ready late, and at the same time.
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def serve(self, posted: PostedBatch, noted: Noted | None = None) -> Answers:
        """Answer one posted batch, and count each line by what it came to.

        Raises what SEMANTICS 10 names, in its order, for the whole, and TooFast behind the role,
        where a line costs what a request costs; nothing is applied then. It is always safe to send
        the batch again, or any of its lines in another one or alone. One that was not finished gets
        further each time: lines that were applied are only looked up.
        """
        until_s = self.clock_s() + BATCH_S_MAX
        noted = noted or Noted()
        caller = await self._authenticated(posted)
        noted.instance, noted.kid = caller.index.catalogue.id, caller.kid
        texts = _texts(posted, caller)
        self.access.rates.spend(caller.index.catalogue.id, caller.kid, max(1, len(texts)))
        work = _Work(self.access, texts, LineReader(self.line_bytes_max))
        try:
            async with self._turn:
                await work.read()
                jobs = await work.jobs(caller)
            tries = 0
            while work.waiting:
                if self.clock_s() >= until_s:
                    raise Unavailable("The batch takes too long; send it again", "not_applied")
                stale, jobs = await work.apply(caller, jobs)
                if not stale:
                    tries = 0
                    continue
                tries += 1
                if tries == CATALOGUE_TRIES_MAX:
                    raise Unavailable("The catalogue changes too fast to follow", "not_applied")
                # Read again and judge the credential again: its key may have been revoked.
                await self.access.credentials.catalogues.read(caller.index.catalogue.id)
                caller = await self._authenticated(posted)
                jobs = await work.jobs(caller)
        except GatewayError as error:
            if not work.begun:
                raise
            work.give_up(error)
        noted.lines = len(texts)
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
        self._came: list[Outcome] = []  # what each answered line came to
        self._unavailable: list[Unavailable] = []

    async def read(self) -> None:
        """Read all lines: each is answered now, or waits."""
        async for text in _in_slices(self._texts):
            self._read(text)
        self._texts = []

    async def jobs(self, caller: Caller, behind: int = 0) -> list[Job]:
        """Make the jobs of a window: of lines that wait, but for the first `behind` of them."""
        return [job async for job in _in_slices(self._window(caller, behind))]

    async def apply(self, caller: Caller, jobs: list[Job]) -> tuple[bool, list[Job]]:
        """Submit a window of the first lines that wait, and answer them.

        Gives whether some were refused as stale, which wait on, and the jobs of the window behind,
        made while the store works on this one. Raises Unavailable when the lane has no room, and
        when it did not answer a line: nothing was applied of what waits then.
        Who cancels this ends the waiting only: what was submitted is applied all the same.
        """
        replies = self.access.lane.submit_all(jobs[: self._window_lines])
        try:
            ahead = await self.jobs(caller, behind=len(replies))
            return await self._settle(caller, replies), ahead
        finally:
            for reply in replies:  # nobody hears what becomes of those that are still out
                if not reply.cancel() and not reply.cancelled():
                    reply.exception()  # asked for, so that asyncio does not miss its being heard

    def _window(self, caller: Caller, behind: int) -> Iterator[Job]:
        work = 0
        for _, request in islice(self.waiting, behind, behind + self._window_lines):
            job = self.access.job(caller, request, request.correlation_id, "")
            yield job
            work += job.work
            if work + job.work > WINDOW_WORK:
                return  # another one like it would be too much

    @property
    def _window_lines(self) -> int:
        """How many lines a window may have now: half of the lane's room is left to others."""
        return max(1, self.access.lane.room // 2)

    async def _settle(self, caller: Caller, replies: list[asyncio.Future[Reply]]) -> bool:
        # The lane sends one call after the other, a call is refused as stale for an instance as a
        # whole, and a version that was left does not come back. So what is stale is the end of the
        # window: nothing behind it was applied, and it goes again in its order.
        stale: list[_Waiting] = []
        unanswered = False
        async for line, future in _in_slices(zip(self.waiting, replies, strict=False)):
            try:
                reply = await future
                if reply.verdict is Verdict.STALE:
                    stale.append(line)
                    continue
                place, request = line
                self._answers[place], replayed = _answer(caller, request, reply)
                self._came.append(self.access.count(request, reply, replayed=replayed))
            except GatewayError as error:
                unanswered = unanswered or isinstance(error, Unavailable)
                self._refuse(line, error)
            self.begun = True
        self.waiting[: len(replies)] = stale
        if unanswered:
            raise Unavailable("The store did not answer an earlier line", "not_applied")
        return bool(stale)

    def give_up(self, error: GatewayError) -> None:
        """Answer all lines that wait with one error."""
        for line in self.waiting:
            self._refuse(line, error)
        self.waiting = []

    def answered(self) -> Answers:
        """Give the answers, and count them; no line waits any more."""
        for outcome in self._came:
            self.access.meters.answered(Protocol.CMAPI_BATCH, outcome)
        return Answers(b"".join(self._answers), self._unavailable)

    def _read(self, text: bytes) -> None:
        read = self._reader.read(text)
        if isinstance(read, Refused):
            self._answers.append(encode_refusal(read.correlation_id, read.error))
            self._came.append(outcome_of_error(read.error))
        else:
            self.waiting.append((len(self._answers), read))
            self._answers.append(b"")

    def _refuse(self, line: _Waiting, error: GatewayError) -> None:
        place, request = line
        self._answers[place] = encode_refusal(request.correlation_id, error)
        self._came.append(outcome_of_error(error))
        if isinstance(error, Unavailable):
            self._unavailable.append(error)


def _texts(posted: PostedBatch, caller: Caller) -> list[bytes]:
    if caller.claims is None:
        return split_body(posted.body)
    return split_requests(caller.claims.get("requests"))


def _answer(caller: Caller, request: AccessRequest, reply: Reply) -> tuple[bytes, bool]:
    """Give the answer to a line, and whether it is that of an earlier one."""
    body, _ = plain_answer(caller.index, request, reply)
    replayed = reply.verdict is Verdict.REPLAYED
    return encode_answer(request.correlation_id, body, replayed=replayed), replayed


async def _in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """Give items one by one, and others their turn whenever the work on them took SLICE_S."""
    clock_s = asyncio.get_running_loop().time
    until_s = clock_s() + SLICE_S
    for item in items:
        yield item
        if clock_s() >= until_s:
            await asyncio.sleep(0)
            until_s = clock_s() + SLICE_S
