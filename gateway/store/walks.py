"""Walks over what is too large for one reply: the fields of a hash, the members of a sorted set,
the keys of a server.

Decided here: how a walk is cut into steps, so that each holds the store for a few ms, and that all
steps of one are taken in one process. A cursor is a place in the table of a process: to a replica
that took over, to the node a slot has moved to, even to the same server started again it is another
place, and what lies between would be left out without a word. Then the walk ends in Unavailable.
Not decided here: what is walked over, and what is made of it. Source: DESIGN 4, RELIABILITY 5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from redis.asyncio.client import Pipeline

from gateway.core.errors import Unavailable
from gateway.store.durable import answered
from gateway.store.topology import Client

SCAN_COUNT: Final = 1_000  # fields per step; a larger step would hold the store for longer
STEPS_MAX: Final = 1_000_000  # of one walk

Fields = dict[bytes, bytes]
Members = list[tuple[bytes, float]]


async def scan(client: Client, key: str) -> Fields:
    """Read a hash whole. Raises Unavailable."""
    found: Fields = {}
    async for fields in steps(client, key):
        found.update(fields)
    return found


def steps(
    client: Client, key: str, *, match: str | None = None, count: int = SCAN_COUNT
) -> AsyncIterator[Fields]:
    """Read a hash, about `count` fields in a step; one may come twice. Raises Unavailable.

    What is there from the first step to the last is given; a small hash comes in one.
    """
    return _walk(client, lambda one, cursor: one.hscan(key, cursor, match=match, count=count))


def members(client: Client, key: str, *, count: int = SCAN_COUNT) -> AsyncIterator[Members]:
    """Read a sorted set, members with their scores, as `steps` reads a hash."""
    return _walk(client, lambda one, cursor: one.zscan(key, cursor, count=count))


def keys_like(
    server: Client, pattern: str, *, count: int = SCAN_COUNT
) -> AsyncIterator[list[bytes]]:
    """Read the names of a server's keys that match, as `steps` reads a hash.

    Of one server, a client of its own (Topology.client_of). It looks at all keys: for backups.
    """
    return _walk(server, lambda one, cursor: one.scan(cursor, match=pattern, count=count))


async def watched_steps(
    pipeline: Pipeline, key: str, *, match: str | None = None, count: int = SCAN_COUNT
) -> AsyncIterator[Fields]:
    """Read a hash as `steps` does, over the one connection that watches it already.

    Raises what the pipeline raises: with the connection the watch is lost too.
    """
    cursor = 0
    for _ in range(STEPS_MAX):
        asked: Any = pipeline.hscan(key, cursor, match=match, count=count)
        cursor, fields = await asked
        yield fields
        if not cursor:
            return
    raise _too_much()


async def _walk(client: Client, ask: Callable[[Client, int], Any]) -> AsyncIterator[Any]:
    cursor, found = await answered(ask(client, 0))
    if not cursor:
        yield found
        return
    cursor, process = 0, ""
    for _ in range(STEPS_MAX):
        # Together, so that it is the process that took the step which tells who it is.
        pipeline = client.pipeline(transaction=True)
        pipeline.info("server")
        ask(pipeline, cursor)
        server, (cursor, found) = await answered(pipeline.execute())
        if server["run_id"] != (process := process or server["run_id"]):
            raise Unavailable("The store changed hands while it was walked over", "not_applied")
        yield found
        if not cursor:
            return
    raise _too_much()


def _too_much() -> Unavailable:
    return Unavailable("There is more than can be walked over", "not_applied")
