"""The lane: how access requests reach the script, together and in order.

What arrives while a call is in flight leaves together in the next one, bounded by the work in it,
so that the store is never held for long. Decided here: coalescing, order, the deadline, re-sending,
and what is said when the store cannot answer. Re-sending is always safe, because every job has an
id that the script remembers; a cancelled client never cancels a sent call. Source: DESIGN 3,
RELIABILITY 2 and 3.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as StoreTimeoutError

from gateway.core.calendar import DAY_MS, make_calendar
from gateway.core.calls import Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Applied, Unavailable
from gateway.store.calls import Frame, Job, decode_reply, encode_call
from gateway.store.keys import InstanceKeys
from gateway.store.scripts import Script, refused

WORK_MAX: Final = 512  # candidate lines in one call: about 15 ms of the store's time
CONTEXT_WORK: Final = 4  # what a further instance in a call costs, in candidate lines
FRAMES_MAX: Final = 20_000  # instances whose keys and calendar are kept ready
CALENDARS_MAX: Final = 4  # times one job may ask for another calendar
PAUSE_S: Final = 0.01  # between tries while the store is away, doubling
PAUSE_S_MAX: Final = 0.2


class _Waiting(msgspec.Struct, eq=False):
    job: Job
    deadline_s: float
    future: asyncio.Future[Reply]
    sent: bool = False  # an attempt ended without a reply: it may have been applied
    calendars: int = 0
    from_ms: int | None = None  # what the script asked the calendar to reach back to


@dataclass(slots=True)
class StoreClock:
    """The store's time as last heard, carried on by this process's monotonic clock."""

    heard_ms: int = 0
    heard_at_s: float = 0.0

    def hear(self, clock_ms: int, at_s: float) -> None:
        self.heard_ms, self.heard_at_s = clock_ms, at_s

    def now_ms(self, at_s: float) -> int:
        return self.heard_ms + int((at_s - self.heard_at_s) * 1000)


@dataclass
class Lane:
    """One connection's worth of access requests, strictly one call in flight.

    `connect` gives a new, unconnected connection; `revive` is awaited when the store cannot be
    reached (the embedded store is started again there). `fsync` adds WAITAOF to every call.
    """

    script: Script
    connect: Callable[[], AbstractConnection]
    partitions: int
    revive: Callable[[], Awaitable[object]] | None = None
    fsync: bool = False
    deadline_s: float = 2.0
    queue_max: int = 4096
    clock: StoreClock = field(default_factory=StoreClock)
    calls: int = 0
    _queue: deque[_Waiting] = field(default_factory=deque)
    _frames: dict[str, Frame] = field(default_factory=dict)
    _connection: AbstractConnection | None = None
    _worker: asyncio.Task[None] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    @property
    def depth(self) -> int:
        """Jobs that wait for a place in a call."""
        return len(self._queue)

    @property
    def room(self) -> int:
        """Jobs that may be submitted now."""
        return max(0, self.queue_max - len(self._queue))

    def submit(self, job: Job) -> asyncio.Future[Reply]:
        """Queue a job; its reply is DONE, REPLAYED, MISMATCH or STALE.

        Raises Unavailable at once when the queue is full or the lane closes (not applied), and
        through the future when the store does not answer within `deadline_s`.
        """
        return self.submit_all((job,))[0]

    def submit_all(self, jobs: Sequence[Job]) -> list[asyncio.Future[Reply]]:
        """Queue jobs one behind the other, all of them or none; replies and errors as of `submit`.

        They have one deadline, so that no job is applied after one before it ran out of time.
        """
        if self._closing or len(self._queue) + len(jobs) > self.queue_max:
            raise Unavailable("Too many requests are waiting for the store", "not_applied")
        loop = asyncio.get_running_loop()
        if self._worker is None:
            self._worker = loop.create_task(self._run())
        deadline_s = loop.time() + self.deadline_s
        queued = [_Waiting(job, deadline_s, loop.create_future()) for job in jobs]
        self._queue.extend(queued)
        self._wake.set()
        return [waiting.future for waiting in queued]

    async def close(self) -> None:
        """Send what is queued, wait for its answers (bounded by their deadlines), disconnect."""
        self._closing = True
        if self._worker is not None:
            self._wake.set()
            await self._worker
        await self._disconnect()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            await asyncio.sleep(0)  # who is ready to submit comes along: fuller calls are cheaper
            batch = self._take()
            try:
                await self._serve(batch)
            except Exception as error:  # a bug or a broken store: answer, and keep the lane going
                await self._disconnect()
                for waiting in batch:
                    if not waiting.future.done():
                        failure = Unavailable("The store gave no usable answer", "unknown")
                        failure.__cause__ = error
                        waiting.future.set_exception(failure)

    def _take(self) -> list[_Waiting]:
        """Take what goes into the next call, in order, up to WORK_MAX of work."""
        batch: list[_Waiting] = []
        instances: set[str] = set()
        work = 0
        while self._queue:
            job = self._queue[0].job
            instance = job.index.catalogue.id
            work += job.work + (0 if instance in instances else CONTEXT_WORK)
            if batch and work > WORK_MAX:
                break
            instances.add(instance)
            batch.append(self._queue.popleft())
        return batch

    async def _serve(self, batch: list[_Waiting]) -> None:
        """Call until every job of the batch is answered or out of time."""
        loop = asyncio.get_running_loop()
        pause_s = PAUSE_S
        trouble = "The store did not answer in time"
        script_unknown = False
        while batch:
            late = [waiting for waiting in batch if waiting.deadline_s <= loop.time()]
            for waiting in late:
                batch.remove(waiting)
                _fail(waiting, trouble, "unknown" if waiting.sent else "not_applied")
            if not batch:
                return
            deadline_s = min(each.deadline_s for each in batch)
            try:
                if script_unknown:
                    await self._load_script(deadline_s)
                    script_unknown = False
                replies = await self._call(batch, deadline_s)
            except NoScriptError:
                script_unknown = True
                continue
            except RedisError as error:
                if refused(error):
                    trouble = f"The store refuses to write: {str(error)[:100]}"
                    if isinstance(error, (ReadOnlyError, MasterDownError)):
                        await self._disconnect()  # under the same address there may be a primary
                elif isinstance(error, (StoreConnectionError, StoreTimeoutError)):
                    await self._disconnect()
                else:
                    raise
            except OSError:  # and the deadline's TimeoutError
                await self._disconnect()
            else:
                batch = self._settle(batch, replies)
                continue
            if self.revive is not None and self._connection is None:
                await self._try_revive(deadline_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S_MAX)

    def _settle(self, batch: list[_Waiting], replies: list[Reply]) -> list[_Waiting]:
        """Hand out replies; return the jobs that have to be called again, in their order."""
        again: list[_Waiting] = []
        told: set[tuple[str, int]] = set()  # instances whose calendar has been made anew
        for waiting, reply in zip(batch, replies, strict=True):
            if reply.verdict is Verdict.CALENDAR and waiting.calendars < CALENDARS_MAX:
                waiting.calendars += 1
                waiting.from_ms = reply.from_ms
                index = waiting.job.index
                if (index.catalogue.id, reply.from_ms) not in told:
                    told.add((index.catalogue.id, reply.from_ms))
                    self._frame(index, reply.from_ms, reply.now_ms)
                again.append(waiting)
            elif reply.verdict is Verdict.CALENDAR:
                outcome: Applied = "unknown" if waiting.sent else "not_applied"
                _fail(waiting, "The store's clock moves too far to follow", outcome)
            elif reply.verdict is Verdict.AGAIN:
                again.append(waiting)
            elif not waiting.future.done():
                waiting.future.set_result(reply)
        return again

    async def _call(self, batch: list[_Waiting], deadline_s: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(deadline_s):
            connection = await self._connected()
            framed = self._framed(batch, loop.time())
            keys, arguments = encode_call(framed)
            commands: list[tuple[str | int | bytes, ...]] = [
                ("EVALSHA", self.script.sha, len(keys), *keys, arguments)
            ]
            if self.fsync:
                wait_ms = max(1, int((deadline_s - loop.time()) * 800))
                commands.append(("WAITAOF", 1, 0, wait_ms))
            packed = connection.pack_commands(commands)
            try:
                await connection.send_packed_command(packed)
                text = await connection.read_response(disconnect_on_error=False)
                synced = [1]
                if self.fsync:
                    synced = await connection.read_response(disconnect_on_error=False)
            except BaseException as error:
                if isinstance(error, RedisError) and refused(error):
                    if self.fsync:
                        await self._disconnect()  # WAITAOF's reply is still to come
                else:
                    for waiting in batch:
                        waiting.sent = True
                raise
        self.calls += 1
        clock_ms, replies = decode_reply(text, framed)
        self.clock.hear(clock_ms, loop.time())
        if synced[0] < 1:
            for waiting, reply in zip(batch, replies, strict=True):
                if reply.verdict in (Verdict.DONE, Verdict.REPLAYED):
                    _fail(waiting, "Applied, but not yet safe on disk", "applied_not_durable")
        return replies

    def _framed(self, batch: list[_Waiting], at_s: float) -> list[tuple[Job, Frame]]:
        """Give each job its frame: in one call, one for all that were resolved against a version.

        Two contexts of one instance would each count from what the store held before the call.
        """
        frames: dict[tuple[str, int], Frame] = {}
        framed: list[tuple[Job, Frame]] = []
        for waiting in batch:
            catalogue = waiting.job.index.catalogue
            version = (catalogue.id, catalogue.version)
            if version not in frames:
                frames[version] = self._frame_of(waiting.job.index, at_s, waiting.from_ms)
            framed.append((waiting.job, frames[version]))
        return framed

    def _frame_of(self, index: CatalogueIndex, at_s: float, from_ms: int | None) -> Frame:
        frame = self._frames.get(index.catalogue.id)
        now_ms = self.clock.now_ms(at_s)
        if (
            frame is not None
            and frame.index.catalogue.version == index.catalogue.version
            # The script's time never goes back, so a store's clock put back asks for no other day.
            and frame.calendar.reaches(max(now_ms, frame.calendar.from_ms))
        ):
            return frame
        # A midnight between the script's answer and now must not cut off what it has asked for.
        return self._frame(index, now_ms - DAY_MS if from_ms is None else from_ms, now_ms)

    def _frame(self, index: CatalogueIndex, from_ms: int, now_ms: int) -> Frame:
        if len(self._frames) >= FRAMES_MAX:
            self._frames.clear()
        instance = index.catalogue.id
        known = self._frames.get(instance)
        keys = known.instance_keys if known else InstanceKeys(instance, self.partitions)
        calendar = make_calendar(index, min(from_ms, now_ms - DAY_MS), now_ms)
        frame = self._frames[instance] = Frame.make(index, calendar, keys)
        return frame

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            connection = self.connect()
            await connection.connect()  # type: ignore[no-untyped-call]
            self._connection = connection
            await connection.send_command("TIME")
            seconds, micros = await connection.read_response()
            self.clock.hear(
                int(seconds) * 1000 + int(micros) // 1000, asyncio.get_running_loop().time()
            )
        return self._connection

    async def _load_script(self, deadline_s: float) -> None:
        async with asyncio.timeout_at(deadline_s):
            connection = await self._connected()
            await connection.send_command("SCRIPT", "LOAD", self.script.text)
            await connection.read_response()

    async def _try_revive(self, deadline_s: float) -> None:
        assert self.revive is not None  # noqa: S101 - the caller has looked
        with suppress(Exception):  # it is tried again until the jobs' deadline
            async with asyncio.timeout_at(deadline_s):
                await self.revive()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _fail(waiting: _Waiting, message: str, outcome: Applied) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(Unavailable(message, outcome))
