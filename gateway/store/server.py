"""A server of the store: how it is reached, and how the store in it is laid out.

Decided here: time-outs, how many connections there are, and that the client library sends nothing
again by itself (our scripts may be sent twice, but only within a deadline of ours); the layout and
number of partitions kept in `gw:meta`. Not decided here: which server it is (addresses.py) and
whether it is strong enough (strength.py). Source: RELIABILITY 3, DESIGN 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.core.errors import GatewayError, InvalidInput
from gateway.store.keys import LAYOUT_VERSION, META

CONNECT_TIMEOUT_S: Final = 0.5
SOCKET_TIMEOUT_S: Final = 1.0
CONNECTIONS_MAX: Final = 16  # to a node, beside the lanes'; who finds none free waits for one

_POOL: Final = {"max_connections": CONNECTIONS_MAX, "timeout": SOCKET_TIMEOUT_S}


class StoreUnfit(GatewayError):
    """The store is reached, but is too old, laid out otherwise or weaker than asked for."""


class StoreAway(GatewayError):
    """The store cannot be reached; a retry may help."""


def open_client(url: str) -> Redis:
    """Make a client for redis://, rediss:// or unix://; nothing is connected yet. Replies are
    bytes.

    redis-py re-sends commands after time-outs when left alone; here it never does. Raises
    InvalidInput for a query that it does not know.
    """
    try:
        pool = BlockingConnectionPool.from_url(url, **_POOL, **connection_options())
    except ValueError:
        raise InvalidInput("redis.url has a value in its query that cannot be read") from None
    return _owner_of(pool)


def client_over(options: Mapping[str, Any]) -> Redis:
    """Make a client of connections with such options, beside which go the pool's. Raises
    InvalidInput.
    """
    return _owner_of(BlockingConnectionPool(**(_POOL | dict(options))))


def connection_options(
    socket_timeout_s: float = SOCKET_TIMEOUT_S, connect_timeout_s: float = CONNECT_TIMEOUT_S
) -> dict[str, Any]:
    """Give what all connections have in common: time-outs, no retries, bytes."""
    return {
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "decode_responses": False,
        "protocol": 2,
    }


async def settle_layout(client: Redis, partitions: int) -> None:
    """Write layout and number of partitions on first use; refuse a store that has others."""
    await client.hsetnx(META, "layout", str(LAYOUT_VERSION))
    await client.hsetnx(META, "partitions", str(partitions))
    layout, found = await read_layout(client)
    if layout != LAYOUT_VERSION:
        raise StoreUnfit(
            f"The store is laid out in version {layout}, this gateway needs {LAYOUT_VERSION}"
        )
    if found != partitions:
        raise StoreUnfit(
            f"The store was installed with {found} partitions, the configuration says {partitions}:"
            f" set redis.partitions = {found}"
        )


async def read_layout(client: Redis) -> tuple[int, int]:
    """Read the layout's version and the number of partitions; 0 and 0 of a store not yet used."""
    layout, partitions = await client.hmget(META, "layout", "partitions")
    return int(layout or 0), int(partitions or 0)


class _Candid(AbstractConnection):
    """A connection that was reset while it lay idle says so in the library's words.

    uvloop has its own for it, a RuntimeError that nobody who reckons with a lost one catches.
    """

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        if self._writer is not None and self._writer.transport.is_closing():
            await self.disconnect(nowait=True)
            raise StoreConnectionError("The connection was lost while it lay idle")
        await super().send_packed_command(*args, **options)


def make_candid(pool: ConnectionPool) -> None:
    """Have the connections of a pool, none of which is made yet, tell when they were lost."""
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_Candid, kind), {})


def _owner_of(pool: BlockingConnectionPool) -> Redis:
    make_candid(pool)
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:  # redis-py takes any parameter and passes it on
        named = re.search(r"argument '(\w+)'", str(error))
        told = f"a parameter {named[1]}" if named else "a parameter"
        raise InvalidInput(f"redis.url has {told} in its query that is not known") from None
    return Redis.from_pool(pool)
