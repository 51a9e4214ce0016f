"""What is done to a server of a store, and to the wire by which it is reached, for a while.

Decided here: the deeds, each of which ends with the server back and the wire healed. Not decided
here: which server, and what has to be whole besides (nemesis_stores.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from tests.faults.nemesis_deeds import Deed, Do, span_s
from tests.faults.store_troubles import full
from tests.faults.wire_deeds import Deed as WireDeed
from tests.stores.byte_proxy import ByteProxy
from tests.stores.servers import Server

DELAY_S = (0.2, 3.0)
WIRE_S = (0.2, 1.2)
SOON_S = (0.0, 0.3)  # until a primary is back before anybody has missed it


def wire_deeds(
    deeds: Sequence[WireDeed], thing: str, choose: Callable[[random.Random], ByteProxy]
) -> list[Deed]:
    """Give what is done to the bytes of a wire, each healed after a while."""

    def made(deed: WireDeed) -> Do:
        async def do(dice: random.Random) -> None:
            wire = choose(dice)
            deed(wire, dice.uniform(*DELAY_S))
            await asyncio.sleep(dice.uniform(*WIRE_S))
            wire.heal()

        return do

    names = [deed.__name__.replace("_", " ") for deed in deeds]
    return [
        Deed(1, f"{thing}: {name}", (thing,), made(deed))
        for name, deed in zip(names, deeds, strict=True)
    ]


async def away(server: Server, dice: random.Random) -> None:
    """Kill it, and start it again after a while, or at once."""
    server.kill()
    await asyncio.sleep(dice.choice([0.0, span_s(dice)]))
    await asyncio.to_thread(server.start)


async def restart(server: Server, dice: random.Random) -> None:
    """Kill it, and have it back before it is missed."""
    server.kill()
    await asyncio.sleep(dice.uniform(*SOON_S))
    await asyncio.to_thread(server.start)


async def asleep(server: Server, dice: random.Random) -> None:
    """Stop it where it is, for a while."""
    server.pause()
    await asyncio.sleep(span_s(dice))
    server.wake()


async def filled(server: Server, dice: random.Random) -> None:
    """Let it have no memory left, for a while."""
    async with full(server):
        await asyncio.sleep(span_s(dice))
