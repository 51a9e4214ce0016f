"""What hosts of this run may hold or have consumed, until it is given back.

Decided here: that a host is written down before anything is asked for it, so that whatever ends a
run, what it may hold is known. Not decided here: how it is given back (site.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gateway.cli.conformity.wares import Ware


class Loans:
    """Per host of ours: whether it may hold anything, and what is known to be consumed for it."""

    def __init__(self) -> None:
        self.open: dict[str, Counter[str]] = {}
        self.consumed: Counter[str] = Counter()  # of all hosts, less what was undone
        self.unsure: set[str] = set()  # consumed features of requests that got no answer

    def begin(self, host: str) -> None:
        """Write a host down; from now on it may hold anything."""
        self.open.setdefault(host, Counter())

    def granted(self, request: Mapping[str, Any], answer: Any, wares: Mapping[str, Ware]) -> None:
        """Take down what an answer says was consumed, or undone: never more than was asked."""
        asked: Counter[str] = Counter()
        for each in request["features"]:
            asked[each["name"]] += each.get("count", 1)
        units = self.open.setdefault(request["hostId"]["value"], Counter())
        features = answer.get("features") if isinstance(answer, dict) else None
        for entry in features if isinstance(features, list) else ():
            ware = wares.get(str(entry.get("name"))) if isinstance(entry, dict) else None
            if ware is not None and ware.consumed and type(entry.get("count")) is int:
                # What was not asked for might be somebody else's, and is not ours to undo.
                count = min(entry["count"], max(asked[ware.name], 0))
                units[ware.name] += count
                self.consumed[ware.name] += count

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
