"""A client's journal: what its answers say it was granted and holds. The first of three records.

Decided here: what an answer means to the one who asked, read from the answer and the rules alone,
so that it agrees with the ledger only if both are right. Each line of the demonstration has a
feature name of its own. Not decided here: the comparison (report.py). Source: SEMANTICS 4, 6, 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.cli.demonstration.mix import Ask
from gateway.core.model import Line

ODDITIES_MAX: Final = 8  # told of one client; the first ones explain the others


class Entry(msgspec.Struct, frozen=True):
    """A feature of an answer."""

    name: str
    count: int


class Status(msgspec.Struct, frozen=True):
    """A feature that was not fully served."""

    code: str
    name: str


class Answer(msgspec.Struct, frozen=True):
    """What a client reads of an access response."""

    features: tuple[Entry, ...]
    statusList: tuple[Status, ...]

    @property
    def denied(self) -> bool:
        return bool(self.statusList)


read_answer: Final = msgspec.json.Decoder(Answer).decode


@dataclass(slots=True)
class Units:
    """Units of one line: asked = granted + denied, and what is left is granted − returned.

    Of a reusable line only what a request adds to, or takes from, what the host held.
    """

    asked: int = 0
    granted: int = 0
    denied: int = 0
    returned: int = 0

    @property
    def left(self) -> int:
        return self.granted - self.returned

    def move(self, wanted: int, got: int) -> None:
        """Note a change that was asked for (below 0: give back) and the one that came."""
        self.asked += max(wanted, 0)
        self.granted += max(got, 0)
        self.denied += max(wanted, 0) - max(got, 0)
        self.returned += max(-got, 0)

    def add(self, other: Units) -> None:
        """Add another client's units to these."""
        self.asked += other.asked
        self.granted += other.granted
        self.denied += other.denied
        self.returned += other.returned


@dataclass(slots=True)
class Record:
    """What one client was told. `oddities` are answers that contradict what it was told before."""

    lines: Mapping[str, Line]  # by feature name
    units: dict[str, Units] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    oddities: list[str] = field(default_factory=list)

    def moved(self, name: str, wanted: int, got: int) -> None:
        """Note units of a feature."""
        self.units.setdefault(name, Units()).move(wanted, got)

    def odd(self, words: str) -> None:
        """Note an answer that cannot be."""
        if len(self.oddities) < ODDITIES_MAX:
            self.oddities.append(words)


@dataclass(slots=True)
class Journal(Record):
    """The journal of one host of CMAPI."""

    def record(self, ask: Ask, answer: Answer) -> None:
        """Enter the answer to a request; each request once, in the order of asking."""
        wanted: dict[str, int] = {}
        for name, _, count in ask.features:
            if name in self.lines:
                wanted[name] = wanted.get(name, 0) + count
        counts = {entry.name: entry.count for entry in answer.features}
        refused = answer.denied and not ask.partial  # then nothing at all has changed
        for name, line in self.lines.items():
            if line.model.reusable:
                self._reusable(name, ask, wanted.get(name), counts.get(name), refused=refused)
            elif name in wanted:
                self._consumed(name, wanted[name], 0 if refused else counts.get(name, 0))

    def _consumed(self, name: str, wanted: int, got: int) -> None:
        # Zero lies between the two: more than asked for, or the other sign, cannot be.
        if not min(wanted, 0) <= got <= max(wanted, 0):
            self.odd(f"{name}: asked {wanted}, answered {got}")
        self.moved(name, wanted, got)

    def _reusable(
        self, name: str, ask: Ask, wanted: int | None, told: int | None, *, refused: bool
    ) -> None:
        before = self.held.get(name, 0)
        target = _target(before, ask, wanted)
        listed = wanted is not None or not ask.features
        if refused:
            after, certain = before, wanted is not None
        elif ask.incremental and listed and not wanted:  # a read-back
            after, certain = before, True
        elif wanted is None:
            after, certain = target, False
        else:
            after, certain = told or 0, False
        if certain and (told or 0) != before:
            self.odd(f"{name}: held {before}, answered {told or 0} to a request that changed none")
            after = told or 0
        if not min(before, target) <= after <= max(before, target):
            self.odd(f"{name}: held {before}, asked for {target}, answered {after}")
        self.held[name] = after
        self.moved(name, target - before, after - before)


def total(journals: Iterable[Record]) -> dict[str, Units]:
    """Sum journals by feature name."""
    sums: dict[str, Units] = {}
    for journal in journals:
        for name, units in journal.units.items():
            sums.setdefault(name, Units()).add(units)
    return sums


def _target(before: int, ask: Ask, wanted: int | None) -> int:
    """Say what the host would hold if it were served in full."""
    if ask.incremental:
        return max(before + (wanted or 0), 0)
    return wanted or 0
