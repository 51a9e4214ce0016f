"""Catalogues in the store: read into a bounded cache, written as the next version.

Decided here: what a gateway may believe of a catalogue and for how long. It keeps what it has read
and sends the version with every call; the script refuses a stale one and the gateway reads again.
So no change needs to be announced, and none is missed. Only a refusal of a credential, which the
script never sees, looks whether the version moved. What is kept is bounded by bytes, on two
shelves: catalogues ready for use, with what is made of them, and those less lately used packed, in
a tenth of the room and some 20 us away instead of a way to the store. Source: DESIGN 3 and 4.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from gateway.core.catalogue import CatalogueIndex
from gateway.core.decisions import Decision
from gateway.core.errors import GatewayError, Unavailable
from gateway.core.model import Catalogue, Line
from gateway.store.durability import NO_WAIT, Wait
from gateway.store.durable import Durable, answered
from gateway.store.elsewhere import forget_elsewhere
from gateway.store.keys import META, InstanceKeys
from gateway.store.partitions import names_by_partition
from gateway.store.scripts import Scripts
from gateway.store.shelves import Shelf
from gateway.store.topology import Client, Topology

READY_BYTES_MAX: Final = 40 * 2**20  # of catalogues ready for use, by `ready_bytes`
PACKED_BYTES_MAX: Final = 24 * 2**20
PACKED_BYTES: Final = 400  # of a packed one besides its text: names, places
ABSENT_MAX: Final = 10_000  # instances known not to exist; they never push out one that does
CUT_STEPS_MAX: Final = 1_000_000
FRESH_TRIES_MAX: Final = 5

_decode: Final = msgspec.msgpack.Decoder(Catalogue).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class CatalogueConflict(GatewayError):
    """Another version was written meanwhile; read again and try again."""


@dataclass
class Catalogues:
    """The catalogues of a store, as one gateway sees them. `monotonic_s` is its clock for
    rechecks.
    """

    topology: Topology
    scripts: Scripts
    partitions: int
    wait: Wait = NO_WAIT  # for a catalogue that was written
    _ready: Shelf[CatalogueIndex] = field(default_factory=lambda: Shelf(READY_BYTES_MAX))
    _packed: Shelf[bytes] = field(default_factory=lambda: Shelf(PACKED_BYTES_MAX))
    _absent: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _reading: dict[str, asyncio.Task[CatalogueIndex | None]] = field(default_factory=dict)
    _cutting: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _default: str | None = None

    @property
    def client(self) -> Client:
        """What takes ordinary commands."""
        return self.topology.client

    def keys(self, instance: str) -> InstanceKeys:
        """Give the keys of an instance."""
        return InstanceKeys(instance, self.partitions)

    async def get(self, instance: str) -> CatalogueIndex | None:
        """Give an instance's catalogue, from memory if it is there; None: no such instance."""
        index = self._ready.get(instance)
        if index is not None:
            return index
        packed = self._packed.pop(instance)
        if packed is not None:
            return self._keep(_decode(packed), len(packed))
        # Known or not, a second look costs the same: nothing tells the two apart from outside.
        return None if instance in self._absent else await self.read(instance)

    async def read(self, instance: str) -> CatalogueIndex | None:
        """Read a catalogue from the store, past the cache, and keep it. Raises Unavailable.

        Who asks while it is being read gets the same: a thousand requests that wait for one
        instance cost one read. A version that came later is told by the next refusal.
        """
        reading = self._reading.get(instance)
        if reading is None:
            reading = self._reading[instance] = asyncio.create_task(self._read(instance))
            reading.add_done_callback(lambda ended: self._has_read(instance, ended))
        return await asyncio.shield(reading)

    def _has_read(self, instance: str, ended: asyncio.Task[CatalogueIndex | None]) -> None:
        self._reading.pop(instance, None)
        if not ended.cancelled():
            ended.exception()  # all who waited may have gone: then it is nobody's

    async def _read(self, instance: str) -> CatalogueIndex | None:
        found = await _answered(
            self.client.hmget(self.keys(instance).cat, ["version", "blob", "cut"])
        )
        version, blob, cut = found
        if blob is None:
            self._forget(instance)
            self._absent[instance] = None
            if len(self._absent) > ABSENT_MAX:
                self._absent.popitem(last=False)
            return None
        self._absent.pop(instance, None)
        if cut is not None and instance not in self._cutting:
            walk = self._cutting[instance] = asyncio.create_task(self._resume_cut(instance))
            walk.add_done_callback(lambda _: self._cutting.pop(instance, None))
        catalogue = msgspec.structs.replace(_decode(blob), version=int(version))
        self._forget(instance)
        return self._keep(catalogue, len(blob))

    def _keep(self, catalogue: Catalogue, blob_bytes: int) -> CatalogueIndex:
        index = CatalogueIndex(catalogue)
        for name, pushed_out in self._ready.put(catalogue.id, index, ready_bytes(blob_bytes)):
            packed = _encode(pushed_out.catalogue)
            self._packed.put(name, packed, len(packed) + PACKED_BYTES)
        return index

    def _forget(self, instance: str) -> None:
        self._ready.pop(instance)
        self._packed.pop(instance)

    async def changed(self, instance: str, version: int) -> bool:
        """Say whether another version than this is in force; 0 stands for no such instance."""
        found = await _answered(self.client.hget(self.keys(instance).cat, "version"))
        return int(found or 0) != version

    async def fresh(self, instance: str) -> CatalogueIndex | None:
        """Give the catalogue in force now, for what no script checks the version of.

        Costs a look at the version each time, for an instance that does not exist as well. Raises
        Unavailable.
        """
        index = await self.get(instance)
        for _ in range(FRESH_TRIES_MAX):
            if not await self.changed(instance, index.catalogue.version if index else 0):
                return index
            # A read that was under way before the change may give the former one: look again.
            index = await self.read(instance)
        raise Unavailable("The catalogue changes too fast to follow", "not_applied")

    async def default(self) -> str | None:
        """Give the instance that `~` means; None: there is no default instance.

        What is remembered is trusted only while that instance's own catalogue says so.
        """
        if self._default is not None:
            index = await self.get(self._default)
            if index is not None and index.catalogue.default:
                return self._default
        found = await _answered(self.client.hget(META, "default"))
        self._default = found.decode() if found else None
        return self._default

    async def put(
        self, catalogue: Catalogue, discards: Mapping[str, Decision] | None = None
    ) -> Catalogue:
        """Write a catalogue as the version after `catalogue.version` and give it back with that.

        Holds on lines whose expiry came nearer are cut, and upstreams that are new begin with the
        present counts as their baseline. One that is detached has nothing waiting for it, or is in
        `discards`: what waits is then dead, and recorded so. Raises CatalogueConflict when
        `catalogue.version` is not the one in force; nothing is changed then. A repeat after a lost
        reply raises it too.
        """
        keys = self.keys(catalogue.id)
        before = await self.read(catalogue.id)
        old = before.catalogue if before else Catalogue(id=catalogue.id)
        if old.version != catalogue.version:  # what was attached and when it expired is not known
            raise _overtaken(catalogue.id, old.version)
        was = {upstream.name for upstream in old.upstreams}
        now = {upstream.name for upstream in catalogue.upstreams}
        of_upstream = (keys.open, keys.sealed, keys.blocked, keys.aside, keys.refused)
        outboxes = [key(name) for name in sorted(was - now) for key in of_upstream]
        durable = Durable(self.topology, self.wait)
        reply = await durable.write(
            self.scripts.catalogue,
            [keys.cat, keys.ledger, keys.instances, keys.record, *outboxes],
            [
                catalogue.id,
                catalogue.version,
                _encode(msgspec.structs.replace(catalogue, version=catalogue.version + 1)),
                _encode({line.id: line.expires_ms or 0 for line in _reusable(catalogue)}),
                _encode([line.id for line in catalogue.lines if line.model.metered]),
                _encode(sorted(now - was)),
                _encode(sorted(was - now)),
                _encode(_nearer(old, catalogue)),
                _encode({name: each.fields for name, each in (discards or {}).items()}),
            ],
        )
        if isinstance(reply, bytes):
            raise CatalogueConflict(
                f"Upstream {reply.decode()} of instance {catalogue.id} cannot be detached: usage"
                " waits for it"
            )
        if reply < 0:
            raise _overtaken(catalogue.id, -reply - 1)
        self._forget(catalogue.id)
        self._absent.pop(catalogue.id, None)
        try:
            for name in sorted(was - now):  # what it last said, and when it is asked
                await durable.run("DEL", keys.sync(name))
                sold = {line.id for line in old.lines if line.pulled == name}
                await forget_elsewhere(durable, self.client, keys, sold)
            if catalogue.default and not old.default:
                # Only who becomes the default one says so: another may have become it since.
                await durable.run("HSET", META, "default", catalogue.id)
            await self.finish_cut(catalogue.id)
        except Unavailable as error:  # of what comes after; the catalogue itself is in force
            raise Unavailable(error.message, "unknown", error.retry_after_s) from error
        return msgspec.structs.replace(catalogue, version=int(reply))

    async def finish_cut(self, instance: str) -> None:
        """Walk over all holds of an instance until the lines that expire earlier are cut.

        A walk that was broken off is made again by whoever reads the catalogue next.
        """
        keys = self.keys(instance)
        cursor, walk = b"0", b""
        for _ in range(CUT_STEPS_MAX):
            cursor, walk = await answered(
                self.scripts.cut.run(
                    self.client,
                    [keys.cat, keys.holds, keys.lapse, keys.due],
                    [instance, cursor, walk],
                )
            )
            if cursor == b"0":
                return

    async def _resume_cut(self, instance: str) -> None:
        with suppress(Unavailable):  # then whoever reads next walks on
            await self.finish_cut(instance)

    async def instances(self) -> list[str]:
        """List all instances of the store, sorted. Raises Unavailable."""
        told = await names_by_partition(
            self.topology, self.partitions, lambda ask, keys: ask.smembers(keys.instances)
        )
        return sorted(name for names in told.values() for name in names)


