"""Who has which key: one server, a primary that sentinels name, or the nodes of a cluster.

Decided here: what the rest of the store may ask of it, and the answers where there is one server.
Ordinary commands go through `client`, wherever their key is. A script whose effect must be waited
for goes through `client_of` or `connection_to`: WAIT speaks only for the connection that wrote. Not
decided here: how a node is found (sentinels.py, clusters.py), nor what follows a refusal
(lanes.py, durable.py). Source: DESIGN 3 and 4, RELIABILITY 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

# What takes ordinary commands: of a cluster it is one that finds each command's node.
Client: TypeAlias = Redis

ONE_NODE: Final = ""  # the name of the primary where there is only one at a time


class Topology(Protocol):
    """Who has what, as last heard. Made unconnected; `refresh` at least once before use."""

    @property
    def client(self) -> Client:
        """What takes ordinary commands."""

    @property
    def nodes(self) -> list[str]:
        """Names of the primaries that have keys now, sorted; ONE_NODE alone where there is one."""

    def node_of(self, key: str) -> str:
        """Say who has this key's slot, as last heard; never raises, and may be out of date."""

    def client_of(self, key: str) -> Redis:
        """Give the plain client of that node: a script and its WAIT share one connection there."""

    def connection_to(self, node: str) -> AbstractConnection:
        """Make a connection, not yet connected, to a node; also to one that is gone meanwhile."""

    async def refresh(self) -> None:
        """Look again who has what; at most one look at a time and one every REFRESH_S.

        Returns at once when the last look is younger. Any number of tasks may call it. A look that
        reaches nobody leaves everything as it was, and raises nothing.
        """

    async def aclose(self) -> None:
        """Close all connections made here, but for those of `connection_to`."""


@dataclass(frozen=True)
class OneServer:
    """One primary at a time: a server, or the one that sentinels name when connections are made."""

    client: Client

    @property
    def nodes(self) -> list[str]:
        """The one primary."""
        return [ONE_NODE]

    def node_of(self, key: str) -> str:
        """Say that the one primary has every key."""
        return ONE_NODE

    def client_of(self, key: str) -> Redis:
        """Give the client: it has no other node to go to."""
        return self.client

    def connection_to(self, node: str) -> AbstractConnection:
        """Make a connection, not yet connected; where there are sentinels, connecting asks them."""
        return made_by(self.client)

    async def refresh(self) -> None:
        """Nothing to look at: who is the primary shows when a connection is made."""

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self.client.aclose()


def made_by(client: Redis) -> AbstractConnection:
    """Make a connection of the client's kind, not yet connected and not counted in its pool."""
    pool = client.connection_pool
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    return connection
