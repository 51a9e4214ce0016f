"""The judge at the end of every run: three independent records against one another. Pure.

Decided here: what must agree between the clients' journal, the gateway's books as `verify --format
json --deep` prints them, and the ledgers of the upstreams, and a sentence for each violation. It
sums up by itself and believes no `balanced` and no `conservation: OK`. Not decided here: how the
records are obtained. Source: RELIABILITY 1 (I1, I2, I3, I7), DESIGN 5, SEMANTICS 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.ledger import Accepted, Seen

SUMS = ("forwarded", "dead", "parked", "open", "sealed")

Told = Mapping[str, Any]  # the JSON of `verify`
Pair = tuple[str, str]  # instance and line


@dataclass
class Journal:
    """What clients were told, by (instance, line), and what they never got an answer to."""

    granted: Counter[Pair] = field(default_factory=Counter)
    lowest: Counter[Pair] = field(default_factory=Counter)
    highest: Counter[Pair] = field(default_factory=Counter)

    def grant(self, instance: str, line: str, units: int) -> None:
        """Note units of a grant, below 0 of an undo, that a client was told of."""
        self.granted[instance, line] += units

    def unseen(self, instance: str, line: str, units: int) -> None:
        """Note units that were asked for and may have been counted: no answer, not retried."""
        self.lowest[instance, line] += min(units, 0)
        self.highest[instance, line] += max(units, 0)


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


def _books(told: Told) -> Iterator[str]:
    """I3, per line and upstream; and that the gateway itself finds nothing amiss."""
    for instance, entry in _entries(told):
        if entry["upstream"] is not None:
            accounted = sum(entry[word] for word in SUMS)
            if entry["acked"] != accounted:
                sums = ", ".join(f"{word} {entry[word]}" for word in SUMS)
                where = f"{instance} line {entry['id']} to {entry['upstream']}"
                yield f"I3: {where}: {entry['acked']} acked, {accounted} accounted for ({sums})"
    if told["conservation"] != "OK":
        yield f"I3: verify says {told['conservation']}"


def _journal(told: Told, journal: Journal) -> Iterator[str]:
    """I1 and I2, of lines that are metered or were asked for."""
    acked = {(instance, entry["id"]): entry["acked"] for instance, entry in _entries(told)}
    for pair in sorted(acked.keys() | journal.granted.keys()):
        units, answered = acked.get(pair, 0), journal.granted[pair]
        where = f"{pair[0]} line {pair[1]}"
        lowest, highest = answered + journal.lowest[pair], answered + journal.highest[pair]
        if units < lowest:
            yield f"I1: {where}: {answered} granted in answers, only {units} acked"
        if units > highest:
            unseen = journal.highest[pair]
            yield f"I2: {where}: {units} acked, {answered} answered and {unseen} unseen"


def _contents(name: str, seen: Sequence[Seen]) -> Iterator[str]:
    """I7: one id has one content, whether it was taken or not."""
    contents: dict[str, set[str]] = {}
    for entry in seen:
        contents.setdefault(entry.id, set()).add(entry.sha256)
    for id_, found in contents.items():
        if len(found) > 1:
            yield f"I7: {name} saw {id_} with {len(found)} contents"


def _repeats(name: str, evidence: Evidence) -> Iterator[str]:
    """Nothing is counted twice under one id, nothing that is dead was counted at all."""
    times = Counter(entry.id for entry in evidence.accepted)
    for id_, count in times.items():
        if count > 1:
            yield f"{name} counted {id_} {count} times"
    for batch in sorted({entry.batch for entry in evidence.accepted}):
        if evidence.aside.get(batch) == "dead":
            yield f"{name} accepted {batch}, which is dead"


def _left(told: Told, name: str) -> Iterator[str]:
    """After a drain nothing is under way: only what was undone and is not taken back stays open."""
    for instance, entry in _entries(told, name):
        where = f"{instance} line {entry['id']} to {name}"
        if entry["sealed"]:
            yield f"not drained: {where}: {entry['sealed']} sealed"
        if entry["open"] > 0 or ("carried" in entry and entry["open"] != entry["carried"]):
            yield f"not drained: {where}: {entry['open']} open"


def _totals(told: Told, name: str, evidence: Evidence) -> Iterator[str]:
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
            word = "too many" if amiss > 0 else "lost"
            yield (
                f"{name} {evidence.by} {key}: {arrived[key]} accepted, each id once, but"
                f" acked − dead − parked is {due[key]}: {abs(amiss)} {word}"
            )


def _entries(told: Told, upstream: str | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the entries of the books with their instances; those of one upstream, if named."""
    for instance in told["instances"]:
        for entry in instance["lines"]:
            if upstream is None or entry["upstream"] == upstream:
                yield instance["id"], entry