def ready_bytes(blob_bytes: int) -> int:
    """Estimate what a catalogue takes in memory, with its keys and what requests have made of it.

    Measured with every line asked for: 9 KB for three lines (a blob of 600 bytes), 140 KB for a
    hundred, 2.6 MB for two thousand; what answers are made of comes to some 2 KB more.
    """
    return 4_000 + 14 * blob_bytes


def _overtaken(instance: str, version: int) -> CatalogueConflict:
    return CatalogueConflict(
        f"Instance {instance} was changed by somebody else meanwhile (now version {version});"
        " try again"
    )


async def _answered(call: Awaitable[Any]) -> Any:
    """Await a read; that the store does not answer is an error of ours, and nothing was applied."""
    try:
        return await call
    except (RedisError, OSError) as error:
        raise Unavailable("The store does not answer", "not_applied") from error


def _nearer(old: Catalogue, new: Catalogue) -> list[str]:
    """Find the lines whose expiry came nearer, or is new."""
    before = {line.id: line.expires_ms for line in old.lines}
    return [
        line.id
        for line in _reusable(new)
        if line.id in before
        and line.expires_ms is not None
        and (before[line.id] is None or line.expires_ms < (before[line.id] or 0))
    ]


def _reusable(catalogue: Catalogue) -> Iterable[Line]:
    return (line for line in catalogue.lines if line.model.reusable)
