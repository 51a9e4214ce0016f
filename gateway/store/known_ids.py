"""Idempotency ids, all of a store at once: told for a backup, taken away and put back by a restore.

Decided here: which ids belong to a snapshot. An outcome is kept in the step that counts it, with
the instance and the number of the request: what has a number up to the snapshot's is counted in it,
and nothing else is. So ids are read after all snapshots, and exactly those that belong are given.
What an earlier release kept has no number: it is told by its moment, where its partition has one
instance only, and else left out and counted as `unsure`. Every server is scanned whole, step by
step; one whose slots moved meanwhile is scanned again, for an id that comes twice does no harm.
Not decided here: how they are kept (lua/run.lua). Source: SEMANTICS 9, DESIGN 4.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import AskError

from gateway.core.backups import KnownId
from gateway.core.errors import Unavailable
from gateway.store.clusters import REFRESH_S
from gateway.store.durable import answered
from gateway.store.keys import (
    KNOWN_IDS,
    InstanceKeys,
    PartitionKeys,
    nothing,
    partition_of,
    read_known_id,
)
from gateway.store.topology import ONE_NODE, Client, Topology
from gateway.store.walks import keys_like

TRIES_MAX: Final = 5
TRY_PAUSE_S: Final = 0.5
PAGE_KEYS: Final = 500  # looked at in one step; some 2 ms of the store with their values


class _Kept(msgspec.Struct, array_like=True):
    """What run.lua keeps of an id; the last two are absent in what an earlier release kept."""

    fingerprint: str
    outcome: msgspec.Raw
    echo: str
    version: int
    seq: int = 0
    instance: str = ""


class _Why(msgspec.Struct, array_like=True):
    """The first member of what explain.lua packs."""

    instance: str


class _At(msgspec.Struct, array_like=True):
    """The first member of an outcome."""

    now_ms: int


_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_kept: Final = msgspec.msgpack.Decoder(_Kept).decode
_why: Final = msgspec.msgpack.Decoder(_Why).decode
_at: Final = msgspec.msgpack.Decoder(_At).decode


def is_known_id(known: KnownId) -> bool:
    """Say whether this can be kept, and will be found to be this instance's."""
    try:
        value: _Kept | _Why = _kept(known.value) if known.kind == "d" else _why(known.value)
    except msgspec.MsgspecError:
        return False
    # What an earlier release kept names no instance.
    alike = value.instance in (known.instance, "" if known.kind == "d" else known.instance)
    return alike and known.kind in "de" and bool(_NAME.fullmatch(known.name))


@dataclass(frozen=True)
class Moment:
    """How far an instance's snapshot is: its requests, and its last transaction."""

    seq: int
    last_ms: int


