"""What a server says of itself: INFO, and the settings that the levels of `redis.ack` rest on.

Not decided here: what it comes to (findings.py). Source: RELIABILITY 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError

from gateway.store.findings import Facts

# What INFO does not tell.
_SETTINGS: Final = ("appendfsync", "no-appendfsync-on-rewrite", "min-replicas-to-write")


async def read_facts(client: Redis) -> Facts:
    """Read INFO, and those settings that it does not tell, where CONFIG is allowed.

    Raises RedisError or OSError; BusyLoadingError also for a server that answers INFO meanwhile.
    """
    facts: dict[str, Any] = dict(await client.info())
    if int(facts.get("loading", 0)):
        # INFO answers while other commands do not, and says that there is no append-only file.
        raise BusyLoadingError("it is loading its data")
    try:
        settings: Mapping[Any, Any] = await client.config_get(*_SETTINGS)
    except RedisError:
        return facts
    return facts | dict(settings)


class Memory(NamedTuple):
    """Bytes in use, and how many may be; a bound of 0 is none."""

    used: int = 0
    most: int = 0


NOT_KNOWN: Final = Memory()


def fullest(servers: Iterable[Facts]) -> Memory:
    """Find the server that is nearest to its bound; where none has one, that which has most.

    Buffers for replicas and the append-only file do not count against it.
    """
    found = [
        Memory(
            max(0, int(each.get("used_memory", 0)) - int(each.get("mem_not_counted_for_evict", 0))),
            int(each.get("maxmemory", 0)),
        )
        for each in servers
    ]
    return max(found, key=lambda each: (each.used / (each.most or math.inf), each.used))
