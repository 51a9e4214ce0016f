"""The primary that sentinels name: asked for whenever a connection is made.

Decided here: who is asked and in which words it is told that nobody knows; that whom they name has
to say itself that it is a primary, for they may be behind the times; and when a connection is not
to be used again: after READONLY, and where it lies idle when the primary changes. redis-py's
Sentinel asks; its connections are not taken, since they make a lost connection of READONLY, which
says for sure that nothing was done. Source: RELIABILITY 3, DESIGN 7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from gateway.store.addresses import Address, HostPort
from gateway.store.server import client_over, make_candid
from gateway.store.topology import OneServer

Locate = Callable[[], Awaitable[HostPort]]


class PrimaryConnection(Connection):
    """A connection to whoever is the primary when it is made; `locate` says who that is."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    async def _connect(self) -> None:
        self.host, self.port = await self._locate()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Begin as its kind does. Raises ConnectionError when it leads to a replica."""
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        role, *_ = await self.read_response()
        if role != b"master":
            where = f"{self.host}:{self.port}"
            raise StoreConnectionError(f"{where}, which the sentinels name, is no primary")

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. After READONLY the pool makes a new connection instead of this one."""
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError:
            self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


class PrimaryTlsConnection(PrimaryConnection, SSLConnection):
    """The same over TLS; the certificate is for the name by which sentinels call the primary."""


@dataclass
class _Finder:
    """Asks the sentinels. Connections that lie idle in `pool` go when it hears of another."""

    sentinel: Sentinel
    name: str
    hosts: str
    pool: ConnectionPool | None = None
    found: HostPort | None = None

    async def locate(self) -> HostPort:
        """Give host and port of the primary. Raises redis-py's ConnectionError."""
        told = await self._ask()
        if told != self.found:
            self.found = told
            if self.pool is not None:
                await self.pool.disconnect(inuse_connections=False)
        return told

    async def _ask(self) -> HostPort:
        """Ask one after the other; who knew is asked first the next time, who was asked last.

        Also when whoever asks gives up: else sentinels that are away would be asked for ever, and
        the others never. Sentinel.discover_master keeps to itself why nobody answered.
        """
        clients: list[Redis] = self.sentinel.sentinels
        why = "they know of none"
        for client in list(clients):
            clients.remove(client)
            clients.append(client)
            try:
                primaries: Any = await client.sentinel_masters()
            except (RedisError, OSError) as error:
                why = str(error) or "they do not answer in time"
                continue
            state = primaries.get(self.name)
            if state is None:
                continue
            if not self.sentinel.check_master_state(state, self.name):
                why = f"{state['ip']}:{state['port']} is down, as they see it"
                continue
            clients.remove(client)
            clients.insert(0, client)
            return state["ip"], state["port"]
        words = f"no sentinel of {self.hosts} names a sound primary {self.name!r}"
        raise StoreConnectionError(f"{words}: {why}")


@dataclass(frozen=True)
class Sentinels(OneServer):
    """One primary at a time, found through sentinels."""

    sentinel: Sentinel = field(kw_only=True)

    async def aclose(self) -> None:
        """Close the connections to the primary and to the sentinels."""
        await super().aclose()
        await self.sentinel.aclose()


def open_sentinels(address: Address) -> Sentinels:
    """Make the client of a primary by its sentinels; nothing is connected yet."""
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        list(address.hosts), sentinel_kwargs=dict(address.sentinel_options)
    )
    for asked in sentinel.sentinels:
        make_candid(asked.connection_pool)
    finder = _Finder(sentinel, address.name, ", ".join(f"{h}:{p}" for h, p in address.hosts))
    kind = PrimaryTlsConnection if address.tls else PrimaryConnection
    client = client_over({**address.options, "connection_class": kind, "locate": finder.locate})
    finder.pool = client.connection_pool
    return Sentinels(client, sentinel=sentinel)
