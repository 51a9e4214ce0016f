"""Scripts whose effect is as safe as an acknowledged count before the caller goes on.

Decided here: how a script is run so that the disk has what it wrote, at a level that asks for it,
and what each kind of failure says. Not decided here: which level (server.py) and what a script does
(its head). A store that does not answer is Unavailable; a repeat is always safe.
Source: RELIABILITY 2.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError

from gateway.core.errors import Unavailable
from gateway.store.scripts import Script, refused

FSYNC_MS_MAX: Final = 800  # below the client's socket time-out

_T = TypeVar("_T")


@dataclass(frozen=True)
class Durable:
    """A way to run scripts. `fsync`: each waits for the disk (Strength.fsync_each_call)."""

    client: Redis
    fsync: bool

    async def write(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script and give its reply once that is safe. Raises Unavailable."""
        if not self.fsync:
            return await answered(script.run(self.client, keys, args))
        for _ in range(2):
            # One connection, because WAITAOF speaks only for the one that wrote.
            pipeline = self.client.pipeline(transaction=False)
            pipeline.evalsha(script.sha, len(keys), *keys, *args)
            pipeline.execute_command("WAITAOF", 1, 0, FSYNC_MS_MAX)
            reply, synced = await answered(pipeline.execute(raise_on_error=False))
            if isinstance(reply, NoScriptError):
                await answered(self.client.script_load(script.text))
                continue
            for each in (reply, synced):
                if isinstance(each, RedisError):
                    raise _unavailable(each) from each
            if synced[0] < 1:
                raise Unavailable("Applied, but not yet safe on disk", "applied_not_durable")
            return reply
        raise Unavailable("The store forgets its scripts", "not_applied")


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
