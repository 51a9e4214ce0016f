"""Why a request came to what it came to, as the script kept it beside the idempotency id.

Decided here: under which name it is found, for an id of the client's and for one of ours. Not
decided here: what is kept (lua/explain.lua) and how it is told (protocols/cmapi_explain.py).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.core.calls import Why
from gateway.core.fingerprint import dedupe_id
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.topology import Client

_decode: Final = msgspec.msgpack.Decoder(Why).decode


async def read_why(client: Client, keys: InstanceKeys, request_id: str) -> Why | None:
    """Read why the request of this id came to what it came to; None: nothing is kept of it.

    `request_id` is an idempotency id, or the gateway's own id of a request that had none. Raises
    Unavailable.
    """
    names = (dedupe_id(keys.instance, request_id), request_id)
    kept: Any = await answered(client.mget([keys.explained(name) for name in names]))
    for text in kept:
        if text is not None:
            why = _decode(text)
            # Our own ids are not scoped: one of another instance of this partition is not told.
            if why.instance == keys.instance:
                return why
    return None
