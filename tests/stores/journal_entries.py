"""The journal of a client, in NDJSON: what it asked for and what it was told.

Decided here: the form of a line, how it is written so that a kill leaves what was known, and what
all lines of one id mean together. Not decided here: what must be true of them (journal_laws.py).

Each attempt is written down as `sent` before it is sent, and again under its id when it ends: a
client that is killed in between has asked for it all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

PREFIX = "journal-"
SUFFIX = ".ndjson"


class Outcome(StrEnum):
    """How an attempt ended, or SENT: that one is about to be made.

    ANSWERED: with an answer that says what is granted, a denial too. NOT_APPLIED: with one that
    says that nothing was done. UNKNOWN: not at all, or with one that leaves it open. REFUSED: with
    an error that the request itself is to blame for.
    """

    SENT = "sent"
    ANSWERED = "answered"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Bad(StrEnum):
    """What is wrong with a request that is sent to be refused."""

    INPUT = "input"
    SIGNATURE = "signature"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The beginning or the end of an attempt of a request.

    `asked` and `granted` are units by line, or by feature where the run says so, of metered lines;
    below 0 of an undo. `status` 0: there was none. `answer`: the body, or a digest of it, by which
    answers are told apart. `at_ms`: when the answer came, on the clock of the run's windows.
    `replica`: who answered, if it is known.
    """

    id: str
    instance: str
    asked: dict[str, int]
    outcome: Outcome
    granted: dict[str, int] = {}
    host: str = ""
    status: int = 0
    answer: str = ""
    at_ms: int = 0
    replica: str = ""
    bad: Bad | None = None


class JournalFile(AbstractContextManager["JournalFile"]):
    """The journal of one client in a run's directory; of one name there is one writer at a time."""

    def __init__(self, directory: Path, name: str) -> None:
        path = directory / f"{PREFIX}{name}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def note(self, entry: Entry) -> None:
        """Add a line; once it returns, a kill of this process does not take it back."""
        text = msgspec.json.encode(entry) + b"\n"
        assert os.write(self._file, text) == len(text)


def read_journals(directory: Path) -> list[Entry]:
    """Read every journal of a run; a line that a kill cut in half was about nothing that was sent.

    Raises msgspec.DecodeError for a line that is none.
    """
    decode = msgspec.json.Decoder(Entry, strict=True).decode
    found = []
    for path in sorted(directory.glob(f"{PREFIX}*{SUFFIX}")):
        *lines, _ = path.read_bytes().split(b"\n")
        found += [decode(line) for line in lines]
    return found


@dataclass(frozen=True)
class Request:
    """All that is known of one id."""

    instance: str
    id: str
    entries: list[Entry]

    @property
    def asked(self) -> dict[str, int]:
        return self.entries[0].asked

    @property
    def bad(self) -> bool:
        """Whether it was sent to be refused."""
        return any(entry.bad for entry in self.entries)

    @property
    def answers(self) -> list[Entry]:
        """The attempts that ended with an answer; the others tell nothing new then."""
        return self._with(Outcome.ANSWERED)

    @property
    def unseen(self) -> bool:
        """Whether it may have been counted, and nobody was told."""
        begun = len(self._with(Outcome.SENT))
        ended = len(self.entries) - begun
        return not self.answers and (begun > ended or bool(self._with(Outcome.UNKNOWN)))

    def _with(self, outcome: Outcome) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome is outcome]


def gather(entries: Iterable[Entry]) -> list[Request]:
    """Give the requests that entries are about, in the order in which they are first met."""
    gathered: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        gathered.setdefault((entry.instance, entry.id), []).append(entry)
    return [Request(instance, id_, found) for (instance, id_), found in gathered.items()]
