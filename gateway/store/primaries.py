"""The primaries that have keys of ours: which they are, and what time it is there.

Decided here: that gw:meta and the partitions say who matters. A node of a cluster without any of
them is none of our business. Source: DESIGN 4 and 6.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.store.keys import META, PartitionKeys
from gateway.store.topology import Topology

TOLD_S_MAX: Final = 0.5  # until a node has told its time; one that is paused takes connections


def key_by_node(topology: Topology, partitions: int) -> dict[str, str]:
    """Find the primaries that have keys of ours, as last heard, and one such key of each."""
    keys = [META, *(PartitionKeys(each).lease for each in range(partitions))]
    # The first of a node's keys is taken, so that the one server is asked about META.
    found = {topology.node_of(key): key for key in reversed(keys)}
    return dict(sorted(found.items()))


async def read_clocks_s(topology: Topology, partitions: int) -> dict[str, float]:
    """Ask them for their time, in s since 1970; who does not answer in time is left out."""
    clocks_s: dict[str, float] = {}

    async def ask(node: str, client: Redis) -> None:
        with suppress(RedisError, OSError):  # and the time-out
            async with asyncio.timeout(TOLD_S_MAX):
                seconds, micros = await client.time()
            clocks_s[node] = seconds + micros / 1e6

    with suppress(RedisError):  # nobody tells who has what
        keys = key_by_node(topology, partitions)
        clients = {node: topology.client_of(key) for node, key in keys.items()}
        await asyncio.gather(*(ask(*each) for each in clients.items()))
    return clocks_s
