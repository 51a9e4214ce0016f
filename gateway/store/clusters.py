"""The nodes of a cluster: who has which slot, as its nodes tell, and a client for each.

Decided here: whom to ask, how often, and what to believe; that a slot nobody tells of stays with
whom it was; when the client of a node that left is closed. Not decided here: how ordinary commands
find their node (routing.py). redis-py's RedisCluster is not taken: it sends ASKING on any of a
node's connections, fails on an ASK to a node without slots, and closes connections that others are
reading from. Source: DESIGN 3, RELIABILITY 5, the cluster specification.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, RedisError
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.store.addresses import Address
from gateway.store.routing import Routed
from gateway.store.server import client_over
from gateway.store.topology import made_by

REFRESH_S: Final = 0.1  # between looks
LOOK_S_MAX: Final = 1.0  # until a node has told what it knows, the connection included
ASKED_MAX: Final = 16  # nodes, in one look
RETIRED_S: Final = 5.0  # until the client of a node that left is closed: nobody waits that long
UNKNOWN: Final = ""
_NO_HOST: Final = (None, "", "?")  # a server whose address, or name, the node does not know


@dataclass(frozen=True)
class View:
    """What one node tells: the primary of each slot it knows of, and every address it named."""

    owners: Mapping[int, str]
    known: frozenset[str]
    sound: bool  # it thinks that the cluster works, so it is no minority that was left behind


class Cluster:
    """The topology of a cluster; see topology.Topology. Raises InvalidInput for a wrong query."""

    def __init__(self, address: Address) -> None:
        self._options = address.options
        self._seeds = frozenset(node_name(*each) for each in address.hosts)
        self._known = self._seeds
        self._owners = [UNKNOWN] * REDIS_CLUSTER_HASH_SLOTS
        self._clients: dict[str, Redis] = {}
        self._retired: list[tuple[float, Redis]] = []
        self._look: asyncio.Task[None] | None = None
        self._looked_at_s = float("-inf")
        self._trouble = "nobody was asked yet"
        self.client: Redis = Routed(self)
        for node in self._seeds:
            self.client_at(node)  # so that options which are none are told of at once

    @property
    def nodes(self) -> list[str]:
        """The primaries that have slots, host:port, sorted."""
        return sorted(set(self._owners) - {UNKNOWN})

    def node_of(self, key: str) -> str:
        """Say who has a key's slot; UNKNOWN until a node told of it for the first time."""
        return self._owners[key_slot(key.encode())]

    def client_of(self, key: str) -> Redis:
        """Give the client of a key's node. Raises ConnectionError while that is UNKNOWN."""
        return self.client_at(self.node_of(key))

    def client_at(self, node: str) -> Redis:
        """Give the client of a node; one that has no slot yet is in nobody's view, and has one too.

        Raises ConnectionError for UNKNOWN.
        """
        if node == UNKNOWN:
            raise StoreConnectionError(f"no node of the cluster tells who has a key: {self.why}")
        client = self._clients.get(node)
        if client is None:
            host, _, port = node.rpartition(":")
            options = {**self._options, "host": host, "port": int(port)}
            client = self._clients[node] = client_over(options)
        return client

    def connection_to(self, node: str) -> AbstractConnection:
        """Make a connection, not yet connected, to a node."""
        return made_by(self.client_at(node))

    @property
    def why(self) -> str:
        """Why the last look told nothing; "" when it did."""
        return self._trouble

    def named(self, error: AskError, node: str) -> str:
        """Give whom a MOVED or ASK of a node names; without a host it is on that node's."""
        known = error.host not in _NO_HOST
        return node_name(error.host if known else node.rpartition(":")[0], error.port)

    def learn(self, error: MovedError, node: str) -> str:
        """Note whom a node's MOVED names for a slot, and give it."""
        there = self._owners[error.slot_id] = self.named(error, node)
        return there

    async def refresh(self) -> None:
        """Look again who has what; see Topology.refresh."""
        if self._look is None:
            if time.monotonic() < self._looked_at_s + REFRESH_S:
                return
            self._look = asyncio.create_task(self._look_again())
        await asyncio.wait([self._look])  # who gives up waiting does not take it from the others

    def refresh_soon(self) -> None:
        """Have somebody look, without waiting for it."""
        if self._look is None and time.monotonic() >= self._looked_at_s + REFRESH_S:
            self._look = asyncio.create_task(self._look_again())

    async def aclose(self) -> None:
        """End a look that is under way, and close the clients."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])
        clients = [*self._clients.values(), *(client for _, client in self._retired)]
        self._clients, self._retired = {}, []
        for client in clients:
            await client.aclose()

    async def _look_again(self) -> None:
        try:
            view = await self._best_view()
            if view is not None:
                self._believe(view)
                await self._close_retired()
        finally:
            self._looked_at_s = time.monotonic()
            self._look = None

    async def _best_view(self) -> View | None:
        """Ask one node after the other for what it knows, until one thinks that all is well.

        In any order, so that no view is believed for ever only because its node is asked first.
        """
        second_best = None
        nodes = sorted(self._known)
        for node in random.sample(nodes, k=min(len(nodes), ASKED_MAX)):
            try:
                async with asyncio.timeout(LOOK_S_MAX):
                    view = await _ask(self.client_at(node), node)
            except (RedisError, OSError) as error:  # and the time-out
                self._trouble = str(error) or "it does not answer in time"
                continue
            if not view.owners:
                self._trouble = f"{node} knows of no node that has slots"
            elif view.sound:
                return view
            else:
                second_best = second_best or view
        return second_best

    def _believe(self, view: View) -> None:
        for slot, node in view.owners.items():
            self._owners[slot] = node
        self._trouble = ""
        # Who has a slot is asked too: a view that names few must not be the last one.
        self._known = (view.known | self._seeds | set(self._owners)) - {UNKNOWN}
        at_s = time.monotonic()
        for node in [node for node in self._clients if node not in self._known]:
            self._retired.append((at_s, self._clients.pop(node)))

    async def _close_retired(self) -> None:
        until_s = time.monotonic() - RETIRED_S
        old = [client for at_s, client in self._retired if at_s <= until_s]
        self._retired = [(at_s, client) for at_s, client in self._retired if at_s > until_s]
        for client in old:
            await client.aclose()


def node_name(host: str, port: int) -> str:
    """Spell a node as it is called here; the host of an IPv6 address is without brackets."""
    return f"{host}:{port}"


async def _ask(client: Redis, node: str) -> View:
    """Ask a node who has what. Raises RedisError or OSError, also when it is in no cluster."""
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("CLUSTER SLOTS")
    pipeline.execute_command("CLUSTER INFO")
    ranges, info = await pipeline.execute()
    text = info.decode() if isinstance(info, bytes) else str(info)
    return _view(ranges, node, "fail" not in text.partition("cluster_state:")[2].partition("\n")[0])


def _view(ranges: Iterable[Sequence[Any]], node: str, sound: bool) -> View:
    """Read CLUSTER SLOTS: each range is first and last slot, its primary and its replicas."""
    owners: dict[int, str] = {}
    known = {node}
    for first, last, *servers in ranges:
        names = [_named(each, node) for each in servers]
        known.update(names)
        owners.update(dict.fromkeys(range(int(first), int(last) + 1), names[0]))
    return View(owners, frozenset(known), sound)


def _named(server: Sequence[Any], node: str) -> str:
    """Read a server's endpoint, which its node prefers: an address, or an announced host name.

    Where it prefers a name that it does not know, it tells the address beside. Where it knows
    neither, the server is on the host that was asked.
    """
    host, port, *more = map(_text, server)
    if host in _NO_HOST:
        beside = list(map(_text, more[1])) if len(more) > 1 else []
        host = dict(zip(beside[::2], beside[1::2], strict=False)).get("ip")
    return node_name(host or node.rpartition(":")[0], port)


def _text(told: Any) -> Any:
    return told.decode() if isinstance(told, bytes) else told
