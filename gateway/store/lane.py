"""One node's lane: what waits for it, one pipeline of calls at a time, and what came of each call.

Decided here: which groups are in a pipeline, who goes again after a refusal, a loss or the script's
own wish, and how fast the node works. Re-sending is always safe, because every job has an id that
the script remembers. Not decided here: to which node a group belongs and who may queue (lanes.py),
what a connection does (pipe.py). Source: DESIGN 3, RELIABILITY 2 and 3.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)

from gateway.core.calls import Reply, Verdict
from gateway.store.calls import Job, decode_reply, encode_call
from gateway.store.durability import APPLIED_UNSAFE
from gateway.store.frames import Frames
from gateway.store.groups import CONTEXT_WORK, WORK_MAX, Backlog, Call, Group, Pause, Waiting
from gateway.store.pipe import Heard, Pipe
from gateway.store.scripts import refused

CALLS_MAX: Final = 16  # of a pipeline, whose work together is that of one call
CALENDARS_MAX: Final = 4  # times one job may ask for another calendar
PACE_WEIGHT: Final = 0.2  # of the latest pipeline in what is thought of a node's pace
UNUSABLE: Final = "The store gave no usable answer"


class Watch:
    """Is told what happens to jobs, to count or to trace it; this one does neither."""

    def queued(self, job: Job, reply: asyncio.Future[Reply]) -> None:
        """A job waits for its reply; called where it was submitted."""

    def refused(self, jobs: int) -> None:
        """So many jobs found no place."""

    def exchanged(self, calls: Sequence[Call], took_s: float) -> None:
        """A pipeline has come back, or broke off; before anybody in it hears of it."""


UNWATCHED: Final = Watch()


@dataclass(slots=True)
class Pace:
    """What a node gets done, in work per second: the last pipelines, weighted exponentially.

    Only a pipeline that left jobs behind was as full as can be, and tells the pace. Of one that
    took all that waited most of the time is the way there and back: the pace is that or better.
    """

    per_s: float = math.inf

    def learn(self, work: int, took_s: float, *, full: bool) -> None:
        """Take a pipeline into account."""
        per_s = work / max(took_s, 1e-6)
        if full and self.per_s == math.inf:
            self.per_s = per_s
        elif full or per_s > self.per_s:
            self.per_s += PACE_WEIGHT * (per_s - self.per_s)


@dataclass(eq=False, slots=True)
class NodeLane:
    """The groups at home on a node, and the loop that serves them; one pipeline is under way.

    `landed` is called with each group that comes back from the node, `look_again` when who has
    what may have changed, and `revive` is awaited when the node cannot be reached. Who has less
    than `left_s_min` to the deadline is not sent any more.
    """

    node: str
    pipe: Pipe
    frames: Frames
    landed: Callable[[Group], None]
    look_again: Callable[[], None]
    left_s_min: float
    revive: Callable[[], Awaitable[object]] | None = None
    watch: Watch = UNWATCHED
    calls: int = 0
    ended: bool = False
    # In the order of their turns: who was served goes to the end.
    groups: dict[Group, None] = field(default_factory=dict)
    backlog: Backlog = field(default_factory=Backlog)
    _under_way: list[Call] = field(default_factory=list)
    _pace: Pace = field(default_factory=Pace)
    _pause: Pause = field(default_factory=Pause)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _ending: bool = False

    @property
    def ahead_s(self) -> float:
        """How long what waits will take at the pace of the last pipelines; 0 when nothing waits."""
        return self.backlog.work / self._pace.per_s

    def take_in(self, group: Group) -> None:
        """Let a group be at home here, behind the others."""
        self.groups[group] = None
        group.move(self.backlog)
        self._wake.set()

    def away(self, group: Group) -> bool:
        """Say whether jobs of a group are under way: it must not move then."""
        return any(call.group is group for call in self._under_way)

    def wake(self) -> None:
        """Look again what is to be done: a job was added."""
        self._wake.set()

    def fail_late(self, by_s: float) -> float:
        """Fail whose deadline is not after `by_s`, waiting or under way; give the next one."""
        self._wake.set()
        all_here: list[Call | Group] = [*self._under_way, *self.groups]
        return min((each.fail_late(by_s) for each in all_here), default=math.inf)

    def end(self) -> None:
        """End the loop as soon as nothing waits any more."""
        self._ending = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until the end."""
        loop = asyncio.get_running_loop()
        while True:
            next_s = self._next_s()
            if next_s <= loop.time():
                # Who is ready to submit comes along: fuller calls are cheaper.
                await asyncio.sleep(0)
                if self.pipe.is_open or await self._connected():
                    await self._serve(self._take(loop.time()))
            elif next_s == math.inf and self._ending:
                break
            else:
                await self._rest(next_s)
        self.ended = True
        await self.pipe.drop()

    def _next_s(self) -> float:
        """Say when something may be taken: now, when a pause ends, or never while nothing waits."""
        if not self.backlog.jobs:
            return math.inf
        ends_s = [group.pause.until_s for group in self.groups if group.waiting]
        return max(self._pause.until_s, min(ends_s))

    async def _rest(self, until_s: float) -> None:
        """Sleep until a moment, or until something changes."""
        self._wake.clear()
        if until_s == math.inf:
            await self._wake.wait()
            return
        alarm = asyncio.get_running_loop().call_at(until_s, self._wake.set)
        await self._wake.wait()
        alarm.cancel()

    async def _connected(self) -> bool:
        """Connect, for as long as anybody waits; say whether that came about.

        Nobody is taken before: who runs out of time meanwhile is told that nothing was applied, and
        that must stay true.
        """
        deadlines_s = [group.waiting[-1].deadline_s for group in self.groups if group.waiting]
        if not deadlines_s:
            return False
        try:
            await self.pipe.open(max(deadlines_s))
        except Exception as error:  # whatever it is, it is tried again
            await self._recover(error)
            return False
        return True

    def _take(self, at_s: float) -> list[Call]:
        """Take what goes into the next pipeline, from groups that are not held, in turn."""
        calls: list[Call] = []
        left = WORK_MAX
        for group in self.groups:
            group.fail_late(at_s + self.left_s_min)
            if not group.waiting or at_s < group.pause.until_s:
                continue
            call = group.take(left, at_least_one=not calls)
            if call is None:  # it has its turn first in the next one
                break
            calls.append(call)
            left -= call.work + CONTEXT_WORK
            if len(calls) == CALLS_MAX:
                break
        self._under_way = calls
        return calls

    async def _serve(self, calls: list[Call]) -> None:
        """Send a pipeline, and see to what came of each of its calls."""
        if not calls:
            return
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        full = self._next_s() <= began_s  # others might have come along
        # As long as anybody waits for it: those whose time ends are failed meanwhile. If the first
        # deadline ended it, then with jobs that waited long it would never get to an end.
        deadline_s = max(call.batch[-1].deadline_s for call in calls)
        try:
            heard = await self._exchange(calls, deadline_s)
            self.watch.exchanged(calls, loop.time() - began_s)
            for call, reply in zip_longest(calls, heard.replies):
                if again := self._settle(call, reply, heard.safe):
                    call.group.put_back(again)
        except Exception as error:  # a bug or a broken store: answer, and keep the lane going
            heard = Heard(error=error)
            for call in calls:
                call.fail(UNUSABLE, error)
        self._under_way = []
        for call in calls:
            del self.groups[call.group]
            self.groups[call.group] = None
            call.group.fail_late(loop.time())  # who came back too late waits for nothing any more
            self.landed(call.group)
        if heard.error is not None:
            await self._recover(heard.error)
            return
        self._pause.end()
        refusals = [reply for reply in heard.replies if isinstance(reply, RedisError)]
        if heard.safe is False or any(map(_points_elsewhere, refusals)):
            await self.pipe.drop()  # under the same address there may be another primary by now
        if not refusals:
            self._pace.learn(sum(call.work for call in calls), loop.time() - began_s, full=full)

    async def _exchange(self, calls: list[Call], deadline_s: float) -> Heard:
        now_s = asyncio.get_running_loop().time()
        for call in calls:
            asked = ((waiting.job, waiting.from_ms) for waiting in call.batch)
            call.framed = self.frames.give(asked, now_s)
        said = [encode_call(call.framed) for call in calls]
        for call in calls:
            call.sent = True
        heard = await self.pipe.exchange(said, deadline_s)
        for call in calls[len(heard.replies) :]:
            call.lost()
        return heard

    def _settle(
        self, call: Call, reply: bytes | RedisError | None, safe: bool | None
    ) -> list[Waiting]:
        """See to what came of a call; give the jobs that go again, in their order."""
        if reply is None:
            return call.batch
        if isinstance(reply, RedisError):
            return self._refused(call, reply)
        self.calls += 1
        call.group.go_on()
        clock_ms, replies = decode_reply(reply, call.framed)
        self.frames.clock.hear(clock_ms, asyncio.get_running_loop().time())
        return self._hand_out(call, replies, safe)

    def _refused(self, call: Call, error: RedisError) -> list[Waiting]:
        if isinstance(error, AskError):  # a slot on its way: MOVED is one of these
            trouble = "The store is moving what was asked for"
        elif refused(error):
            trouble = _trouble(error)
        else:
            call.fail(UNUSABLE, error)
            return []
        if isinstance(error, NoScriptError):
            self.pipe.load_script()
        if isinstance(error, (MovedError, ClusterDownError)):
            self.look_again()
        call.group.hold(trouble, asyncio.get_running_loop().time())
        return call.batch

    def _hand_out(self, call: Call, replies: list[Reply], safe: bool | None) -> list[Waiting]:
        again: list[Waiting] = []
        told: set[tuple[str, int]] = set()  # instances whose calendar has been made anew
        for waiting, reply in zip(call.batch, replies, strict=True):
            if reply.verdict is Verdict.AGAIN:
                again.append(waiting)
            elif reply.verdict is Verdict.CALENDAR:
                if waiting.calendars == CALENDARS_MAX:
                    waiting.fail("The store's clock moves too far to follow")
                    continue
                waiting.calendars += 1
                waiting.from_ms = reply.from_ms
                index = waiting.job.index
                if (index.catalogue.id, reply.from_ms) not in told:
                    told.add((index.catalogue.id, reply.from_ms))
                    self.frames.make(index, reply.from_ms, reply.now_ms)
                again.append(waiting)
            elif reply.verdict is Verdict.STALE and waiting.sent and waiting.job.dedupe_id:
                # Whoever resolves it anew would not know that it may have been applied as it was.
                waiting.fail("The catalogue changed while the store did not answer")
            elif safe or reply.verdict not in (Verdict.DONE, Verdict.REPLAYED):
                waiting.answer(reply)
            elif safe is None:  # whether it was reached was not heard
                waiting.sent = True
                again.append(waiting)
            else:
                waiting.fail(APPLIED_UNSAFE, "applied_not_durable")
        return again

    async def _recover(self, error: Exception) -> None:
        """Leave the connection, and rest; what may bring the node back is tried meanwhile."""
        loop = asyncio.get_running_loop()
        await self.pipe.drop()
        self._pause.begin(loop.time())
        self.look_again()
        queued = [group for group in self.groups if group.waiting]
        if isinstance(error, RedisError) and refused(error):  # a password that is not taken
            for group in queued:
                group.trouble = _trouble(error)
        if self.revive is not None and queued:
            with suppress(Exception):  # it is tried again until the jobs' deadline
                deadline_s = max(group.waiting[-1].deadline_s for group in queued)
                async with asyncio.timeout_at(deadline_s):
                    await self.revive()


def _points_elsewhere(error: RedisError) -> bool:
    """Say whether a refusal is one of a server that is not, or may not be, the primary now."""
    cut_off = str(error).startswith("NOREPLICAS")
    return cut_off or isinstance(error, (ReadOnlyError, MasterDownError))


def _trouble(error: RedisError) -> str:
    return f"The store refuses to write: {str(error)[:100]}"
