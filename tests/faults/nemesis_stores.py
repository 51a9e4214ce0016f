"""The stores that a nemesis knows: one server, Sentinel, Cluster; and what is done to each.

Decided here: how each stands, where the wires are, and the deeds that are its own. What follows
its primary is always whole again at the end of a deed. Not decided here: what gateways over it
suffer besides (nemesis_plant.py), and when what is done (nemesis_deeds.py).
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from tests.faults import failovers
from tests.faults.growing_cluster import slot_of
from tests.faults.nemesis_deeds import Deed, Do, span_s
from tests.faults.nemesis_servers import SOON_S, asleep, away, filled, restart, wire_deeds
from tests.faults.scene import until
from tests.faults.store_troubles import BUSY_MS, TROUBLES
from tests.faults.wire_deeds import DEEDS, ORDERLY
from tests.stores.byte_proxy import ByteProxy
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove
from tests.stores.wired_clusters import WiredCluster
from tests.stores.wired_sentinels import WiredSentinels

PARTITIONS = 16
STORE, SCRIPTS, WIRE = "store", "scripts", "wire"  # the things of a store
KILL_CLIENTS = ("CLIENT", "KILL", "TYPE", "normal")
PORTION_KEYS_MAX = 10
FAILOVER_S_MAX = 60.0
CUT_S = (0.3, 1.5)

Trouble = Callable[[Server], AbstractAsyncContextManager[None]]


class Store(AbstractContextManager["Store"], ABC):
    """A store that runs while it is entered.

    `url` is how gateways find it, `own_url` how the test does, past what is done to wires.
    `replicated`: for a moment there may be two who think that they are the primary.
    """

    name: str
    ack: str
    replicas = 1
    replicated = True
    servers: Sequence[Server]

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    def own_url(self) -> str:
        return self.url

    @abstractmethod
    def server_of(self, key: str) -> Server:
        """Give the server that has a key now."""

    @abstractmethod
    def own_deeds(self, beside: Collection[str], instances: Sequence[str]) -> list[Deed]:
        """Give the deeds that this kind alone knows; clients named `beside` share a cut's side."""

    def wait_whole(self) -> None:
        """Wait until everybody has what the primary has, where there is more than one server."""

    def deeds(self, beside: Collection[str], instances: Sequence[str]) -> list[Deed]:
        """Give everything that is done to it; it is whole at the end of each deed."""
        return [
            Deed(1, "flush scripts", (SCRIPTS,), lambda _: self._tell("SCRIPT", "FLUSH")),
            # Not while another deed talks to a server: it would lose its own connection.
            Deed(1, "kill clients", (STORE,), lambda _: self._tell(*KILL_CLIENTS)),
            *(replace(each, do=self._whole(each.do)) for each in self.own_deeds(beside, instances)),
        ]

    def _whole(self, do: Do) -> Do:
        async def whole(dice: random.Random) -> None:
            await do(dice)
            await asyncio.to_thread(self.wait_whole)

        return whole

    async def _tell(self, *words: str) -> None:
        for server in self.servers:
            await asyncio.to_thread(server.try_ask, *words)


class OneServer(Store):
    """One server that syncs at each write, behind a proxy."""

    name, ack, replicated = "one server at local", "local", False

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.server = Server(directory, appendfsync="always", busy_reply_threshold=BUSY_MS)
        self.servers = [self.server]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self.proxy = stack.enter_context(ByteProxy(self.server.address))
            self._stack = stack.pop_all()
        return self

    @property
    def url(self) -> str:
        return self.proxy.url

    @property
    def own_url(self) -> str:
        return self.server.url

    def server_of(self, key: str) -> Server:
        return self.server

    def own_deeds(self, beside: Collection[str], instances: Sequence[str]) -> list[Deed]:
        return [
            to_server("kill store", lambda _: self.server, away, 4),
            to_server("pause store", lambda _: self.server, asleep, 2),
            *(Deed(1, f"store: {word}", (STORE,), self._during(it)) for word, it in TROUBLES),
            *wire_deeds(DEEDS, WIRE, lambda _: self.proxy),
        ]

    def _during(self, trouble: Trouble) -> Do:
        async def do(dice: random.Random) -> None:
            async with trouble(self.server):
                await asyncio.sleep(span_s(dice))

        return do


