"""How much of a line was ever acknowledged, net of what was undone.

Decided here: how that is read of many lines, a page at a time. Not decided here: what it has to
agree with (service/balance.py). Source: DESIGN 4, RELIABILITY 1 (I3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys

PAGE_LINES: Final = 2_000  # asked for at a time; holds the store for about a millisecond


async def read_acked(client: Redis, keys: InstanceKeys, lines: Sequence[str]) -> dict[str, int]:
    """Read the units ever acknowledged of each of these lines. Raises Unavailable."""
    found: dict[str, int] = {}
    for start in range(0, len(lines), PAGE_LINES):
        page = lines[start : start + PAGE_LINES]
        fields = [f"acked|{line}" for line in page]
        units: Any = await answered(client.hmget(keys.ledger, fields))
        found |= {line: int(each or 0) for line, each in zip(page, units, strict=True)}
    return found
