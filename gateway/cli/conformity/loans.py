"""What hosts of this run may hold or have consumed, until it is given back.

Decided here: that a host is written down before anything is asked for it, so that whatever ends a
run, what it may hold is known. Not decided here: how it is given back (site.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.cli.conformity.wares import Ware


class Loans:
    """Per host of ours: whether it may hold anything, and what is known to be consumed for it."""

    def __init__(self) -> None:
        self.open: dict[str, Counter[str]] = {}
        self.consumed: Counter[str] = Counter()  # of all hosts, less what was undone
        self.unsure: set[str] = set()  # consumed features of requests that got no good answer
        self.stuck: set[str] = set()  # open hosts that one try did not close

    def begin(self, host: str) -> None:
        """Write a host down; from now on it may hold anything."""
        self.open.setdefault(host, Counter())

    def answered(
        self, request: Mapping[str, Any], status: int, answer: Any, wares: Mapping[str, Ware]
    ) -> None:
        """Take down what an answer says was consumed, or undone: never more than was asked.

        An answer that cannot be read, or is of a failure, may be of a request that was served.
        """
        if status == 200:
            counts = _counts(answer, [name for name, ware in wares.items() if ware.consumed])
            if counts is None:
                self.doubt(request, wares)
                return
            asked = _asked(request)
            units = self.open.setdefault(request["hostId"]["value"], Counter())
            for name, count in counts.items():
                # What was not asked for might be somebody else's, and is not ours to undo.
                taken = max(min(count, max(asked[name], 0)), min(asked[name], 0))
                units[name] += taken
                self.consumed[name] += taken
        elif status > 200 and not 300 <= status < 500:
            self.doubt(request, wares)

    def doubt(self, request: Mapping[str, Any], wares: Mapping[str, Ware]) -> None:
        """Take down that all that was asked may have been consumed, without anybody knowing."""
        for name, units in _asked(request).items():
            if units > 0 and name in wares and wares[name].consumed:
                self.unsure.add(name)
                self.consumed[name] += units

    def to_undo(self, host: str, wares: Mapping[str, Ware]) -> dict[str, int]:
        """Say what can be undone for a host: units by feature, all over 0."""
        units = self.open.get(host, Counter())
        return {name: n for name, n in units.items() if n > 0 and wares[name].undoable}

    def forget(self, name: str) -> None:
        """Take back what was taken down as consumed of a feature that is not consumed."""
        for units in (self.consumed, *self.open.values()):
            del units[name]

    def closed(self, host: str) -> None:
        """Strike a host off: it holds nothing any more."""
        self.open.pop(host, None)
        self.stuck.discard(host)


def _asked(request: Mapping[str, Any]) -> Counter[str]:
    """Sum up what a request asks for, by feature."""
    asked: Counter[str] = Counter()
    for each in request["features"]:
        asked[each["name"]] += each.get("count", 1)
    return asked


def _counts(answer: Any, names: Sequence[str]) -> Counter[str] | None:
    """Sum up what an answer says of these features, or None when that cannot be read."""
    entries = answer.get("features") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        return None
    counts: Counter[str] = Counter()
    for entry in entries:
        if entry.get("name") in names:
            if type(entry.get("count")) is not int:
                return None
            counts[entry["name"]] += entry["count"]
    return counts
