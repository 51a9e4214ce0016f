"""The lane: how access requests reach the script, together and in order, on every node of a store.

What arrives while a pipeline is under way leaves together in the next one (lane.py). Decided here:
which jobs are a group and on which node it is at home, who may queue, and that everybody is
answered by the deadline. Groups move only while none of their jobs is under way, so that those of
a partition are applied in the order of submission, wherever it goes; and a node that is away keeps
nobody else's waiting. A cancelled client never cancels a sent call.
Source: DESIGN 3, RELIABILITY 2 and 3.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gateway.core.calls import Reply
from gateway.core.errors import Unavailable
from gateway.store.calls import Job
from gateway.store.durability import NO_WAIT, Wait
from gateway.store.frames import Frames, StoreClock
from gateway.store.groups import CONTEXT_WORK as CONTEXT_WORK  # by these two a caller measures
from gateway.store.groups import WORK_MAX as WORK_MAX  # how much it submits at a time
from gateway.store.groups import Group, Waiting
from gateway.store.keys import PartitionKeys, partition_of
from gateway.store.lane import UNWATCHED, NodeLane, Watch
from gateway.store.pipe import Pipe
from gateway.store.scripts import Script
from gateway.store.topology import ONE_NODE, Topology

QUEUE_SHARE_MAX: Final = 0.5  # of the deadline that may pass in the queue, as far as one can tell
LEFT_S_MIN: Final = 0.02  # to the deadline when a job leaves: a full call takes nearly as long
LEFT_SHARE_MIN: Final = 0.1  # or this much of it, where that is less
LATE_S: Final = 0.01  # how late who runs out of time may hear of it: an alarm is for many


@dataclass
class Lane:
    """A worker's lane: a queue and a connection per node of the store, one pipeline under way each.

    In a cluster a partition is a group, elsewhere all jobs are. `wait` follows the calls of each
    pipeline, `revive` is awaited when a node cannot be reached (the embedded store is started again
    there), `queue_max` bounds the jobs that wait for one node.
    """

    script: Script
    topology: Topology
    partitions: int
    revive: Callable[[], Awaitable[object]] | None = None
    wait: Wait = NO_WAIT
    deadline_s: float = 2.0
    queue_max: int = 4096
    clock: StoreClock = field(default_factory=StoreClock)
    watch: Watch = UNWATCHED

    def __post_init__(self) -> None:
        self._together = self.topology.nodes == [ONE_NODE]
        self._frames = Frames(self.partitions, self.clock)
        self._groups: dict[int, Group] = {}  # by partition; 0 where all jobs are one group
        self._homes: dict[Group, NodeLane] = {}
        self._lanes: dict[str, NodeLane] = {}  # by node, those that groups are at home on
        self._loops: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._calls_before = 0  # of lanes that ended
        self._closing = False

    @property
    def depth(self) -> int:
        """Jobs that wait for a place in a call."""
        return sum(lane.backlog.jobs for lane in self._lanes.values())

    @property
    def room(self) -> int:
        """Jobs that may be submitted now, wherever they belong."""
        deepest = max((lane.backlog.jobs for lane in self._lanes.values()), default=0)
        return max(0, self.queue_max - deepest)

    @property
    def calls(self) -> int:
        """Calls of the script that were answered."""
        return self._calls_before + sum(lane.calls for lane in self._lanes.values())

    def submit(self, job: Job) -> asyncio.Future[Reply]:
        """Queue a job; its reply is DONE, REPLAYED, MISMATCH or STALE.

        Raises Unavailable at once when the job would not be reached in time or the lane closes (not
        applied), and through the future when the store does not answer within `deadline_s`.
        """
        group = self._group_of(job)
        self._admit(self._homes[group], 1)
        loop = asyncio.get_running_loop()
        return self._queue(job, group, loop.time() + self.deadline_s)

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        """Queue jobs one behind the other, all of them or none; replies and errors as of `submit`.

        They have one deadline, so that of one instance no job is applied after one before it ran
        out of time.
        """
        groups = [self._group_of(job) for job in jobs]
        for home, count in Counter(self._homes[group] for group in groups).items():
            self._admit(home, count)
        deadline_s = asyncio.get_running_loop().time() + self.deadline_s
        return [
            self._queue(job, group, deadline_s) for job, group in zip(jobs, groups, strict=True)
        ]

    async def close(self) -> None:
        """Send what is queued, wait for its answers (bounded by their deadlines), disconnect."""
        self._closing = True
        for lane in list(self._lanes.values()):
            lane.end()
        while self._loops:  # a group that moves meanwhile may begin another
            await asyncio.wait(self._loops)
        if self._late is not None:
            self._late.cancel()
        if self._looking is not None and not self._looking.done():
            self._looking.cancel()
            await asyncio.wait([self._looking], timeout=self.deadline_s)

    def _admit(self, home: NodeLane, count: int) -> None:
        # Sheds early: what would wait so long that its call had no time left is refused now, while
        # its sender may still go elsewhere. How fast a node is was seen at its last full pipelines;
        # whoever finds nobody waiting is let in all the same, so that it shows when it is faster.
        # Half of the deadline is left for the call and another attempt: those who are let in are
        # answered as quickly as ever.
        if (
            home.backlog.jobs + count > self.queue_max
            or home.ahead_s > QUEUE_SHARE_MAX * self.deadline_s
        ):
            self.watch.refused(count)
            raise Unavailable("Too many requests are waiting for the store", "not_applied")

    def _queue(self, job: Job, group: Group, deadline_s: float) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.watch.queued(job, future)
        group.add(Waiting(job, job.work, deadline_s, future))
        self._homes[group].wake()
        if self._late is None:  # else it is set for somebody earlier
            self._late = future.get_loop().call_at(deadline_s, self._fail_late)
        return future

    def _group_of(self, job: Job) -> Group:
        """Give the group of a job, which has a home. Raises Unavailable when the lane closes."""
        if self._closing:
            raise Unavailable("The gateway is stopping", "not_applied")
        instance = job.index.catalogue.id
        partition = 0 if self._together else partition_of(instance, self.partitions)
        group = self._groups.get(partition)
        if group is None:
            group = self._groups[partition] = Group(PartitionKeys(partition).lease)
            self._settle_in(group)
        return group

    def _settle_in(self, group: Group) -> None:
        """Bring a group of which nothing is under way to the node that has it, as last heard."""
        node, home = self.topology.node_of(group.key), self._homes.get(group)
        if home is not None:
            if home.node == node:
                return
            self._leave(home, group)
        lane = self._lanes.get(node)
        if lane is None or lane.ended:
            lane = self._lanes[node] = self._begin(node)
        lane.take_in(group)
        self._homes[group] = lane

    def _leave(self, home: NodeLane, group: Group) -> None:
        del home.groups[group]
        if home.groups:
            return
        home.end()  # its node left the cluster, or has nothing of ours any more
        if self._lanes.get(home.node) is home:
            del self._lanes[home.node]
            self._calls_before += home.calls

    def _begin(self, node: str) -> NodeLane:
        connect = partial(self.topology.connection_to, node)
        pipe = Pipe(self.script, connect, self.clock, self.wait)
        left_s_min = min(LEFT_S_MIN, LEFT_SHARE_MIN * self.deadline_s)
        lane = NodeLane(
            *(node, pipe, self._frames, self._settle_in, self._look_again, left_s_min),
            self.revive,
            self.watch,
        )
        if self._closing:
            lane.end()
        task = asyncio.get_running_loop().create_task(lane.run())
        self._loops.add(task)
        task.add_done_callback(self._loops.discard)
        return lane

    def _look_again(self) -> None:
        """Have the topology look who has what, beside everything else; one look at a time."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        await self.topology.refresh()
        for group, home in list(self._homes.items()):
            if not home.away(group):
                self._settle_in(group)

    def _fail_late(self) -> None:
        # Whatever their nodes are doing; and who is under way to one does not end that for others.
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        next_s = min((lane.fail_late(now_s) for lane in self._lanes.values()), default=math.inf)
        self._late = None
        if next_s < math.inf:
            self._late = loop.call_at(max(next_s, now_s + LATE_S), self._fail_late)
