"""Jobs that wait for the store, in groups of which each may be served by one call of the script.

Decided here: the order within a group, which of its jobs leave together, for how long a group is
held that was refused, and what is said to who ran out of time. Not decided here: what a group is
(lanes.py) and when its turn comes (lane.py). Source: DESIGN 3.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.core.calls import Reply
from gateway.core.errors import Applied, Unavailable
from gateway.store.calls import Frame, Job

WORK_MAX: Final = 512  # candidate lines in one call: about 15 ms of the store's time
CONTEXT_WORK: Final = 4  # what a further instance in a call costs, in candidate lines
PAUSE_S: Final = 0.01  # between tries while the store is away or refuses, doubling
PAUSE_S_MAX: Final = 0.2
LATE: Final = "The store did not answer in time"


class Waiting(msgspec.Struct, eq=False):
    """A job, who waits for its reply, and until when; `work` is the job's."""

    job: Job
    work: int
    deadline_s: float
    future: asyncio.Future[Reply]
    sent: bool = False  # an attempt ended without a reply: it may have been applied
    calendars: int = 0
    from_ms: int | None = None  # what the script asked the calendar to reach back to

    def answer(self, reply: Reply) -> None:
        """Hand out the reply; who was cancelled meanwhile does not hear it."""
        if not self.future.done():
            self.future.set_result(reply)

    def fail(
        self, message: str, outcome: Applied | None = None, cause: Exception | None = None
    ) -> None:
        """Say that there is no answer. Without `outcome` it is what the attempts so far came to."""
        if not self.future.done():
            error = Unavailable(message, outcome or ("unknown" if self.sent else "not_applied"))
            error.__cause__ = cause
            self.future.set_exception(error)


@dataclass(slots=True)
class Pause:
    """A rest after a refusal or a failure, each twice as long as the one before."""

    until_s: float = 0.0
    _next_s: float = PAUSE_S

    def begin(self, at_s: float) -> None:
        self.until_s = at_s + self._next_s
        self._next_s = min(2 * self._next_s, PAUSE_S_MAX)

    def end(self) -> None:
        self.until_s, self._next_s = 0.0, PAUSE_S


@dataclass(slots=True)
class Backlog:
    """What waits for a node: jobs of all groups that are at home there, and the work they are."""

    jobs: int = 0
    work: int = 0

    def change(self, jobs: int, work: int) -> None:
        self.jobs += jobs
        self.work += work


@dataclass(eq=False, slots=True)
class Group:
    """Jobs whose keys share a node for sure, in the order in which they were submitted.

    `key` is any key of theirs. What is under way is not in it, and comes back to its front.
    """

    key: str
    backlog: Backlog = field(default_factory=Backlog)
    pause: Pause = field(default_factory=Pause)
    trouble: str = LATE
    waiting: deque[Waiting] = field(default_factory=deque)

    def move(self, backlog: Backlog) -> None:
        """Wait for another node, all together."""
        work = sum(each.work for each in self.waiting)
        self.backlog.change(-len(self.waiting), -work)
        backlog.change(len(self.waiting), work)
        self.backlog = backlog

    def add(self, waiting: Waiting) -> None:
        """Let a job wait behind the others."""
        self.waiting.append(waiting)
        self.backlog.change(1, waiting.work)

    def put_back(self, batch: Sequence[Waiting]) -> None:
        """Let jobs wait again, in their order, before the others."""
        self.waiting.extendleft(reversed(batch))
        self.backlog.change(len(batch), sum(each.work for each in batch))

    def hold(self, trouble: str, at_s: float) -> None:
        """Rest after a refusal; `trouble` is what is said to who runs out of time by it."""
        self.trouble = trouble
        self.pause.begin(at_s)

    def go_on(self) -> None:
        """End all trouble: there was an answer."""
        self.trouble = LATE
        self.pause.end()

    def fail_late(self, by_s: float) -> float:
        """Fail those whose deadline is not after `by_s`; give that of the first who waits on."""
        while self.waiting and self.waiting[0].deadline_s <= by_s:
            late = self.waiting.popleft()
            self.backlog.change(-1, -late.work)
            late.fail(self.trouble)
        return self.waiting[0].deadline_s if self.waiting else math.inf

    def take(self, work_max: int, *, at_least_one: bool) -> Call | None:
        """Take what goes into the next call, in order, up to `work_max`; None when nothing fits."""
        batch: list[Waiting] = []
        instances: set[str] = set()
        work = taken = 0
        while self.waiting:
            first = self.waiting[0]
            instance = first.job.index.catalogue.id
            work += first.work + (0 if instance in instances else CONTEXT_WORK)
            if work > work_max and (batch or not at_least_one):
                break
            instances.add(instance)
            batch.append(self.waiting.popleft())
            taken += first.work
        self.backlog.change(-len(batch), -taken)
        return Call(self, batch, taken) if batch else None


@dataclass(eq=False, slots=True)
class Call:
    """What one call of the script is for: jobs of a group, in order, and their frames."""

    group: Group
    batch: list[Waiting]
    work: int
    framed: list[tuple[Job, Frame]] = field(default_factory=list)
    sent: bool = False  # from now on nobody knows what came of it, until its reply is there

    def fail_late(self, by_s: float) -> float:
        """Fail those whose deadline is not after `by_s`, give the next one; the call goes on."""
        for waiting in self.batch:
            if waiting.deadline_s > by_s:
                return waiting.deadline_s
            waiting.fail(self.group.trouble, "unknown" if self.sent else None)
        return math.inf

    def lost(self) -> None:
        """Note that it was sent and not answered."""
        for waiting in self.batch:
            waiting.sent = True

    def fail(self, message: str, cause: Exception) -> None:
        """Fail all that are not answered; nobody knows what came of them."""
        for waiting in self.batch:
            waiting.fail(message, "unknown", cause)
