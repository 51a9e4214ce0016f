"""Ordinary commands in a cluster: a client that takes each to the node that has its key.

Decided here: where the key is in a command, that redirections are followed, and for how long a slot
on its way is waited for. A lost connection is told, never repeated; who took the place of the lost
node is looked for at once, and found by the next command. Scripts whose effect must be waited for
do not come this way (durable.py, lanes.py). Source: DESIGN 4, the cluster specification.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from gateway.store.keys import META

TRIES_MAX: Final = 10  # of one command; the pauses between come to about a second
PAUSE_S: Final = 0.01  # before the second try that is no redirection, doubling
PAUSE_S_MAX: Final = 0.2
LOOK_S_MAX: Final = 0.1  # that a look is waited for; of nodes that are paused it takes seconds

# About a server: asked of the one that has META. All other commands begin with a key, but for
# those that run scripts.
_KEYLESS: Final = frozenset(
    {"CONFIG GET", "CONFIG SET", "INFO", "PING", "SCRIPT FLUSH", "SCRIPT LOAD", "TIME"}
)
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_PASSING: Final = (AskError, TryAgainError, ClusterDownError)  # MOVED is an AskError too
_LOST: Final = (StoreConnectionError, StoreTimeoutError, OSError)


class Nodes(Protocol):
    """What is asked of a cluster here; see clusters.Cluster."""

    def node_of(self, key: str) -> str: ...
    def client_at(self, node: str) -> Redis: ...
    def named(self, error: AskError, node: str) -> str: ...
    def learn(self, error: MovedError, node: str) -> str: ...
    def refresh_soon(self) -> None: ...
    async def refresh(self) -> None: ...


def key_of(command: tuple[Any, ...]) -> str | None:
    """Find the first key of a command; None of one that is about a server."""
    name = str(command[0]).upper()
    if name in _KEYLESS or len(command) == 1:
        return None
    key = command[3] if name in _SCRIPTS else command[1]
    return key.decode() if isinstance(key, bytes) else str(key)


@dataclass(slots=True)
class _Way:
    """Where a command of a key goes next; `asking` for this once, because ASK has sent it there."""

    nodes: Nodes
    key: str
    at: str
    asking: bool = False
    _redirected: bool = False
    _pause_s: float = PAUSE_S

    @classmethod
    def to(cls, nodes: Nodes, key: str | None) -> _Way:
        return cls(nodes, key or META, nodes.node_of(key or META))

    @property
    def client(self) -> Redis:
        """The client of the node it goes to. Raises ConnectionError while nobody knows that."""
        return self.nodes.client_at(self.at)

    async def turn(self, error: RedisError, *, may_ask: bool = True) -> None:
        """Go where the refusal says; where it says nothing new, wait a moment and look again."""
        self.asking = False
        if isinstance(error, AskError) and not self._redirected:
            self._redirected = True
            if isinstance(error, MovedError):
                self.at = self.nodes.learn(error, self.at)
                self.nodes.refresh_soon()  # where one slot went, others may have gone
                return
            if may_ask:
                self.at, self.asking = self.nodes.named(error, self.at), True
                return
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSE_S_MAX)
        with suppress(TimeoutError):  # it goes on, and the next try may find what it found
            async with asyncio.timeout(LOOK_S_MAX):
                await self.nodes.refresh()
        self.at, self._redirected = self.nodes.node_of(self.key), False


class Routed(Redis):
    """A client whose commands each find their node; a pipeline's may go to several at once."""

    def __init__(self, nodes: Nodes) -> None:
        # For its settings: nothing is ever connected through it.
        super().__init__(connection_pool=ConnectionPool(protocol=2))
        self._nodes = nodes

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command on the node that has its key, wherever that goes meanwhile."""
        way = _Way.to(self._nodes, key_of(args))
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                if not way.asking:
                    return await way.client.execute_command(  # type: ignore[no-untyped-call]
                        *args, **options
                    )
                # On one connection: ASKING is for the next command only.
                pipeline = way.client.pipeline(transaction=False)
                pipeline.execute_command("ASKING")
                pipeline.execute_command(*args, **options)
                _, reply = await pipeline.execute(raise_on_error=False)
                if not isinstance(reply, Exception):
                    return reply
                raise reply
            except _PASSING as error:
                if not tries_left:
                    raise
                await way.turn(error)
            except _LOST:
                self._nodes.refresh_soon()
                raise

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Give a pipeline; one that is a transaction has all its keys in one slot."""
        kind = _Transaction if transaction else _Pipeline
        return kind(self.connection_pool, self.response_callbacks, transaction, shard_hint, self)


class _Pipeline(Pipeline):
    """Commands in one go to each of the nodes that have their keys."""

    def __init__(self, *args: Any) -> None:
        *rest, client = args
        super().__init__(*rest)
        self._client: Routed = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run them all; what was refused by one node goes again by itself."""
        stack, self.command_stack = self.command_stack, []
        nodes = self._client._nodes
        places: dict[str, list[int]] = {}
        for place, (args, _) in enumerate(stack):
            places.setdefault(nodes.node_of(key_of(args) or META), []).append(place)
        told = await asyncio.gather(
            *(self._at(node, [stack[place] for place in some]) for node, some in places.items()),
            return_exceptions=True,
        )
        replies: list[Any] = [None] * len(stack)
        for (node, some), found in zip(places.items(), told, strict=True):
            if isinstance(found, BaseException):
                nodes.refresh_soon()
                raise found
            for place, reply in zip(some, found, strict=True):
                if isinstance(reply, MovedError):
                    nodes.learn(reply, node)
                replies[place] = reply
        for place, (args, options) in enumerate(stack):
            if isinstance(replies[place], _PASSING):
                replies[place] = await self._again(args, options)
                if isinstance(replies[place], _PASSING):
                    break  # the others' had as long to pass; one by one it would take minutes
        if raise_on_error:
            self.raise_first_error(stack, replies)
        return replies

    async def _at(self, node: str, stack: list[Any]) -> list[Any]:
        pipeline = self._client._nodes.client_at(node).pipeline(transaction=False)
        for args, options in stack:
            pipeline.execute_command(*args, **options)
        return await pipeline.execute(raise_on_error=False)

    async def _again(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        try:
            return await self._client.execute_command(*args, **options)
        except ResponseError as error:
            return error


class _Transaction(_Pipeline):
    """A transaction on the node that has its keys; what is watched is read there too."""

    _way: _Way | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Queue a command, or run it at once while keys are watched; the first key says where."""
        key = key_of(args)
        if self._way is None and key is not None:
            self._take(_Way.to(self._client._nodes, key))
        return super().execute_command(*args, **options)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run it, all or nothing. Refused, nothing of it ran: it goes again, unless it watches."""
        stack, watching = self.command_stack, self.watching
        way = self._way or _Way.to(self._client._nodes, None)
        for tries_left in reversed(range(TRIES_MAX)):
            if not watching:
                self._take(way)
            self.command_stack = list(stack)
            try:
                return await Pipeline.execute(self, raise_on_error)
            except _PASSING as error:
                if watching or not tries_left:
                    raise
                await way.turn(error, may_ask=False)
            except _LOST:
                self._client._nodes.refresh_soon()
                raise
        return []

    def _take(self, way: _Way) -> None:
        self._way, self.connection_pool = way, way.client.connection_pool
