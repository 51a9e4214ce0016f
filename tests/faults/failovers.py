"""How another server comes to be the primary: what is done to the one that sentinels name.

Decided here: four ways, each until the old one follows the new one, and when an answer was not safe
that rests on the primary alone. Not decided here: what is lost then, and that all servers are in
sync again (the caller waits for that).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.faults.scene import until
from tests.faults.trial import Window, now_ms
from tests.stores.sentinels import Sentinels
from tests.stores.servers import Server

LONGER_S = (0.0, 0.5)  # that the old primary is away when another one has its place
FOLLOWS_S_MAX = 60.0

# Gives the windows in which an answer is not safe that rests on the primary alone.
Fault = Callable[[Sentinels, random.Random], Awaitable[list[Window]]]


async def kill(sentinels: Sentinels, dice: random.Random) -> list[Window]:
    """End the primary with SIGKILL; it is started again when another one has its place."""
    old, died_ms = sentinels.primary(), now_ms()
    old.kill()
    await asyncio.to_thread(sentinels.wait_other_primary, old)
    await asyncio.sleep(dice.uniform(*LONGER_S))
    back_ms = now_ms()
    await asyncio.to_thread(old.start)
    return [(died_ms, died_ms), (back_ms, await follows(old))]


async def pause(sentinels: Sentinels, dice: random.Random) -> list[Window]:
    """Stop the primary, and wake it as one that does not know that it is none any more."""
    old, paused_ms = sentinels.primary(), now_ms()
    old.pause()
    await asyncio.to_thread(sentinels.wait_other_primary, old)
    await asyncio.sleep(dice.uniform(*LONGER_S))
    back_ms = now_ms()
    old.wake()
    return [(paused_ms, paused_ms), (back_ms, await follows(old))]


async def ask(sentinels: Sentinels, dice: random.Random) -> list[Window]:
    """Have the sentinels make another one the primary, with nothing amiss."""
    old, asked_ms = sentinels.primary(), now_ms()
    await asyncio.to_thread(sentinels.failover)
    return [(asked_ms, await follows(old))]


async def agree(sentinels: Sentinels, dice: random.Random) -> list[Window]:
    """Have the sentinels do so once the primary has stopped and the other one lacks nothing."""
    old = sentinels.primary()
    await asyncio.to_thread(sentinels.failover, coordinated=True)
    await follows(old)
    return []


async def follows(old: Server) -> int:
    """Wait until one that was the primary has become a replica; give the moment."""
    await until(lambda: old.info("replication").get("role") == "slave", FOLLOWS_S_MAX)
    return now_ms()
