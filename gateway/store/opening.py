"""A store opened for use: who has what in it, the catalogues and the lane.

Decided here: the order of opening (reach, examine, settle the layout) and of closing (lane first,
so that what was sent is answered; the embedded server last), that the embedded server is looked for
while the store is open, so that whoever misses it has it back, and that the store is examined again
while it is in use. Not decided here: which store, which is configuration. Source: DESIGN 3,
RELIABILITY 2.
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

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError

from gateway.beside import beside
from gateway.store.addresses import Kind, parse_address
from gateway.store.catalogues import Catalogues
from gateway.store.clusters import Cluster
from gateway.store.durable import Durable
from gateway.store.embedded import Embedded
from gateway.store.lane import UNWATCHED, Watch
from gateway.store.lanes import Lane
from gateway.store.primaries import read_clocks_s
from gateway.store.scripts import Scripts
from gateway.store.sentinels import open_sentinels
from gateway.store.server import StoreAway, StoreUnfit, open_client, settle_layout
from gateway.store.strength import Strength, examine
from gateway.store.topology import Client, OneServer, Topology

EMBEDDED: Final = "embedded"
# What waiting does not mend: a password or a certificate that is not taken, a server that is no
# node of a cluster. In the words of the store: an error also quotes the host, which may be "auth".
_LASTING: Final = re.compile(
    "authentication required|username-password|password configured|certificate|no permissions"
    "|cluster support",
    re.IGNORECASE,
)
REACH_S: Final = 10.0  # how long opening waits for a store that is away or loading
GRACE_S: Final = 3.0  # and for one that is too weak, but may mend: replicas that come back
LOOK_S: Final = 1.0  # between looks whether the embedded server still answers
EXAMINE_S: Final = 5.0  # between examinations of a store in use
EXAMINED_S_MAX: Final = 0.9  # that one is waited for: over what a probe may take


@dataclass
class Store:
    """What a process has of the store; `strength` is what was found last.

    `allow_weaker`: who started this process takes less than `ack` asks for.
    """

    topology: Topology
    scripts: Scripts
    catalogues: Catalogues
    lane: Lane
    strength: Strength
    partitions: int
    ack: str
    ack_replicas: int
    embedded: Embedded | None
    allow_weaker: bool = False
    _examined_at_s: float = 0.0
    _examination: asyncio.Task[None] | None = None

    @property
    def client(self) -> Client:
        """What takes ordinary commands."""
        return self.topology.client

    @property
    def durable(self) -> Durable:
        """A way to write as safely as `ack` asks."""
        return Durable(self.topology, self.strength.wait)

    async def reachable(self) -> bool:
        """Say whether any of the store answers now; see `clocks_s`."""
        return bool(await self.clocks_s())

    async def clocks_s(self) -> dict[str, float]:
        """Ask the primaries that have keys of ours for their time; who is silent is left out.

        The embedded store is started again when it does not answer.
        """
        clocks_s = await read_clocks_s(self.topology, self.partitions)
        # One of another process is asked too: started anew, it may sync less than this one needs.
        if self.embedded is not None and not (clocks_s and self.embedded.owned):
            await self.embedded.ensure_async()
        return clocks_s

    async def look_again(self) -> Strength:
        """Examine the store again if that was EXAMINE_S ago; give what was found last.

        One examination is under way at a time, and is waited for up to EXAMINED_S_MAX; what was
        found before stands until it ends. Any number of tasks may call this.
        """
        if self._examination is None:
            if time.monotonic() < self._examined_at_s + EXAMINE_S:
                return self.strength
            self._examination = asyncio.create_task(self._examine())
        await asyncio.wait([self._examination], timeout=EXAMINED_S_MAX)
        return self.strength

    async def end_looking(self) -> None:
        """End an examination that is under way."""
        if self._examination is not None:
            self._examination.cancel()
            await asyncio.wait([self._examination])

    async def _examine(self) -> None:
        try:
            with suppress(RedisError, OSError):  # whoever asks finds out that it is away
                await self.topology.refresh()
                self.strength = await examine(
                    self.topology, self.ack, self.ack_replicas, self.partitions
                )
        finally:
            self._examined_at_s = time.monotonic()
            self._examination = None


@asynccontextmanager
async def open_topology(
    url: str, data_dir: Path, *, ack: str
) -> AsyncIterator[tuple[Topology, Embedded | None]]:
    """Find out who has what in a store, and close all connections at the end.

    Nothing is connected, but the embedded store is started. Raises InvalidInput or StartFailed.
    """
    async with AsyncExitStack() as stack:
        embedded = None
        if url == EMBEDDED:
            embedded = Embedded(data_dir, fsync_each_write=ack == "local")
            stack.callback(embedded.close)
            url = f"unix://{await embedded.ensure_async()}"
        topology = make_topology(url)
        stack.push_async_callback(topology.aclose)
        yield topology, embedded


def make_topology(url: str) -> Topology:
    """Make the topology of a URL that its setting has let pass; nothing is connected yet."""
    address = parse_address(url)
    match address.kind:
        case Kind.CLUSTER:
            return Cluster(address)
        case Kind.SENTINEL:
            return open_sentinels(address)
    return OneServer(open_client(url))


@asynccontextmanager
async def open_store(
    url: str,
    data_dir: Path,
    *,
    partitions: int,
    ack: str = "written",
    ack_replicas: int = 1,
    deadline_s: float = 2.0,
    queue_max: int = 4096,
    allow_weaker: bool = False,
    prelude: str | None = None,
    watch: Watch = UNWATCHED,
) -> AsyncIterator[Store]:
    """Open a store and close it in order at the end. `prelude` replaces the clock, for tests of
    time; `watch` is told what happens in the lane.

    Raises InvalidInput or StartFailed for an embedded store that cannot be, StoreAway when the
    server cannot be reached, StoreUnfit when it is too old, laid out otherwise, or weaker than
    `ack` (unless `allow_weaker`). Main thread only.
    """
    async with AsyncExitStack() as stack:
        topology, embedded = await stack.enter_async_context(open_topology(url, data_dir, ack=ack))
        strength = await _reach(topology, ack, ack_replicas, partitions, allow_weaker=allow_weaker)
        scripts = Scripts(prelude)
        lane = Lane(
            scripts.apply,
            topology,
            partitions,
            revive=embedded.ensure_async if embedded else None,
            wait=strength.wait,
            deadline_s=deadline_s,
            queue_max=queue_max,
            watch=watch,
        )
        stack.push_async_callback(lane.close)
        catalogues = Catalogues(topology, scripts, partitions, strength.wait)
        store = Store(
            topology=topology,
            scripts=scripts,
            catalogues=catalogues,
            lane=lane,
            strength=strength,
            partitions=partitions,
            ack=ack,
            ack_replicas=ack_replicas,
            embedded=embedded,
            allow_weaker=allow_weaker,
            _examined_at_s=time.monotonic(),
        )
        stack.push_async_callback(store.end_looking)
        if embedded is not None:
            # Ends before all else: what is about to be closed must not be started again.
            await stack.enter_async_context(_kept_up(store))
        yield store


@asynccontextmanager
async def _kept_up(store: Store) -> AsyncIterator[None]:
    """Have the embedded server back within about a second of its end, also where no request
    reaches the lane: what reads a catalogue first would miss it for ever.
    """

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(Exception):  # it is tried again at the next look
                await store.reachable()

    async with beside(look()):
        yield


async def _reach(
    topology: Topology, ack: str, ack_replicas: int, partitions: int, *, allow_weaker: bool
) -> Strength:
    """Examine the store and settle its layout, waiting while it is away or loads its data."""
    began_s = time.monotonic()
    while True:
        try:
            await topology.refresh()
            strength = await examine(topology, ack, ack_replicas, partitions)
            if strength.away:  # in parts
                raise StoreConnectionError(strength.away[0])
            waited_s = time.monotonic() - began_s
            if allow_weaker or not strength.passing or waited_s > GRACE_S:
                _refuse_weak(strength, allow_weaker=allow_weaker)
                await settle_layout(topology.client, partitions)
                return strength
        except (RedisError, OSError) as error:
            if time.monotonic() - began_s > REACH_S or _LASTING.search(str(error)):
                # The address may carry a password; the library's words do not.
                raise StoreAway(f"The store cannot be reached: {error}") from error
        await asyncio.sleep(0.05)


def _refuse_weak(strength: Strength, *, allow_weaker: bool) -> None:
    if strength.unfit:
        raise StoreUnfit(f"The store cannot be used: {'; '.join(strength.unfit)}")
    if strength.weak and not allow_weaker:
        raise StoreUnfit(
            f"The store ({strength.version}) is weaker than asked for: {'; '.join(strength.weak)}"
            " (or start with --allow-weaker-store)"
        )
