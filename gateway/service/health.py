"""Whether requests should come to this gateway now, and why not.

Decided here: that it is not ready over a store weaker than `ack`, unless whoever started it allowed
that; that the store is looked at also while nobody asks; and that a change is told once. Answers go
on meanwhile: each waits for its level by itself. Source: RELIABILITY 2, INTERFACE 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from redis.exceptions import RedisError

from gateway.beside import beside
from gateway.core.errors import GatewayError
from gateway.store.opening import EXAMINE_S, Store

SKEW_S_MAX: Final = 30.0
LOOK_S_MAX: Final = 1.5
WATCH_S: Final = EXAMINE_S  # between looks of our own; more often the store is not examined

_log: Final = structlog.get_logger("gateway.store")


async def reasons_not_ready(store: Store, now_s: Callable[[], float]) -> list[str]:
    """List why the store cannot serve: away, weaker than `ack`, or with another time than ours.

    Of a cluster some nodes may be away: what is asked of the others is served.
    """
    try:
        async with asyncio.timeout(LOOK_S_MAX):
            clocks_s, at_s = await store.clocks_s(), now_s()
            if not clocks_s:
                return ["The store cannot be reached"]
            strength = await store.look_again()
    except (RedisError, OSError, GatewayError):
        return ["The store cannot be reached"]
    weak = strength.unfit if store.allow_weaker else strength.unready
    reasons = [f"The store is weak: {reason}" for reason in weak]
    skew_s = max((at_s - clock_s for clock_s in clocks_s.values()), key=abs)
    if abs(skew_s) > SKEW_S_MAX:
        reasons.append(f"The clock is {skew_s:.0f} s off the store's")
    return reasons


@asynccontextmanager
async def watched(store: Store) -> AsyncIterator[None]:
    """Examine a store every WATCH_S until the end, and log when its verdict changes.

    `store_weak` (warning) says what is too weak and what to do, also of one that began so;
    `store_fit` (info) says that it is mended.
    """
    async with beside(_watch(store)):
        yield


async def _watch(store: Store) -> None:
    weak = False
    while True:
        found = store.strength.weak
        if found and not weak:
            _log.warning("store_weak", ack=store.ack, why="; ".join(found))
        elif weak and not found:
            _log.info("store_fit", ack=store.ack, store=store.strength.version)
        weak = bool(found)
        await asyncio.sleep(WATCH_S)
        await store.look_again()
