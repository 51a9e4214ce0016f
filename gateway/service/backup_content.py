"""What a backup says of each instance, taken apart before anything is changed for it.

Decided here: the order of its frames, the names in it, and that what a restore takes apart on its
way can be: catalogue, ledger, what waits to go upstream, decisions, keys. A checksum is no
signature: whoever can write a file can write one that adds up. What is wrong is BadBackup, in one
sentence. Not decided here: what a hold or a day on record says; `verify --deep` tells that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.core.backups import (
    SCORED,
    Begin,
    End,
    Entries,
    Frame,
    Header,
    Ids,
    Part,
    is_part,
    text_fields,
)
from gateway.core.errors import InvalidInput
from gateway.core.histories import State
from gateway.core.keys import load_private
from gateway.core.model import UNITS_MAX, Catalogue, is_instance_id
from gateway.protocols.backup_file import BadBackup
from gateway.service.restored_outbox import park
from gateway.store.damages import is_damage
from gateway.store.keys import LAYOUT_VERSION
from gateway.store.known_ids import is_known_id
from gateway.store.own import NAMES, SIGNING_KEY
from gateway.store.restoring import batches_in, decisions_in
from gateway.store.walks import Fields

ENTRIES_MAX: Final = 1_000_000  # of one record of decisions in a file
WAITING: Final = ("open", "sealed", "blocked", "refused", "aside")
HELD: Final = ("cat", "ledger", *WAITING)  # taken apart, so they have to fit in memory

_ENTRY_ID: Final = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})")
_MOMENT: Final = re.compile(rb"[0-9]{1,15}")
decode_catalogue: Final = msgspec.msgpack.Decoder(Catalogue).decode


@dataclass
class Content:
    """What a file has of one instance; `hosts` is how many were seen."""

    begin: Begin
    catalogue: Catalogue
    state: State
    hosts: int


def header_of(frames: Iterator[Frame]) -> Header:
    """Take the header off the frames of a file. Raises BadBackup."""
    header = next(frames)
    if not isinstance(header, Header) or not header.meta.keys() <= NAMES:
        raise BadBackup("The backup begins as no gateway writes one")
    if header.layout != LAYOUT_VERSION:
        raise BadBackup(
            f"The backup is of a store laid out in version {header.layout}, by gateway"
            f" {header.gateway[:32]!r}; this one needs {LAYOUT_VERSION}: take the release that made"
            " it"
        )
    if not is_instance_id(header.meta.get("default", "none")):
        raise BadBackup("The backup names a default instance as no gateway does")
    if SIGNING_KEY in header.meta:
        try:
            load_private(header.meta[SIGNING_KEY].encode())
        except InvalidInput:
            raise BadBackup("The signing key in the backup is none") from None
    return header


def read_contents(frames: Iterator[Frame]) -> Iterator[Content | Ids]:
    """Give what follows the header: each instance, then the ids. Raises BadBackup."""
    done = set[str]()
    reading: _Reading | None = None
    for frame in frames:
        match frame:
            case Begin() if reading is None:
                if not is_instance_id(frame.instance) or frame.instance in done:
                    raise BadBackup("The backup names an instance as no gateway does")
                reading = _Reading(frame)
            case Part() if reading is not None:
                reading.part(frame)
            case Entries() if reading is not None:
                reading.entries(frame)
            case End() if reading is not None and frame.instance == reading.begin.instance:
                yield reading.end()
                done.add(frame.instance)
                reading = None
            case Ids() if reading is None:
                if not all(each.instance in done and is_known_id(each) for each in frame.ids):
                    raise BadBackup("The backup has idempotency ids that belong to nothing in it")
                yield frame
            case _:
                raise BadBackup("The parts of the backup are in an order in which none is written")
    if reading is not None:
        raise BadBackup("The backup has an instance that does not end")


@dataclass
class _Reading:
    begin: Begin
    _held: dict[str, Fields] = field(default_factory=dict)
    _hosts: int = 0
    _decisions: set[str] = field(default_factory=set)
    _last: tuple[int, int] = (0, 0)

    def part(self, part: Part) -> None:
        if not is_part(part.name):
            raise BadBackup("The backup has a part that no instance has")
        if part.name.partition(":")[0] in HELD:
            self._held.setdefault(part.name, {}).update(part.pairs)
        elif SCORED.fullmatch(part.name):
            if not all(_MOMENT.fullmatch(score) for _, score in part.pairs):
                raise self._damaged(part.name)
            self._hosts += len(part.pairs) if part.name == "seen" else 0

    def entries(self, frame: Entries) -> None:
        for stream_id, texts in frame.entries:
            named = _ENTRY_ID.fullmatch(stream_id)
            order = (int(named[1]), int(named[2])) if named else (0, 0)
            if order <= self._last or not texts or len(texts) % 2:
                raise self._damaged("record of decisions")
            self._last = order
        self._decisions |= decisions_in(frame.entries)
        if len(self._decisions) > ENTRIES_MAX:
            raise BadBackup("The backup has more decisions than can be held")

    def end(self) -> Content:
        cat = self._held.get("cat", {})
        if not {b"version", b"blob"} <= cat.keys():
            raise BadBackup(f"The backup has {self.begin.instance} without a catalogue")
        try:
            catalogue = decode_catalogue(cat[b"blob"])
            ledger = text_fields(self._held.get("ledger", {}))
            if any(abs(value) > UNITS_MAX for value in ledger.values()):
                raise ValueError
            self._park(catalogue, dict(ledger))
            state = State(
                ledger, int(cat[b"version"]), cat[b"blob"], self._batches(),
                frozenset(self._decisions),
            )  # fmt: skip
            state.epochs  # noqa: B018  are in the names of the ledger
        except Exception as error:
            if not is_damage(error):
                raise
            raise self._damaged("catalogue, ledger or outbox") from None
        if catalogue.id != self.begin.instance:
            raise self._damaged("catalogue")
        return Content(self.begin, catalogue, state, self._hosts)

    def _park(self, catalogue: Catalogue, ledger: dict[str, int]) -> None:
        """Set aside what waits, as a restore does, to see that it can be."""
        attached = {each.name for each in catalogue.upstreams}
        for name in attached:
            outbox = {part: self._held.get(f"{part}:{name}", {}) for part in WAITING}
            park(outbox, ledger, name, "", self.begin.at_ms, 1)
        for part in self._held:
            kind, _, name = part.partition(":")
            if kind in WAITING and name not in attached:
                raise self._damaged(kind)

    def _batches(self) -> frozenset[str]:
        found: set[str] = set()
        for name, fields in self._held.items():
            kind = name.partition(":")[0]
            if kind == "sealed":
                found |= batches_in(fields, [])
            elif kind == "aside":
                found |= batches_in({}, list(fields))
        return frozenset(found)

    def _damaged(self, what: str) -> BadBackup:
        return BadBackup(
            f"In the backup, {what} of instance {self.begin.instance} is not what a gateway writes"
        )
