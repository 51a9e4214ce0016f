"""What makes a store refuse for a while: each lasts as long as its context.

Decided here: how each is brought about and ended. Not decided here: what a gateway says meanwhile.
Source: RELIABILITY 4, row 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import redis

from tests.faults.scene import until
from tests.stores.programs import HOST
from tests.stores.servers import Server

BUSY_MS = 50  # until a script is long
BUSY_S_MAX = 30.0
# Commands that a server that loads has to read, and how long each takes, at least: some ten seconds
# in all, the rest of which it is let off. It looks up every 1,024.
FILLING = 60_000
LOAD_DELAY_US = 100
ASKED_S_MAX = 30.0


@asynccontextmanager
async def full(store: Server) -> AsyncIterator[None]:
    store.ask("CONFIG", "SET", "maxmemory", 1, answer_s_max=ASKED_S_MAX)
    try:
        yield
    finally:
        await until(lambda: store.try_ask("CONFIG", "SET", "maxmemory", 0))


@asynccontextmanager
async def read_only(store: Server) -> AsyncIterator[None]:
    # Where nobody is: it keeps what it has.
    store.ask("REPLICAOF", HOST, 1, answer_s_max=ASKED_S_MAX)
    try:
        yield
    finally:
        await until(lambda: store.try_ask("REPLICAOF", "NO", "ONE"))


@asynccontextmanager
async def busy(store: Server) -> AsyncIterator[None]:
    with store.client(BUSY_S_MAX) as client:
        endless = asyncio.create_task(asyncio.to_thread(client.eval, "while true do end", 0))
        try:
            yield
        finally:
            await until(lambda: store.try_ask("SCRIPT", "KILL"))
        with pytest.raises(redis.ResponseError, match="killed"):
            await endless


@asynccontextmanager
async def loading(store: Server) -> AsyncIterator[None]:
    with store.client(BUSY_S_MAX) as client, client.pipeline(transaction=False) as filling:
        for _ in range(FILLING):
            filling.set("filling", 1)
        filling.execute()
    store.configure([f"key-load-delay {LOAD_DELAY_US}"])
    store.kill()
    store.begin()
    try:
        yield
    finally:
        await until(lambda: store.try_ask("CONFIG", "SET", "key-load-delay", 0))
        await asyncio.to_thread(store.wait_ready)
        store.configure(["key-load-delay 0"])


# What the refusal says, and what brings it about.
TROUBLES: list[tuple[str, Callable[[Server], AbstractAsyncContextManager[None]]]] = [
    ("maxmemory", full),
    ("read only replica", read_only),
    ("BUSY", busy),
    ("loading", loading),
]
