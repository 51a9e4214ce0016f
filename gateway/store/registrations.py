"""The users of a protocol that hold lines of an instance: a walk over the hosts of one type.

Decided here: how the walk is cut into steps and bounded in time; hosts that come or go meanwhile
may be missed. Not decided here: what a registration is (service/). Nothing is changed.
Source: DESIGN 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Final

import msgspec

from gateway.core.errors import Unavailable
from gateway.core.model import Holding
from gateway.store.keys import InstanceKeys
from gateway.store.topology import Client
from gateway.store.walks import steps

STEP_HOSTS: Final = 250  # asked for in one step, about 1 ms; a small hash comes whole

_decode: Final = msgspec.msgpack.Decoder(list[Holding]).decode

Holders = dict[str, list[Holding]]  # by host, in canonical form


async def holders(
    client: Client, keys: InstanceKeys, type_: str, lines: Collection[str], until_s: float
) -> AsyncIterator[Holders]:
    """Tell, step by step, the hosts of a type that hold some of `lines`; one may come twice.

    `type_` is in upper case, of letters. Raises Unavailable, also after `until_s` of the loop's
    clock: what was told until then is true.
    """
    loop = asyncio.get_running_loop()
    async for fields in steps(client, keys.holds, match=f"{type_}:*", count=STEP_HOSTS):
        if loop.time() >= until_s:
            raise Unavailable("The users take too long to walk over", "not_applied")
        found = {
            host.decode(): [hold for hold in _decode(packed) if hold.line in lines]
            for host, packed in fields.items()
        }
        yield {host: held for host, held in found.items() if held}
