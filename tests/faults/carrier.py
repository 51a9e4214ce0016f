"""The person of an air-gapped site: takes spool files over by hand, and brings receipts back.

Decided here: what a careful person checks before taking a file, and how carelessly it is carried:
late, out of order, twice, receipts twice or not yet. Not decided here: what the files hold
(INTERFACE 4; the trailer's members). Everything comes from the seed; each `look` is a visit.
"""

from __future__ import annotations

import base64
import json
import random
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import import_key

from tests.faults.checker import Evidence
from tests.faults.ledger import Accepted, Ledger, Seen, read_entries
from tests.faults.wires import digest, events_units, read_event

TRAILER = {"number", "batch", "instance", "upstream", "rows", "sha256", "signature"}
NAME = re.compile(r"[0-9]+-.+\.ndjson")  # what is still being written has another name

Signed = Callable[[Mapping[str, Any]], bool]  # whether a trailer's signature holds


def states_itself(trailer: Mapping[str, Any]) -> bool:
    """Say whether what was signed is the rest of the trailer; whose signature it is stays open."""
    _, payload, _ = trailer["signature"].split(".")
    return _statement(trailer) == base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def signed_by(public_pem: bytes, alg: str = "EdDSA") -> Signed:
    """Make the check against a public key, by an implementation that is not ours."""

    def check(trailer: Mapping[str, Any]) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # the kind of key is in `alg`
            try:
                key = import_key(public_pem)
                read = jws.deserialize_compact(trailer["signature"], key, algorithms=[alg])
            except JoseError:
                return False
        return read.payload == _statement(trailer)

    return check


@dataclass
class Carrier:
    """Carries from `spool` to a back office whose ledger, by batch id, is in `office`.

    How probable it is: `late`, that a file is left for another visit; `twice`, that one already
    taken is taken again; `moved`, that a file taken is no longer in the spool. `complaints` says
    what no careful person would take: a checksum or signature that does not hold, a file that has
    changed, a number given twice.
    """

    spool: Path
    office: Path
    seed: int
    late: float = 0.3
    twice: float = 0.2
    moved: float = 0.0
    signed: Signed = states_itself
    complaints: list[str] = field(init=False, default_factory=list)
    _ledger: Ledger = field(init=False)
    _dice: random.Random = field(init=False)
    _known: dict[str, str] = field(
        init=False, default_factory=dict
    )  # file name -> digest of all its bytes
    _numbers: dict[int, str] = field(init=False, default_factory=dict)  # -> file name
    _taken: dict[str, str] = field(
        init=False, default_factory=dict
    )  # file name -> its trailer line
    _receipts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.office.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(self.office)
        self._dice = random.Random(self.seed)  # noqa: S311 (a run is to be repeatable)

    def look(self, *, everything: bool = False) -> list[str]:
        """Visit the spool: take over some of what is there, all of it if `everything`.

        Gives the names of the files that were taken now. A file with something amiss is not taken.
        """
        files = [file for file in sorted(self.spool.iterdir()) if NAME.fullmatch(file.name)]
        self._dice.shuffle(files)
        taken = []
        for file in files:
            odds = 1 - self.twice if file.name in self._taken else self.late
            if not everything and self._dice.random() < odds:
                continue
            if self._take(file):
                taken.append(file.name)
                if self._dice.random() < self.moved:
                    file.unlink()
        return taken

    def missing(self) -> list[int]:
        """Give the numbers below the highest one taken that never were in the spool."""
        return sorted(set(range(1, max(self._numbers, default=0))) - self._numbers.keys())

    def receipt(self, *, everything: bool = False) -> Path | None:
        """Write a receipt for files taken over, some or all; None when there is nothing to say.

        What was on an earlier receipt may be on this one too.
        """
        names = [name for name in self._taken if everything or self._dice.random() >= self.late]
        if not names:
            return None
        self._receipts += 1
        file = self.office / f"receipt-{self._receipts}.ndjson"
        file.write_text("".join(self._taken[name] + "\n" for name in names))
        return file

    def evidence(self, aside: dict[str, str] | None = None) -> Evidence:
        """Give the checker what the back office knows; `aside` as in Evidence."""
        accepted = read_entries(self.office, Accepted)
        return Evidence(accepted, read_entries(self.office, Seen), "line", aside or {})

    def close(self) -> None:
        self._ledger.close()

    def _take(self, file: Path) -> bool:
        content = file.read_bytes()
        if self._known.setdefault(file.name, digest(content)) != digest(content):
            self.complaints.append(f"{file.name} has changed")
            return False
        try:
            trailer, entry = read_spool_file(content, self.signed)
        except ValueError as error:
            self.complaints.append(f"{file.name}: {error}")
            return False
        first = self._numbers.setdefault(trailer["number"], file.name)
        if first != file.name:
            self.complaints.append(f"{file.name} has the number of {first}")
            return False
        self._ledger.saw([Seen(entry.id, entry.sha256)])
        if entry.id not in self._ledger.accepted:
            self._ledger.accept([entry])
        self._taken[file.name] = content.splitlines()[-1].decode()
        return True


def read_spool_file(content: bytes, signed: Signed) -> tuple[Mapping[str, Any], Accepted]:
    """Check a file and give its trailer and what it counts; raises ValueError for what is amiss."""
    if not content.endswith(b"\n"):
        raise ValueError("its last line is not complete")
    head, _, last = content[:-1].rpartition(b"\n")
    lines = head + b"\n" if head else b""
    trailer = json.loads(last)
    if not isinstance(trailer, dict) or trailer.keys() != TRAILER:
        raise ValueError("its last line is no trailer")
    if trailer["sha256"] != digest(lines):
        raise ValueError("its checksum does not hold")
    if not signed(trailer):
        raise ValueError("its signature does not hold")
    events = [read_event(json.loads(line))[0] for line in lines.splitlines()]
    if not events or trailer["rows"] != len(events):
        raise ValueError(f"it says {trailer['rows']} rows and has {len(events)}")
    source = f"/instances/{trailer['instance']} {trailer['batch']}/"
    if any(not event.id.startswith(source) for event in events):
        raise ValueError("it has events of another batch")
    if len({event.id for event in events}) != len(events):
        raise ValueError("it has an event twice")
    batch = trailer["batch"]
    return trailer, Accepted(batch, batch, digest(lines), events_units(events))


def _statement(trailer: Mapping[str, Any]) -> bytes:
    said = {name: trailer[name] for name in TRAILER - {"signature"}}
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