class SentinelStore(Store):
    """A primary, two replicas and three sentinels, each server behind a wire; all are asked."""

    name, ack, replicas = "Sentinel at replica, 2 of 2 asked", "replica", 2

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.sentinels = WiredSentinels(directory)
        self.servers = self.sentinels.servers

    def __enter__(self) -> Self:
        self._stack.enter_context(self.sentinels)
        return self

    @property
    def url(self) -> str:
        return self.sentinels.url

    def server_of(self, key: str) -> Server:
        return self.sentinels.primary()

    def own_deeds(self, beside: Collection[str], instances: Sequence[str]) -> list[Deed]:
        def primary(_: random.Random) -> Server:
            return self.sentinels.primary()

        def replica(dice: random.Random) -> Server:
            return dice.choice(self.sentinels.replicas())

        told = {"kill primary": failovers.kill, "pause primary": failovers.pause}
        told |= {"failover told": failovers.ask, "failover agreed": failovers.agree}
        fails = [
            Deed(2, name, (STORE,), lambda dice, do=do: do(self.sentinels, dice))
            for name, do in told.items()
        ]
        return [
            *fails,
            Deed(2, "cut primary off", (STORE,), lambda dice: self._cut(beside, dice)),
            to_server("restart primary", primary, restart),
            to_server("kill replica", replica, away),
            to_server("pause replica", replica, asleep),
            to_server("store full", primary, filled),
            *wire_deeds(ORDERLY, STORE, lambda dice: self.sentinels.wire(primary(dice))),
        ]

    def wait_whole(self) -> None:
        self.sentinels.wait_in_sync()

    async def _cut(self, beside: Collection[str], dice: random.Random) -> None:
        old = self.sentinels.primary()
        with self.sentinels.cut(old, beside):
            await asyncio.to_thread(self.sentinels.wait_other_primary, old)
            await asyncio.sleep(dice.uniform(*CUT_S))


class ClusterStore(Store):
    """Three primaries with a replica each, every node behind a wire; the replica is asked."""

    name, ack = "Cluster at replica", "replica"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.cluster = WiredCluster(directory, full_coverage=False)
        self.servers = self.cluster.servers

    def __enter__(self) -> Self:
        self._stack.enter_context(self.cluster)
        return self

    @property
    def url(self) -> str:
        return self.cluster.url

    def server_of(self, key: str) -> Server:
        return self.cluster.owner_of(key)

    def own_deeds(self, beside: Collection[str], instances: Sequence[str]) -> list[Deed]:
        def primary(dice: random.Random) -> Server:
            return dice.choice(self.cluster.primaries())

        def replica(dice: random.Random) -> Server:
            return dice.choice(self.cluster.replicas(primary(dice)))

        return [
            to_server("kill primary", primary, self._kill, 2),
            to_server("pause primary", primary, self._pause, 2),
            to_server("failover told", primary, self._fail_over, 2),
            to_server("restart primary", primary, restart),
            to_server("kill replica", replica, away),
            to_server("pause replica", replica, asleep),
            to_server("store full", primary, filled),
            Deed(3, "move slot", (STORE,), lambda dice: self._move(instances, dice)),
            *wire_deeds(ORDERLY, STORE, lambda dice: self.cluster.wire(primary(dice))),
        ]

    def wait_whole(self) -> None:
        self.cluster.wait_in_sync()

    async def _kill(self, primary: Server, dice: random.Random) -> None:
        primary.kill()
        await asyncio.to_thread(self.cluster.wait_promoted, primary)
        await asyncio.sleep(dice.uniform(*SOON_S))
        await asyncio.to_thread(primary.start)

    async def _pause(self, primary: Server, dice: random.Random) -> None:
        primary.pause()
        await asyncio.to_thread(self.cluster.wait_promoted, primary)
        await asyncio.sleep(dice.uniform(*SOON_S))
        primary.wake()

    async def _fail_over(self, primary: Server, _: random.Random) -> None:
        """Tell a replica to take its primary's place, which stops and waits for it."""
        (replica,) = self.cluster.replicas(primary)

        def told() -> bool:
            replica.try_ask("CLUSTER", "FAILOVER")  # given up by itself where it takes too long
            return replica.info("replication").get("role") == "master"

        await until(told, FAILOVER_S_MAX)

    async def _move(self, instances: Sequence[str], dice: random.Random) -> None:
        """Move the slot of an instance key by key, with a stop in the middle."""
        slot = slot_of(dice.choice(instances), PARTITIONS)
        owner = self.cluster.owner(slot)
        to = dice.choice([each for each in self.cluster.primaries() if each is not owner])
        move = SlotMove(self.cluster, slot, to)
        await asyncio.to_thread(move.begin)
        await asyncio.to_thread(move.portion, PORTION_KEYS_MAX)
        await asyncio.sleep(span_s(dice))
        while await asyncio.to_thread(move.portion):
            pass
        await asyncio.to_thread(move.finish)


# By the word that a test names it with.
STORES: Mapping[str, Callable[[Path], Store]] = {
    "one": OneServer,
    "sentinel": SentinelStore,
    "cluster": ClusterStore,
}


def to_server(
    name: str,
    choose: Callable[[random.Random], Server],
    do: Callable[[Server, random.Random], Awaitable[object]],
    weight: int = 1,
) -> Deed:
    """Give a deed on one server of the store."""
    return Deed(weight, name, (STORE,), lambda dice: do(choose(dice), dice))
