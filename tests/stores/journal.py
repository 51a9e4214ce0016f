"""The judge of a run that has ended, by its records alone: `python -m tests.stores.journal DIR`.

Decided here: where the records of a run are, and the verdict: a line of figures, a sentence for
each violation, exit 1 if there is one. Not decided here: what must agree (tests/faults/checker.py
and journal_laws.py). Source: RELIABILITY 1.

    DIR/run.json              what was done, and what the lines can take (Run)
    DIR/books.json            what `verify --format json --deep` printed when all was over
    DIR/journal-NAME.ndjson   what a client asked for and was told (journal_entries.Entry)
    DIR/upstreams/NAME/       the ledger of an upstream by batch id (tests/faults/ledger.py)
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tests.faults.checker import (
    Evidence,
    Finding,
    Kind,
    Pair,
    Told,
    by_pair,
    findings,
    over_capacity,
)
from tests.faults.ledger import Accepted, Seen, read_entries
from tests.stores.journal_entries import Request, gather, read_journals
from tests.stores.journal_laws import (
    Window,
    no_needless_refusal,
    no_wrong_status,
    one_answer,
    told_to_clients,
)

RUN_FILE = "run.json"
BOOKS_FILE = "books.json"
UPSTREAMS_DIR = "upstreams"
GROWTH_BYTES_MAX = 64 * 2**20
SHOWN_MAX = 20
By = Literal["line", "feature"]


class Upstream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of an upstream besides its ledger; `aside` as in Evidence."""

    by: By = "feature"
    aside: dict[str, str] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done in a run, and what its records mean.

    `by`: what journals and `capacity` (by instance, units of the current period) name. `drained`:
    everything was forwarded before the books were read. `windows_ms`: spans in which an answer
    promised less than that nothing is lost; what is lost of them is counted, and no violation.
    `memory_bytes`: of a process, before and after.
    """

    name: str
    seed: int = 0
    faults: int = 0
    drained: bool = False
    by: By = "line"
    capacity: dict[str, dict[str, int]] = {}
    windows_ms: list[Window] = []
    memory_bytes: dict[str, tuple[int, int]] = {}
    upstreams: dict[str, Upstream] = {}


@dataclass(frozen=True)
class Verdict:
    """What a run showed. `acknowledged` counts ids that were answered, denials too."""

    run: Run
    acknowledged: int
    unseen: int
    findings: Sequence[Finding]

    @property
    def violations(self) -> list[str]:
        return [each.text for each in self.findings if not each.allowed]

    def units(self, kind: Kind) -> int:
        """Count the units that are lost, doubled or over capacity, whether or not it is allowed."""
        return sum(each.units for each in self.findings if each.kind is kind)

    @property
    def figures(self) -> str:
        """Tell the run in one line."""
        amiss = ", ".join(f"{kind} {self.units(kind):,}" for kind in Kind)
        return (
            f"{self.run.name}: acknowledged {self.acknowledged:,}, faults {self.run.faults:,},"
            f" {amiss} (seed {self.run.seed}, {self.unseen:,} never answered)"
        )


def write_run(directory: Path, run: Run, books: bytes) -> None:
    """Write what is not written while a run goes on; `books` is what `verify` printed."""
    (directory / RUN_FILE).write_bytes(msgspec.json.encode(run))
    (directory / BOOKS_FILE).write_bytes(books)


def judge(directory: Path) -> Verdict:
    """Judge the records in a directory.

    Raises OSError when one is not there, msgspec.DecodeError when it cannot be read.
    """
    run = msgspec.json.decode((directory / RUN_FILE).read_bytes(), type=Run)
    books = msgspec.json.decode((directory / BOOKS_FILE).read_bytes())
    evidence = {
        name: Evidence(
            read_entries(directory / UPSTREAMS_DIR / name, Accepted),
            read_entries(directory / UPSTREAMS_DIR / name, Seen),
            told.by,
            told.aside,
        )
        for name, told in run.upstreams.items()
    }
    return decide(run, gather(read_journals(directory)), books, evidence)


def decide(
    run: Run, requests: Sequence[Request], books: Told, evidence: dict[str, Evidence]
) -> Verdict:
    """Hold the records of a run against one another. Pure."""
    journal = told_to_clients(requests, run.by, run.windows_ms)
    capacity: dict[Pair, int] = {
        (instance, name): units
        for instance, names in run.capacity.items()
        for name, units in names.items()
    }
    used: Counter[Pair] = by_pair(books, "used", run.by)
    found = [
        *findings(books, journal, evidence, drained=run.drained),
        *over_capacity(books, capacity, run.by),
        *one_answer(requests),
        *no_wrong_status(requests),
    ]
    if not run.windows_ms:  # what is lost leaves room that was not there before
        found += no_needless_refusal(requests, capacity, used)
    for name, (before, after) in sorted(run.memory_bytes.items()):
        if after - before > GROWTH_BYTES_MAX:
            found.append(Finding(f"I6: {name} grew from {before:,} to {after:,} bytes"))
    acknowledged = sum(bool(request.answers) for request in requests)
    if not acknowledged:
        found.append(Finding("Nothing was acknowledged: the run proves nothing"))
    return Verdict(run, acknowledged, sum(each.unseen for each in requests), found)


def main(words: Sequence[str] | None = None) -> int:
    """Print the verdict; give 0, or 1 when something is violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.journal", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR")
    verdict = judge(parser.parse_args(words).directory)
    print(verdict.figures)
    for sentence in verdict.violations[:SHOWN_MAX]:
        print(sentence)
    if len(verdict.violations) > SHOWN_MAX:
        print(f"and {len(verdict.violations) - SHOWN_MAX} more")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
