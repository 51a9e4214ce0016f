"""Whether requests should come to this gateway now, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import RedisError

from gateway.core.errors import GatewayError
from gateway.store.opening import Store

SKEW_S_MAX: Final = 30.0
LOOK_S_MAX: Final = 1.5


async def reasons_not_ready(store: Store, now_s: Callable[[], float]) -> list[str]:
    """List why the store cannot serve: away, weaker than `ack`, or with another time than ours."""
    try:
        async with asyncio.timeout(LOOK_S_MAX):
            if not await store.reachable():
                return ["The store cannot be reached"]
            seconds, micros = await _time(store)
    except (RedisError, OSError, GatewayError):
        return ["The store cannot be reached"]
    reasons = [f"The store is weak: {reason}" for reason in store.strength.weak]
    skew_s = now_s() - (seconds + micros / 1e6)
    if abs(skew_s) > SKEW_S_MAX:
        reasons.append(f"The clock is {skew_s:.0f} s off the store's")
    return reasons


async def _time(store: Store) -> Any:
    return await store.client.time()
