"""Whether one state of an instance goes before another, and what would be forgotten with it.

Decided here: how a history is told from another. It begins at one moment (`since_ms`), each request
is one step (`seq`), and a restore begins another branch: a new epoch, with how far the branches
before it went. So two states share what is before the furthest step that both have in one epoch,
and what either has beyond it the other one knows nothing of. Counts alone could not tell: another
branch may well have more of them. Not decided here: how states are read, and what follows.
Pure. Source: RELIABILITY 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.backups import PARKED_PREFIX

GONE: Final = "epoch_gone"  # of a ledger: 1 when a restore forgot units that went upstream
_GIVEN: Final = ("forwarded", "dead")
_WORDS: Final = {"forwarded": "forwarded to", "dead": "given up of those for"}


class State(msgspec.Struct, frozen=True):
    """What of an instance tells how far it is.

    `ledger` are all its fields, `version` and `blob` its catalogue, `batches` the ids that are
    under way or set aside, `decisions` those of people, by their ids in the record.
    """

    ledger: Mapping[str, int]
    version: int
    blob: bytes
    batches: frozenset[str]
    decisions: frozenset[str] = frozenset()

    @property
    def epoch(self) -> int:
        """Name the branch it is on; the first one is named after when it began."""
        return self.ledger.get("epoch", 0) or self.ledger.get("since_ms", 0)

    @property
    def seq(self) -> int:
        """Requests decided, on all branches that it went along."""
        return self.ledger.get("seq", 0)

    def reached(self, epoch: int) -> tuple[int, int]:
        """Say how far it went along a branch: requests, and the catalogue's version; 0: not."""
        if epoch == self.epoch:
            return self.seq, self.version
        ledger = self.ledger
        return ledger.get(f"epoch_seq|{epoch}", 0), ledger.get(f"epoch_cat|{epoch}", 0)

    @property
    def epochs(self) -> set[int]:
        """The branches that it went along."""
        before = {name.partition("|")[2] for name in self.ledger if name.startswith("epoch_seq|")}
        return {self.epoch, *map(int, before)}


class Loss(msgspec.Struct, frozen=True):
    """What would be forgotten of an instance: a sentence for each thing, and units by line."""

    sentences: tuple[str, ...]
    units: Mapping[str, int]


def forgotten(present: State, other: State) -> Loss | None:
    """Say what `present` has that `other` has not; None: nothing, so that it may be replaced."""
    common = max(
        min(present.reached(epoch)[0], other.reached(epoch)[0]) if epoch in other.epochs else 0
        for epoch in present.epochs
    )
    requests = present.seq - common
    told: list[str] = []
    units: dict[str, int] = {}
    if requests:
        told.append(f"{requests} requests decided")
        units = _more(present, other, "acked")
        told += [
            f"line {line}: {more} units acknowledged" if more > 0
            else f"line {line}: {-more} units given back"
            for line, more in units.items()
        ]  # fmt: skip
    for place in _GIVEN:
        for pair, more in _more(present, other, place).items():
            line, _, upstream = pair.partition("|")
            if more > 0:
                told.append(f"line {line}: {more} units {_WORDS[place]} {upstream}")
    if made := _made(present, other):
        told.append(f"{made} batches sealed, which may have been sent")
    if catalogue_is_ahead(present, other):
        told.append(f"its catalogue, version {present.version}")
    if decided := len(present.decisions - other.decisions):
        told.append(f"{decided} decisions of people (they stay on record)")
    return Loss(tuple(told), units) if told else None


def catalogue_is_ahead(present: State, other: State) -> bool:
    """Say whether `other` does not know the catalogue of `present`."""
    return present.version > other.reached(present.epoch)[1] and present.blob != other.blob


def may_have_gone(present: State, other: State) -> bool:
    """Say whether of what waits in `other` some went upstream by what `present` knows, or may have.

    It also does when a restore forgot so before: then what `present` has given is not the whole.
    """
    given = any(more > 0 for place in _GIVEN for more in _more(present, other, place).values())
    return given or _made(present, other) > 0 or present.ledger.get(GONE, 0) > 0


def next_epoch(ledger: Mapping[str, int], version: int, epoch: int) -> dict[str, int]:
    """Give the fields of a ledger by which what follows is a branch of its own."""
    before = State(ledger, version, b"", frozenset())
    return {
        "epoch": epoch,
        f"epoch_seq|{before.epoch}": before.seq,
        f"epoch_cat|{before.epoch}": version,
    }


def _made(present: State, other: State) -> int:
    """Count the batches that were sealed since, but for those that a restore made."""
    return sum(not _of_a_restore(each) for each in present.batches - other.batches)


def _of_a_restore(batch: str) -> bool:
    """Say whether a batch was made by a restore, of units that its backup has as open."""
    return batch.startswith(PARKED_PREFIX)


def _more(present: State, other: State, place: str) -> dict[str, int]:
    """Give by how much more units stand in a place of the ledger; what is equal is left out."""
    names = [
        name
        for name in sorted(present.ledger.keys() | other.ledger.keys())
        if name.startswith(f"{place}|")
    ]
    found = {
        name.partition("|")[2]: present.ledger.get(name, 0) - other.ledger.get(name, 0)
        for name in names
    }
    return {name: more for name, more in found.items() if more}
