"""One connection to one node, and what goes over it: a pipeline of calls, and its replies.

Decided here: that a pipeline's replies are read to the last, or the connection is dropped, so that
no answer crosses over; where a level is waited for (behind all calls, on the connection that
wrote); and how the script gets to a node that does not have it. Not decided here: which jobs are in
it, and what is made of a refusal or a loss (lane.py). Source: RELIABILITY 2 and 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from gateway.store.durability import Command, Wait
from gateway.store.durable import WAIT_MS_MAX, WAIT_SHARE
from gateway.store.frames import StoreClock
from gateway.store.scripts import Script, refused

Said = tuple[list[str], bytes]  # KEYS and ARGV[1] of a call


@dataclass(slots=True)
class Heard:
    """What came of a pipeline. `replies`: bytes or a refusal per call, up to where it broke off.

    `safe`: whether the level was reached; None when that was not heard. `error`: why it broke off.
    """

    replies: list[bytes | RedisError] = field(default_factory=list)
    safe: bool | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Pipe:
    """A connection that is made when it is needed. `connect` gives a new, unconnected one."""

    script: Script
    connect: Callable[[], AbstractConnection]
    clock: StoreClock
    wait: Wait
    _connection: AbstractConnection | None = None
    _writer: asyncio.StreamWriter | None = None  # the connection's, which forgets it
    _load: bool = False  # the script goes ahead of the next calls

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as one can tell that has heard nothing since.

        One that the server has closed meanwhile is none: what was not sent on it is not in doubt.
        """
        if self._connection is None:
            return False
        reader = self._connection._reader
        return reader is None or not (reader.at_eof() or reader.exception())

    async def open(self, deadline_s: float) -> None:
        """Connect anew, and hear the time. Raises RedisError or OSError."""
        await self.drop()
        async with asyncio.timeout_at(deadline_s):
            connection = self.connect()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("TIME")
                seconds, micros = await connection.read_response()
            except BaseException:
                await _disconnect(connection)
                raise
        now_s = asyncio.get_running_loop().time()
        self.clock.hear(int(seconds) * 1000 + int(micros) // 1000, now_s)
        # Each pipeline has a deadline. A time-out of the connection's own would be a task for what
        # is sent and a timer for each reply.
        connection.socket_timeout = None
        self._connection, self._writer = connection, connection._writer
        self._load = True  # to whatever server it led this time

    async def exchange(self, calls: Sequence[Said], deadline_s: float) -> Heard:
        """Send calls, and what waits for the level, and read what comes; drop it if it breaks off.

        The connection is open. A refusal of a call is a reply; `deadline_s` is the pipeline's.
        """
        heard = Heard()
        connection = self._connection
        assert connection is not None  # noqa: S101 - the caller has opened it
        load, self._load = self._load, False
        try:
            async with asyncio.timeout_at(deadline_s):
                waits = self._waits(deadline_s)
                packed = connection.pack_commands([*self._commands(calls, load=load), *waits])
                await connection.send_packed_command(packed)
                if load:
                    await _read(connection)  # what went wrong with it, the calls will tell
                for _ in calls:
                    heard.replies.append(await _read(connection))
                told = [await _read(connection) for _ in waits]
                heard.safe = not waits or self._reached(told[-1])
        except (RedisError, OSError) as error:  # and the deadline's TimeoutError
            heard.error = error
            await self.drop()
        return heard

    def load_script(self) -> None:
        """Have the script loaded ahead of the next calls."""
        self._load = True

    async def drop(self) -> None:
        """Leave the connection, at once; the next one may lead to another server."""
        connection, self._connection = self._connection, None
        if self._writer is not None:
            # A close would go on sending: what is given up must not be applied long after.
            self._writer.transport.abort()
            self._writer = None
        if connection is not None:
            await _disconnect(connection)

    def _commands(
        self, calls: Sequence[Said], *, load: bool
    ) -> list[tuple[str | int | bytes, ...]]:
        sha, text = self.script.sha, self.script.text
        commands: list[tuple[str | int | bytes, ...]] = []
        if load:
            commands.append(("SCRIPT", "LOAD", text))
        for keys, arguments in calls:
            commands.append(("EVALSHA", sha, len(keys), *keys, arguments))
        return commands

    def _waits(self, deadline_s: float) -> list[Command]:
        left_ms = (deadline_s - asyncio.get_running_loop().time()) * 1000
        return self.wait.commands(min(int(left_ms * WAIT_SHARE), WAIT_MS_MAX))

    def _reached(self, reply: Any) -> bool:
        # A refusal too: a primary that became a replica does not wait for anybody.
        return not isinstance(reply, RedisError) and self.wait.reached(reply)


async def _read(connection: AbstractConnection) -> Any:
    """Read one reply, which may be an error reply. Raises when there is none to be had any more."""
    try:
        return await connection.read_response(disconnect_on_error=False)
    except RedisError as error:
        if isinstance(error, ResponseError) or refused(error):
            return error
        raise


async def _disconnect(connection: AbstractConnection) -> None:
    with suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)