@dataclass
class KnownIds:
    """The ids of a store. `unsure` counts those of which could not be told whose they are."""

    topology: Topology
    partitions: int
    unsure: int = 0
    _alone: dict[int, str] = field(default_factory=dict)

    async def belonging(
        self, moments: Mapping[str, Moment], instances: Collection[str]
    ) -> AsyncIterator[list[KnownId]]:
        """Give the ids that belong to these snapshots, some at a time; one may come twice.

        `instances` are all of the store. Raises Unavailable.
        """
        self._settle(instances)
        async for found in self._all():
            some = []
            for key, value, left_ms, outcome, now_ms in found:
                owner = self._owner(key, value)
                moment = moments.get(owner)
                if moment is None or left_ms <= 0:
                    continue
                if not self._counted(key, value, outcome, moment):
                    continue
                _, kind, name = read_known_id(key)
                some.append(KnownId(owner, kind, name, now_ms + left_ms, value))
            yield some

    async def forget(self, gone: Collection[str], instances: Collection[str]) -> int:
        """Take away all ids of some instances; gives how many. Raises Unavailable."""
        self._settle(instances)
        count = 0
        async for found in self._all():
            names = [key for key, value, *_ in found if self._owner(key, value) in gone]
            pipeline = self.topology.client.pipeline(transaction=False)
            for name in names:
                pipeline.delete(name)
            count += sum(await answered(pipeline.execute())) if names else 0
        return count

    async def remember(self, ids: Sequence[KnownId]) -> int:
        """Put ids back that are not over by now; gives how many. Raises Unavailable."""
        nodes: dict[str, list[KnownId]] = {}
        for each in ids:
            key = PartitionKeys(partition_of(each.instance, self.partitions)).lease
            nodes.setdefault(self.topology.node_of(key), []).append(each)
        count = 0
        for some in nodes.values():
            now_ms = await self._now_ms(some[0])
            pipeline = self.topology.client.pipeline(transaction=False)
            for each in some:
                if each.until_ms > now_ms:
                    key = self._key(each)
                    pipeline.set(key, each.value, px=each.until_ms - now_ms)
                    count += 1
            await answered(pipeline.execute())
        return count

    async def _now_ms(self, known: KnownId) -> int:
        seconds, micros = await answered(self.topology.client_of(self._key(known)).time())
        return int(seconds) * 1000 + int(micros) // 1000

    def _key(self, known: KnownId) -> str:
        keys = InstanceKeys(known.instance, self.partitions)
        return keys.outcome(known.name) if known.kind == "d" else keys.explained(known.name)

    def _settle(self, instances: Collection[str]) -> None:
        of_partition: dict[int, list[str]] = {}
        for name in instances:
            of_partition.setdefault(partition_of(name, self.partitions), []).append(name)
        self.unsure = 0
        self._alone = {
            partition: names[0] for partition, names in of_partition.items() if len(names) == 1
        }

    def _owner(self, key: str, value: bytes) -> str:
        """Say whose an id is; "" where that cannot be told."""
        partition, kind, _ = read_known_id(key)
        if kind == "e":
            return _why(value).instance
        owner = _kept(value).instance or self._alone.get(partition, "")
        if not owner:
            self.unsure += 1
        return owner

    def _counted(self, key: str, value: bytes, outcome: bytes | None, moment: Moment) -> bool:
        """Say whether what an id is about is counted in a snapshot."""
        kept = outcome if read_known_id(key)[1] == "e" else value
        if kept is None:  # why, of an outcome that is over already: nothing is counted by it
            return _at(msgspec.msgpack.decode(value, type=list[msgspec.Raw])[-1]).now_ms < (
                moment.last_ms
            )
        told = _kept(kept)
        if told.instance:
            return told.seq <= moment.seq
        at_ms = _at(told.outcome).now_ms
        self.unsure += at_ms == moment.last_ms  # before or after it: nobody can tell
        return at_ms < moment.last_ms

    async def _all(self) -> AsyncIterator[list[tuple[str, bytes, int, bytes | None, int]]]:
        """Give all ids: key, value, what is left of its time, the outcome beside an `e`, now."""
        for tries_left in reversed(range(TRIES_MAX)):
            self.unsure = 0
            try:
                homes = await self._homes()
                for keys in homes.values():
                    server = self.topology.client_of(keys[0])
                    async for names in keys_like(server, KNOWN_IDS, count=PAGE_KEYS):
                        if names:
                            yield await _read(server, self.topology.client, names)
                if await self._homes() == homes:
                    return
            except Unavailable:
                if not tries_left:
                    raise
            await asyncio.sleep(TRY_PAUSE_S)
        raise Unavailable("Slots move faster than the cluster can be scanned", "not_applied")

    async def _homes(self) -> dict[str, list[str]]:
        """Give for each node a key of each partition that it has, all of its slot.

        Raises Unavailable while one is on its way: its keys come by in neither place, or in both.
        """
        if self.topology.nodes != [ONE_NODE]:
            await asyncio.sleep(REFRESH_S)  # or what was last heard would do
            await self.topology.refresh()
        homes: dict[str, list[str]] = {}
        for partition in range(self.partitions):
            key = nothing(partition)
            homes.setdefault(self.topology.node_of(key), []).append(key)
        for keys in homes.values():
            pipeline = self.topology.client_of(keys[0]).pipeline(transaction=False)
            for key in keys:
                pipeline.exists(key)
            try:
                await answered(pipeline.execute())
            except Unavailable as error:
                if isinstance(error.__cause__, AskError):  # and MOVED
                    raise Unavailable(
                        "A slot is on its way to another node; run this when it has arrived",
                        "not_applied",
                    ) from error
                raise
        return homes


async def _read(
    server: Redis, client: Client, names: Sequence[bytes]
) -> list[tuple[str, bytes, int, bytes | None, int]]:
    keys = [name.decode() for name in names]
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.get(key)
        pipeline.pttl(key)
        if ":e:" in key:
            pipeline.get(key.replace(":e:", ":d:"))
    seconds, micros = await answered(server.time())
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    replies: Any = iter(await answered(pipeline.execute()))
    found = []
    for key in keys:
        value, left_ms = next(replies), next(replies)
        outcome = next(replies) if ":e:" in key else None
        if value is not None:
            found.append((key, value, left_ms, outcome, now_ms))
    return found
