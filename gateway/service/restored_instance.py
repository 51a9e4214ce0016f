"""An instance on its way from a file into the store: part by part, then swapped.

Decided here: what is not brought as it was. The catalogue's version moves beyond the store's and
the file's, the last transaction is never before the store's, the ledger begins another branch, what
waited to go upstream is set aside, and the record of decisions keeps what the store has on it.
Holds, uses and days go by page by page; only the outbox and the ledger are held in memory.
Not decided here: how it is staged and swapped (store/restoring.py). Source: SEMANTICS 9, DESIGN 5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from gateway.core.backups import Begin, Part, text_fields
from gateway.core.histories import GONE, next_epoch
from gateway.core.moments import iso
from gateway.service.backup_content import HELD, WAITING, decode_catalogue
from gateway.service.restored_outbox import park
from gateway.store.keys import InstanceKeys
from gateway.store.restoring import VERSION_STRIDE, Present, Restoring
from gateway.store.snapshots import Entry, Shape, read_record
from gateway.store.walks import Fields


@dataclass
class Incoming:
    """One instance of a file that was looked at (backup_content.py). `at_ms` is when the backup was
    begun; `gone`: of what waited in it some went upstream since, or may have.
    """

    store: Restoring
    begin: Begin
    present: Present
    epoch: int
    at_ms: int
    send: bool = False
    gone: bool = False
    parked: int = 0  # batches that were set aside
    _held: dict[str, Fields] = field(default_factory=dict)
    _begun: bool = False
    _theirs: AsyncIterator[Entry] | None = None
    _their_next: Entry | None = None

    async def part(self, part: Part) -> None:
        """Take a part: staged at once, or held until the end."""
        if part.name.partition(":")[0] in HELD:
            self._held.setdefault(part.name, {}).update(part.pairs)
        else:
            await self._begin()
            await self.store.stage(self.begin.instance, part.name, dict(part.pairs))

    async def entries(self, entries: Sequence[Entry]) -> None:
        """Take some of the record, and what the store has on its own before it."""
        await self._begin()
        merged: list[Entry] = []
        for entry in entries:
            while (theirs := await self._their_entry()) and _order(theirs) <= _order(entry):
                self._their_next = None
                if theirs[0] != entry[0]:
                    merged.append(theirs)
            merged.append(entry)
        await self.store.stage_record(self.begin.instance, merged)

    async def end(self, decision: Sequence[str]) -> None:
        """Stage what was held, and swap."""
        await self._begin()
        instance = self.begin.instance
        while theirs := await self._their_entry():
            self._their_next = None
            await self.store.stage_record(instance, [theirs])
        cat = self._held.pop("cat")
        ledger = text_fields(self._held.pop("ledger"))
        version = int(cat[b"version"])
        ledger |= next_epoch(ledger, version, self.epoch)
        if self.gone:
            ledger[GONE] = 1
        here = self.present.state
        if here is not None:
            ledger["last_ms"] = max(ledger.get("last_ms", 0), here.ledger.get("last_ms", 0))
            version = max(version, here.version)
        # Twice: by one stride the store's own version has moved when it was closed.
        cat[b"version"] = b"%d" % (version + 2 * VERSION_STRIDE)
        for name in [each.name for each in decode_catalogue(cat[b"blob"]).upstreams]:
            outbox = {part: self._held.pop(f"{part}:{name}", {}) for part in WAITING}
            if not self.send:
                why = f"the backup of {iso(self.at_ms)} was restored; it may have gone since"
                moved = park(outbox, ledger, name, why, self.at_ms, self.epoch)
                self.parked += len(moved["aside"].keys() - outbox["aside"].keys()) // 3
                outbox = moved
            for part, fields in outbox.items():
                await self._stage(f"{part}:{name}", fields)
        await self._stage("ledger", {name.encode(): b"%d" % n for name, n in ledger.items()})
        await self._stage("cat", cat)
        await self.store.swap(instance, self.present, decision)

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self.store.clear(self.begin.instance, self.present.shape or Shape((), ()))

    async def _stage(self, name: str, fields: Fields) -> None:
        pairs = list(fields.items())
        for start in range(0, len(pairs), 1_000):
            await self.store.stage(self.begin.instance, name, dict(pairs[start : start + 1_000]))

    async def _their_entry(self) -> Entry | None:
        if self.present.shape is None:
            return None
        if self._theirs is None:
            keys = InstanceKeys(self.begin.instance, self.store.partitions)
            self._theirs = _each(read_record(self.store.client, keys))
        if self._their_next is None:
            self._their_next = await anext(self._theirs, None)
        return self._their_next


async def _each(pages: AsyncIterator[list[Entry]]) -> AsyncIterator[Entry]:
    async for page in pages:
        for entry in page:
            yield entry


def _order(entry: Entry) -> tuple[int, int]:
    ms, _, number = entry[0].partition("-")
    return int(ms), int(number)
