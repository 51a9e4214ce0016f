"""The upstream's own books: append-only NDJSON files in a directory that survive kill -9.

Decided here: the files, what a line of each says, and how they are read again. Not decided here:
what is accepted (upstream.py, carrier.py) and what must agree with our books (checker.py).
A line is handed to the kernel in one write before anything is answered: the process may be killed
at any moment, the machine lives on, so nothing is fsynced. Standard library only.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

Entry = TypeVar("Entry", "Accepted", "Seen", "Denied", "Handled")


@dataclass(frozen=True)
class Accepted:
    """What was counted as one, under one id: an access request, an event, or a spool file.

    `id` is what the upstream tells repeats by, `batch` the id of the batch it came in; `units` by
    feature (access requests) or by line (events). `again`: the id had been counted before, and an
    upstream that remembers nothing counted it once more.
    """

    id: str
    batch: str
    sha256: str
    units: Mapping[str, int]
    again: bool = False


@dataclass(frozen=True)
class Seen:
    """A content that arrived under an id, whether or not it was taken; each pair stands once."""

    id: str
    sha256: str


@dataclass(frozen=True)
class Denied:
    """A denial that is remembered with its id, and the answer that said so."""

    id: str
    sha256: str
    answer: str


@dataclass(frozen=True)
class Handled:
    """A request that was read to its end: the how-manieth of which plan, and what became of it.

    `applied`: it was counted now. `status` 0: nothing was answered.
    """

    plan: int
    number: int
    kind: str
    batch: str
    fault: str
    applied: bool
    status: int


FILES = {
    Accepted: "accepted.ndjson",
    Seen: "seen.ndjson",
    Denied: "denied.ndjson",
    Handled: "handled.ndjson",
}


def read_entries(directory: Path, form: type[Entry]) -> list[Entry]:
    """Read a file as far as it has whole lines; a file that is not there has none."""
    file = directory / FILES[form]
    return list(_entries(file.read_bytes(), form)) if file.exists() else []


def unique_totals(accepted: Iterable[Accepted]) -> Counter[str]:
    """Sum units by feature or line, each id once."""
    totals: Counter[str] = Counter()
    for entry in accepted:
        if not entry.again:
            totals.update(entry.units)
    return totals


class Ledger:
    """The books as they are written: what was there at the start is known, what comes is added.

    `totals` counts what was counted, so what was counted twice counts twice. One process at a time.
    """

    def __init__(self, directory: Path) -> None:
        self._files = {form: _open(directory / name) for form, name in FILES.items()}
        self.accepted = {entry.id: entry.sha256 for entry in read_entries(directory, Accepted)}
        self.denied = {entry.id: entry for entry in read_entries(directory, Denied)}
        self.totals: Counter[str] = Counter()
        for entry in read_entries(directory, Accepted):
            self.totals.update(entry.units)
        self._seen = set(read_entries(directory, Seen))
        self._numbers: dict[int, int] = {}
        for handled in read_entries(directory, Handled):
            self._numbers[handled.plan] = handled.number + 1

    def saw(self, arrived: Iterable[Seen]) -> None:
        """Note contents that arrived."""
        new = [entry for entry in dict.fromkeys(arrived) if entry not in self._seen]
        self._append(Seen, new)
        self._seen.update(new)

    def accept(self, entries: Iterable[Accepted]) -> None:
        """Count entries, all of them in one write or none."""
        counted = list(entries)
        self._append(Accepted, counted)
        for entry in counted:
            self.accepted.setdefault(entry.id, entry.sha256)
            self.totals.update(entry.units)

    def deny(self, entry: Denied) -> None:
        """Remember a denial under its id."""
        self._append(Denied, [entry])
        self.denied[entry.id] = entry

    def handle(self, entry: Handled) -> None:
        """Note what became of a request."""
        self._append(Handled, [entry])

    def next_number(self, plan: int) -> int:
        """Give the number of the next request under a plan, from 0, also after a restart."""
        number = self._numbers.get(plan, 0)
        self._numbers[plan] = number + 1
        return number

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def _append(self, form: type[Entry], entries: list[Entry]) -> None:
        text = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries).encode()
        if text:
            assert os.write(self._files[form], text) == len(text)


def _open(file: Path) -> int:
    """Open for appending; a line that a kill cut in half is taken off, nobody was told of it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.ftruncate(descriptor, file.read_bytes().rfind(b"\n") + 1)
    return descriptor


def _entries(text: bytes, form: type[Entry]) -> Iterator[Entry]:
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        values: dict[str, Any] = json.loads(line)
        yield form(**values)
