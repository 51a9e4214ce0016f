"""The store's server: reaching it, and refusing one that promises less than the configuration asks.

Decided here: socket time-outs and that the client library re-sends nothing by itself (our scripts
may be sent twice, but only within a deadline of ours); which servers are strong enough for an
`ack` level; the layout and number of partitions kept in `gw:meta`. Source: RELIABILITY 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ResponseError

from gateway.core.errors import GatewayError
from gateway.store.keys import LAYOUT_VERSION, META

CONNECT_TIMEOUT_S: Final = 0.5
CONNECTIONS_MAX: Final = 16  # beside the lane's; who finds none free waits for one
SOCKET_TIMEOUT_S: Final = 1.0
REDIS_FLOOR: Final = (7, 0)
VALKEY_FLOOR: Final = (7, 2)
WAITAOF_FLOOR: Final = (7, 2)


class StoreUnfit(GatewayError):
    """The store is reached, but is too old, laid out otherwise or weaker than asked for."""


class StoreAway(GatewayError):
    """The store cannot be reached; a retry may help."""


@dataclass(frozen=True)
class Strength:
    """What a server was found to be; `weak` lists why it is less than the `ack` level asks."""

    version: str
    fsync_each_call: bool  # each call waits until the disk has it (WAITAOF)
    weak: tuple[str, ...]


def open_client(url: str) -> Redis:
    """Make a client for redis://, rediss:// or unix://; nothing is connected yet. Replies are
    bytes.

    redis-py re-sends commands after time-outs when left alone; here it never does.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=SOCKET_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=False,
        protocol=2,
    )
    return Redis.from_pool(pool)


async def settle_layout(client: Redis, partitions: int) -> None:
    """Write layout and number of partitions on first use; refuse a store that has others."""
    await client.hsetnx(META, "layout", str(LAYOUT_VERSION))
    await client.hsetnx(META, "partitions", str(partitions))
    layout, found = (int(value or 0) for value in await client.hmget(META, "layout", "partitions"))
    if layout != LAYOUT_VERSION:
        raise StoreUnfit(
            f"The store is laid out in version {layout}, this gateway needs {LAYOUT_VERSION}"
        )
    if found != partitions:
        raise StoreUnfit(
            f"The store was installed with {found} partitions, the configuration says {partitions}:"
            f" set redis.partitions = {found}"
        )


async def examine(client: Redis, ack: str) -> Strength:
    """Look at version, eviction, append-only file and role against an `ack` level.

    Raises StoreUnfit for a server that is too old for anything, BusyLoadingError for one that still
    reads its data: it does not say yet how it is set up. What is merely weaker than the level is
    listed, for the caller to refuse or to allow.
    """
    info = await client.info("everything")
    valkey = info.get("valkey_version")
    version = _version(str(valkey or info.get("redis_version", "0")))
    name = f"{'Valkey' if valkey else 'Redis'} {'.'.join(map(str, version))}"
    if version < (VALKEY_FLOOR if valkey else REDIS_FLOOR):
        raise StoreUnfit(f"{name} is too old: Redis 7.0 or Valkey 7.2 is needed")
    if int(info.get("loading", 0)):
        # INFO answers while other commands do not, and says that there is no append-only file.
        raise BusyLoadingError("it is loading its data")
    weak = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        weak.append(f"maxmemory-policy is {policy}: counts could be evicted; set noeviction")
    if info.get("role", "master") != "master":
        weak.append("it is a replica: counts are written to a primary")
    aof = bool(int(info.get("aof_enabled", 0)))
    if ack != "memory" and not aof:
        weak.append(f'ack = "{ack}" needs appendonly yes')
    fsync_each_call = False
    if ack == "local":
        # Asked of every call where the server can tell: what it was set to at the start may change,
        # and a server that syncs always answers at once.
        fsync_each_call = version >= WAITAOF_FLOOR
        fsync = await _fsync_policy(client)
        if fsync_each_call and fsync == "no":
            weak.append('ack = "local" would wait in vain with appendfsync no; set always')
        if not fsync_each_call and fsync != "always":
            weak.append(f'{name} knows no WAITAOF: ack = "local" needs appendfsync always')
    return Strength(name, fsync_each_call, tuple(weak))


async def _fsync_policy(client: Redis) -> str:
    try:
        found: Mapping[Any, Any] = await client.config_get("appendfsync")
    except ResponseError:  # CONFIG may be forbidden
        return "unknown"
    return str(found.get("appendfsync", "unknown"))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
