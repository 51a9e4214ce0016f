"""What the instances of all partitions are, or some of them: asked of every node at once.

Decided here: that a node which is away keeps nobody from being told of the others. There is no
SCAN: the partitions are known, and so are their keys. Source: DESIGN 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio.client import Pipeline

from gateway.core.errors import Unavailable
from gateway.core.ports import PartlyUnavailable, Places
from gateway.store.durable import answered
from gateway.store.keys import PartitionKeys
from gateway.store.topology import Topology

Ask = Callable[[Pipeline, PartitionKeys], object]


async def names_by_partition(topology: Topology, partitions: int, ask: Ask) -> Places:
    """Give the names that `ask` has each partition tell, sorted; partitions without are left out.

    Raises PartlyUnavailable when some nodes do not answer, Unavailable when none does.
    """
    by_node: dict[str, list[int]] = {}
    for partition in range(partitions):
        node = topology.node_of(PartitionKeys(partition).instances)
        by_node.setdefault(node, []).append(partition)
    told = await asyncio.gather(
        *(_tell(topology, some, ask) for some in by_node.values()), return_exceptions=True
    )
    found: Places = {}
    away: list[Unavailable] = []
    for each in told:
        if isinstance(each, Unavailable):
            away.append(each)
        elif isinstance(each, BaseException):
            raise each
        else:
            found |= each
    if len(away) == len(told):
        raise away[0]
    if away:
        raise PartlyUnavailable(found) from away[0]
    return dict(sorted(found.items()))


async def _tell(topology: Topology, partitions: list[int], ask: Ask) -> Places:
    pipeline = topology.client.pipeline(transaction=False)
    for partition in partitions:
        ask(pipeline, PartitionKeys(partition))
    replies: list[Any] = await answered(pipeline.execute())
    return {
        partition: sorted(name.decode() for name in names)
        for partition, names in zip(partitions, replies, strict=True)
        if names
    }
