"""The judge at the end of every run: three independent records against one another. Pure.

Decided here: what must agree between the clients' journal, the gateway's books as `verify --format
json --deep` prints them, and the ledgers of the upstreams, and a sentence for each violation. It
sums up by itself and believes no `balanced` and no `conservation: OK`. Not decided here: how the
records are obtained (of a run that has ended: tests/stores/journal.py), and what can be judged by
the journal alone. Source: RELIABILITY 1 (I1 to I4, I7), DESIGN 5, SEMANTICS 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.faults.ledger import Accepted, Seen

SUMS = ("forwarded", "dead", "parked", "open", "sealed")

Told = Mapping[str, Any]  # the JSON of `verify`
Pair = tuple[str, str]  # instance, and line or feature


class Kind(StrEnum):
    """What is wrong with units that are not as they should be."""

    LOST = "lost"
    DOUBLED = "doubled"
    OVER = "over capacity"


@dataclass(frozen=True)
class Finding:
    """Something that does not agree, in a sentence, and how many units of which kind it is about.

    `allowed`: it is to be counted, and no violation.
    """

    text: str
    kind: Kind | None = None
    units: int = 0
    allowed: bool = False


@dataclass
class Journal:
    """What clients were told, by (instance, line), and what they never got an answer to.

    `by`: "line", or "feature" where clients know no more; then the lines of a feature are summed.
    """

    granted: Counter[Pair] = field(default_factory=Counter)
    lowest: Counter[Pair] = field(default_factory=Counter)
    highest: Counter[Pair] = field(default_factory=Counter)
    risked: Counter[Pair] = field(default_factory=Counter)
    by: str = "line"

    def grant(self, instance: str, line: str, units: int) -> None:
        """Note units of a grant, below 0 of an undo, that a client was told of."""
        self.granted[instance, line] += units

    def unseen(self, instance: str, line: str, units: int) -> None:
        """Note units that were asked for and may have been counted: no answer, not retried."""
        self.lowest[instance, line] += min(units, 0)
        self.highest[instance, line] += max(units, 0)

    def risk(self, instance: str, line: str, units: int) -> None:
        """Note granted units that may be lost, as the level they were acknowledged at says."""
        self.risked[instance, line] += units


@dataclass(frozen=True)
class Evidence:
    """What one upstream knows, and what the gateway set aside of what it sent there.

    `by`: "feature" or "line", what the ledger counts by. `aside`: ids of batches that are now
    "parked" or "dead", as `forward list` tells them. A parked batch may have been accepted or not:
    that is why it is parked.
    """

    accepted: Sequence[Accepted]
    seen: Sequence[Seen]
    by: str
    aside: Mapping[str, str] = field(default_factory=dict)


def violations(
    told: Told,
    journal: Journal | None = None,
    upstreams: Mapping[str, Evidence] | None = None,
    *,
    drained: bool = False,
) -> list[str]:
    """Say everything that does not agree; an empty list when all of it does.

    At any moment: every sum of the books, the journal, and no id with two contents, none counted
    twice. After a drain also: nothing is open but carried negatives, nothing sealed, and what the
    upstream accepted is what was acked, less what is dead or parked, less what is carried.
    """
    found = findings(told, journal, upstreams, drained=drained)
    return [each.text for each in found if not each.allowed]


def findings(
    told: Told,
    journal: Journal | None = None,
    upstreams: Mapping[str, Evidence] | None = None,
    *,
    drained: bool = False,
) -> list[Finding]:
    """Say the same as `violations` with the units it is about, and what is allowed besides."""
    found = list(_books(told))
    if journal is not None:
        found += _journal(told, journal)
    for name, evidence in sorted((upstreams or {}).items()):
        found += _contents(name, evidence.seen)
        found += _repeats(name, evidence)
        if drained:
            found += _left(told, name)
            found += _totals(told, name, evidence)
    return found


def over_capacity(told: Told, capacity: Mapping[Pair, int], by: str = "line") -> Iterator[Finding]:
    """I4: nothing is used beyond a capacity; `by` as in Journal."""
    used = by_pair(told, "used", by)
    for pair, units in sorted(capacity.items()):
        if used[pair] > units:
            text = f"I4: {pair[0]} {by} {pair[1]}: {used[pair]} used of {units}"
            yield Finding(text, Kind.OVER, used[pair] - units)


def by_pair(told: Told, sum_: str, by: str) -> Counter[Pair]:
    """Give a sum of the books by instance and line or feature, each line once.

    Of one with several upstreams it is what the one attached first knows of.
    """
    lines: dict[tuple[str, str, str], int] = {}
    for instance, entry in _entries(told):
        line = (instance, entry["id"], entry["feature"])
        lines[line] = max(entry[sum_], lines.get(line, entry[sum_]))
    sums: Counter[Pair] = Counter()
    for (instance, id_, feature), units in lines.items():
        sums[instance, id_ if by == "line" else feature] += units
    return sums


def _books(told: Told) -> Iterator[Finding]:
    """I3, per line and upstream; and that the gateway itself finds nothing amiss."""
    for instance, entry in _entries(told):
        if entry["upstream"] is not None:
            accounted = sum(entry[word] for word in SUMS)
            if entry["acked"] != accounted:
                sums = ", ".join(f"{word} {entry[word]}" for word in SUMS)
                where = f"{instance} line {entry['id']} to {entry['upstream']}"
                acked = entry["acked"]
                yield Finding(f"I3: {where}: {acked} acked, {accounted} accounted for ({sums})")
    if told["conservation"] != "OK":
        yield Finding(f"I3: verify says {told['conservation']}")


def _journal(told: Told, journal: Journal) -> Iterator[Finding]:
    """I1 and I2, of lines that are metered or were asked for."""
    acked = by_pair(told, "acked", journal.by)
    for pair in sorted(acked.keys() | journal.granted.keys()):
        units, answered = acked[pair], journal.granted[pair]
        where = f"{pair[0]} {journal.by} {pair[1]}"
        lowest, highest = answered + journal.lowest[pair], answered + journal.highest[pair]
        if units < lowest:
            text = f"I1: {where}: {answered} granted in answers, only {units} acked"
            lost = lowest - units
            yield Finding(text, Kind.LOST, lost, allowed=lost <= journal.risked[pair])
        if units > highest:
            unseen = journal.highest[pair]
            text = f"I2: {where}: {units} acked, {answered} answered and {unseen} unseen"
            yield Finding(text, Kind.DOUBLED, units - highest)


def _contents(name: str, seen: Sequence[Seen]) -> Iterator[Finding]:
    """I7: one id has one content, whether it was taken or not."""
    contents: dict[str, set[str]] = {}
    for entry in seen:
        contents.setdefault(entry.id, set()).add(entry.sha256)
    for id_, found in contents.items():
        if len(found) > 1:
            yield Finding(f"I7: {name} saw {id_} with {len(found)} contents")


def _repeats(name: str, evidence: Evidence) -> Iterator[Finding]:
    """Nothing is counted twice under one id, nothing that is dead was counted at all."""
    times = Counter(entry.id for entry in evidence.accepted)
    units = {entry.id: sum(entry.units.values()) for entry in evidence.accepted}
    for id_, count in times.items():
        if count > 1:
            doubled = abs(units[id_]) * (count - 1)
            yield Finding(f"{name} counted {id_} {count} times", Kind.DOUBLED, doubled)
    for batch in sorted({entry.batch for entry in evidence.accepted}):
        if evidence.aside.get(batch) == "dead":
            yield Finding(f"{name} accepted {batch}, which is dead")


def _left(told: Told, name: str) -> Iterator[Finding]:
    """After a drain nothing is under way: only what was undone and is not taken back stays open."""
    for instance, entry in _entries(told, name):
        where = f"{instance} line {entry['id']} to {name}"
        if entry["sealed"]:
            yield Finding(f"not drained: {where}: {entry['sealed']} sealed")
        if entry["open"] > 0 or ("carried" in entry and entry["open"] != entry["carried"]):
            yield Finding(f"not drained: {where}: {entry['open']} open")


def _totals(told: Told, name: str, evidence: Evidence) -> Iterator[Finding]:
    """The upstream's unique total is acked − dead − parked (and less what is carried)."""
    due: Counter[str] = Counter()
    for _, entry in _entries(told, name):
        away = entry["dead"] + entry["parked"] + entry["open"] + entry["sealed"]
        due[entry["id"] if evidence.by == "line" else entry["feature"]] += entry["acked"] - away
    arrived: Counter[str] = Counter()
    ids = set()
    for accepted in evidence.accepted:
        if accepted.id not in ids and evidence.aside.get(accepted.batch) != "parked":
            arrived.update(accepted.units)
        ids.add(accepted.id)
    for key in sorted(due.keys() | arrived.keys()):
        if arrived[key] != due[key]:
            amiss = arrived[key] - due[key]
            kind, word = (Kind.DOUBLED, "too many") if amiss > 0 else (Kind.LOST, "lost")
            text = (
                f"{name} {evidence.by} {key}: {arrived[key]} accepted, each id once, but"
                f" acked − dead − parked is {due[key]}: {abs(amiss)} {word}"
            )
            yield Finding(text, kind, abs(amiss))


def _entries(told: Told, upstream: str | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the entries of the books with their instances; those of one upstream, if named."""
    for instance in told["instances"]:
        for entry in instance["lines"]:
            if upstream is None or entry["upstream"] == upstream:
                yield instance["id"], entry
