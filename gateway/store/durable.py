"""Scripts whose effect is as safe as an acknowledged count before the caller goes on.

Decided here: how a script is run so that what it wrote is as safe as the level asks; which refusals
are waited out and for how long; what each kind of failure says. A script that was sent and not
answered for is not sent again here: what it then replies may look like another's doing. Not decided
here: which level (durability.py) and what a script does (its head). A store that does not answer is
Unavailable; a repeat by the caller is always safe. Source: RELIABILITY 2 and 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from gateway.core.errors import Unavailable
from gateway.store.durability import APPLIED_UNSAFE, NO_WAIT, Wait
from gateway.store.keys import PULSE_MS, pulse
from gateway.store.scripts import Script, refused
from gateway.store.topology import Topology

DEADLINE_S: Final = 2.0
WAIT_MS_MAX: Final = 800  # below the client's socket time-out
WAIT_SHARE: Final = 0.8  # of what is left to the deadline, so that a level not reached is told
PAUSE_S: Final = 0.01  # before a refused script is sent again, doubling
PAUSE_S_MAX: Final = 0.2

_LASTING: Final = (AuthenticationError, NoPermissionError)

_Command = tuple[Any, ...]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Durable:
    """A way to write: what is written is waited for as `wait` says, all within `deadline_s`."""

    topology: Topology
    wait: Wait = NO_WAIT
    deadline_s: float = DEADLINE_S

    async def write(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script and give its reply once that is safe; all keys are in one slot.

        Raises Unavailable: not applied when every attempt was refused or did not get through,
        applied but not durable when the level was not reached, else unknown.
        """
        given = (len(keys), *keys, *args)
        by_digest, whole = ("EVALSHA", script.sha, *given), ("EVAL", script.text, *given)
        return await self._safely(keys[0], by_digest, whole)

    async def run(self, command: str, key: str, *args: str) -> Any:
        """Run an ordinary command of one key, and give its reply once that is safe; as `write`."""
        return await self._safely(key, (command, key, *args))

    async def _safely(self, key: str, command: _Command, known_nowhere: _Command = ()) -> Any:
        """Send a command until it is not refused; `known_nowhere` after NOSCRIPT."""
        until_s = asyncio.get_running_loop().time() + self.deadline_s
        pause_s = PAUSE_S
        while True:
            attempt = _Attempt(command, key, self.wait)
            try:
                async with asyncio.timeout_at(until_s):
                    return await attempt.run(self.topology.client_of(key), until_s)
            except NoScriptError:
                command = known_nowhere
            except (RedisError, OSError) as error:  # and the deadline's TimeoutError
                failed = attempt.failure(error)
                if failed.outcome != "not_applied" or isinstance(error, _LASTING):
                    raise failed from error
                try:
                    async with asyncio.timeout_at(until_s):
                        await self._look_elsewhere(error, key)
                        await asyncio.sleep(pause_s)
                except TimeoutError:
                    raise failed from error
                pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _look_elsewhere(self, error: Exception, key: str) -> None:
        """Find out who has the key now; under the same address there may be another primary."""
        if isinstance(error, ReadOnlyError):
            pool = self.topology.client_of(key).connection_pool
            with suppress(RedisError, OSError):
                await pool.disconnect(inuse_connections=False)
        await self.topology.refresh()


@dataclass
class _Attempt:
    """A command sent once, with what waits for it, on one connection: a wait speaks for no other.

    Between the two goes a tiny write: what is asked again may write nothing, and a wait is for what
    its connection wrote.
    """

    command: _Command
    key: str
    wait: Wait
    _sent: bool = False
    _replies: list[Any] = field(default_factory=list)

    async def run(self, client: Redis, until_s: float) -> Any:
        """Give the command's reply once it is safe. Raises RedisError, OSError or Unavailable."""
        pool = client.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            commands = self._commands(until_s)
            packed = connection.pack_commands(commands)
            self._sent = True
            await connection.send_packed_command(packed)
            for _ in commands:
                try:
                    self._replies.append(await connection.read_response())
                except ResponseError as error:
                    self._replies.append(error)
                    if len(self._replies) == 1 < len(commands):
                        # Nothing was written: what waits for it would only take its time.
                        await connection.disconnect(nowait=True)
                        break
        finally:
            await asyncio.shield(pool.release(connection))
        reply, *waited = self._replies
        if isinstance(reply, RedisError):
            raise reply
        refused_wait = any(isinstance(each, RedisError) for each in waited)
        if refused_wait or (waited and not self.wait.reached(waited[-1])):
            raise Unavailable(APPLIED_UNSAFE, "applied_not_durable")
        return reply

    def failure(self, error: Exception) -> Unavailable:
        """Say what is known of an attempt that ended with an error."""
        first = self._replies[0] if self._replies else error
        if not isinstance(first, Exception):
            return Unavailable(APPLIED_UNSAFE, "applied_not_durable")
        if self._sent:
            return _unavailable(first)
        return Unavailable("The store cannot be reached", "not_applied")

    def _commands(self, until_s: float) -> list[_Command]:
        left_ms = (until_s - asyncio.get_running_loop().time()) * 1000
        waits = self.wait.commands(min(int(left_ms * WAIT_SHARE), WAIT_MS_MAX))
        beat: list[_Command] = [("SET", pulse(self.key), 1, "PX", PULSE_MS)] if waits else []
        return [self.command, *beat, *waits]


async def answered(call: Awaitable[_T]) -> _T:
    """Await a call to the store. Raises Unavailable, saying whether it may have been applied."""
    try:
        return await call
    except (RedisError, OSError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, BusyLoadingError):
        return Unavailable("The store is still loading its data", "not_applied")
    if isinstance(error, RedisError) and refused(error):
        return Unavailable("The store refuses the call", "not_applied")
    return Unavailable("The store gave no usable answer", "unknown")
