"""The story of a backup: what is read in which order, so that all of it agrees.

Decided here: that each instance is read by itself, and that ids are read after the last of them,
which is what makes them agree with the counters (store/known_ids.py). Also what is told of a file.
Not decided here: how an instance is read in one step (store/snapshots.py), how frames are bytes
(protocols/backup_file.py), where they go (cli/). Gateways may run meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.core.backups import (
    PART_BYTES_MAX,
    PART_FIELDS_MAX,
    Begin,
    End,
    Entries,
    Frame,
    Header,
    Ids,
    Part,
    text_fields,
)
from gateway.core.errors import InvalidInput
from gateway.service.backup_content import Content, header_of, read_contents
from gateway.store.damages import describe, is_damage
from gateway.store.durable import answered
from gateway.store.keys import LAYOUT_VERSION
from gateway.store.known_ids import KnownIds, Moment
from gateway.store.opening import Store
from gateway.store.own import Own
from gateway.store.snapshots import Snapshot, read_record, read_snapshot
from gateway.store.walks import Fields


@dataclass
class Backup:
    """A backup in the making. `version` is this gateway's, `files` those that it made for itself
    (store/own.py), `tell` is called with how far it is.
    """

    store: Store
    version: str
    files: Mapping[str, Path] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None
    unsure: int = 0
    _moments: dict[str, Moment] = field(default_factory=dict)

    async def frames(self, chosen: Collection[str] = ()) -> AsyncIterator[Frame]:
        """Give the frames of a backup, of all instances or of those chosen.

        Raises InvalidInput for one that does not exist, Unavailable; then it is no backup.
        """
        names = await self.store.catalogues.instances()
        if unknown := sorted(set(chosen) - set(names)):
            raise InvalidInput(
                *(f"There is no instance {each[:64]!r}; verify lists them" for each in unknown)
            )
        wanted = sorted(chosen) or names
        yield await self._header(whole=not chosen)
        for number, name in enumerate(wanted, 1):
            self.tell(f"instance {number} of {len(wanted)}: {name}")
            async for frame in self._instance(name):
                yield frame
        known = KnownIds(self.store.topology, self.store.partitions)
        count = 0
        async for some in known.belonging(self._moments, names):
            count += len(some)
            self.tell(f"{count} idempotency ids")
            if some:
                yield Ids(some)
        self.unsure = known.unsure

    async def _header(self, *, whole: bool) -> Header:
        seconds, micros = await answered(self.store.client.time())
        meta = await Own(self.store, self.files).read() if whole else {}
        at_ms = int(seconds) * 1000 + int(micros) // 1000
        return Header(self.version, LAYOUT_VERSION, self.store.partitions, at_ms, whole, meta)

    async def _instance(self, name: str) -> AsyncIterator[Frame]:
        keys = self.store.catalogues.keys(name)
        try:
            snapshot = await read_snapshot(self.store.client, keys)
            ledger = text_fields(snapshot.hashes.get("ledger", {})) if snapshot else {}
        except Exception as error:
            if not is_damage(error):
                raise
            raise InvalidInput(
                f"Instance {name} is damaged: {describe(error)}. verify says where; back up the"
                " others by naming them"
            ) from error
        if snapshot is None:
            raise InvalidInput(f"Instance {name} is being restored; run that to its end first")
        self._moments[name] = Moment(ledger.get("seq", 0), ledger.get("last_ms", 0))
        yield Begin(name, snapshot.at_ms)
        for frame in _parts(snapshot):
            yield frame
        if snapshot.record:
            async for entries in read_record(self.store.client, keys, until=snapshot.record):
                yield Entries(entries)
        yield End(name)


def _parts(snapshot: Snapshot) -> Iterator[Frame]:
    """Cut a snapshot into frames; catalogue and ledger come first, whole."""
    first = {"cat", "ledger"} & snapshot.hashes.keys()
    for name in sorted(first):
        yield Part(name, list(snapshot.hashes[name].items()))
    rest = {name: fields for name, fields in snapshot.hashes.items() if name not in first}
    for name, fields in (rest | snapshot.scored).items():
        yield from (Part(name, some) for some in _portions(fields))


def _portions(fields: Fields) -> Iterator[list[tuple[bytes, bytes]]]:
    some: list[tuple[bytes, bytes]] = []
    size = 0
    for pair in fields.items():
        some.append(pair)
        size += len(pair[0]) + len(pair[1])
        if len(some) == PART_FIELDS_MAX or size > PART_BYTES_MAX:
            yield some
            some, size = [], 0
    if some:
        yield some


class Told(msgspec.Struct):
    """What a file has of one instance."""

    instance: str
    at_ms: int
    version: int = 0
    requests: int = 0
    lines: int = 0
    acked: int = 0
    waiting: int = 0
    hosts: int = 0
    ids: int = 0


def contents(frames: Iterator[Frame]) -> tuple[Header, Sequence[Told]]:
    """Tell what is in a file, instance by instance. Raises BadBackup."""
    header = header_of(frames)
    found: dict[str, Told] = {}
    for each in read_contents(frames):
        if isinstance(each, Ids):
            for known in each.ids:
                found[known.instance].ids += known.kind == "d"
        else:
            found[each.begin.instance] = _told(each)
    return header, list(found.values())


def _told(content: Content) -> Told:
    told = Told(content.begin.instance, content.begin.at_ms)
    told.version, told.hosts = content.state.version, content.hosts
    told.lines, told.requests = len(content.catalogue.lines), content.state.seq
    for name, units in content.state.ledger.items():
        place = name.partition("|")[0]
        told.acked += units if place == "acked" else 0
        told.waiting += units if place in ("open", "sealed", "parked") else 0
    return told
