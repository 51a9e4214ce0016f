"""A store opened for use: the client, the catalogues and the lane over one server.

Decided here: the order of opening (reach, examine, settle the layout) and of closing (lane first,
so that what was sent is answered; the embedded server last), and that the embedded server is looked
for while the store is open, so that whoever misses it has it back. Not decided here: which store,
which is configuration. Source: DESIGN 3, RELIABILITY 2.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.store.catalogues import Catalogues
from gateway.store.embedded import Embedded
from gateway.store.lanes import Lane
from gateway.store.scripts import Scripts
from gateway.store.server import (
    StoreAway,
    StoreUnfit,
    Strength,
    examine,
    open_client,
    settle_layout,
)

EMBEDDED: Final = "embedded"
# What waiting does not mend: a password or a certificate that is not taken.
_LASTING: Final = re.compile("auth|certificate|password", re.IGNORECASE)
REACH_S: Final = 10.0  # how long opening waits for a store that is away or loading
LOOK_S: Final = 1.0  # between looks whether the embedded server still answers


@dataclass
class Store:
    """What a process has of the store; `strength.weak` is empty unless that was allowed."""

    client: Redis
    scripts: Scripts
    catalogues: Catalogues
    lane: Lane
    strength: Strength
    partitions: int
    ack: str
    embedded: Embedded | None

    async def reachable(self) -> bool:
        """Say whether the store answers now; the embedded one is started again when it does not."""
        try:
            await self.client.ping()
        except (RedisError, OSError):
            answers = False
        else:
            answers = True
        # One of another process is asked too: started anew, it may sync less than this one needs.
        if self.embedded is not None and not (answers and self.embedded.owned):
            await self.embedded.ensure_async()
        return answers


@asynccontextmanager
async def open_store(
    url: str,
    data_dir: Path,
    *,
    partitions: int,
    ack: str = "written",
    deadline_s: float = 2.0,
    queue_max: int = 4096,
    allow_weaker: bool = False,
    prelude: str | None = None,
) -> AsyncIterator[Store]:
    """Open a store and close it in order at the end. `prelude` replaces the clock, for tests of
    time.

    Raises InvalidInput or StartFailed for an embedded store that cannot be, StoreAway when the
    server cannot be reached, StoreUnfit when it is too old, laid out otherwise, or weaker than
    `ack` (unless `allow_weaker`). Main thread only.
    """
    async with AsyncExitStack() as stack:
        embedded = None
        if url == EMBEDDED:
            embedded = Embedded(data_dir, fsync_each_write=ack == "local")
            stack.callback(embedded.close)
            url = f"unix://{await embedded.ensure_async()}"
        client = open_client(url)
        stack.push_async_callback(client.aclose)
        strength = await _reach(client, ack, partitions, allow_weaker=allow_weaker)
        scripts = Scripts(prelude)
        lane = Lane(
            scripts.apply,
            client.connection_pool.make_connection,
            partitions,
            revive=embedded.ensure_async if embedded else None,
            fsync=strength.fsync_each_call,
            deadline_s=deadline_s,
            queue_max=queue_max,
        )
        stack.push_async_callback(lane.close)
        catalogues = Catalogues(client, scripts, partitions, strength.fsync_each_call)
        store = Store(client, scripts, catalogues, lane, strength, partitions, ack, embedded)
        if embedded is not None:
            # Ends before all else: what is about to be closed must not be started again.
            await stack.enter_async_context(_kept_up(store))
        yield store


@asynccontextmanager
async def _kept_up(store: Store) -> AsyncIterator[None]:
    """Have the embedded server back within about a second of its end, also where no request
    reaches the lane: what reads a catalogue first would miss it for ever.
    """

    ended = False

    async def look() -> None:
        while not ended:
            await asyncio.sleep(LOOK_S)
            with suppress(Exception):  # it is tried again at the next look
                await store.reachable()

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        # Said as well: before Python 3.12 asyncio.wait_for, in the client library, may swallow it.
        ended = True
        looking.cancel()
        await asyncio.wait([looking])


async def _reach(client: Redis, ack: str, partitions: int, *, allow_weaker: bool) -> Strength:
    """Examine the server and settle its layout, waiting while it is away or loads its data."""
    deadline_s = time.monotonic() + REACH_S
    while True:
        try:
            strength = await examine(client, ack)
            if strength.weak and not allow_weaker:
                raise StoreUnfit(
                    f"The store ({strength.version}) is weaker than asked for: "
                    f"{'; '.join(strength.weak)} (or start with --allow-weaker-store)"
                )
            await settle_layout(client, partitions)
        except (RedisError, OSError) as error:
            if time.monotonic() > deadline_s or _LASTING.search(str(error)):
                # The address may carry a password; the library's words do not.
                raise StoreAway(f"The store cannot be reached: {error}") from error
            await asyncio.sleep(0.05)
        else:
            return strength
