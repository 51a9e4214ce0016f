"""A cache bounded by bytes: the least lately used goes first.

Decided here: what goes when it is full, and that what was put last stays, however large. Not
decided here: what a thing weighs, which whoever puts it says.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Shelf(Generic[T]):
    """Things by name, together up to `bytes_max`; `weight` is what they weigh now."""

    bytes_max: int
    weight: int = 0
    _things: OrderedDict[str, T] = field(default_factory=OrderedDict)
    _weights: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._things)

    def get(self, name: str) -> T | None:
        """Give a thing, which is used by that; None: it is not here."""
        thing = self._things.get(name)
        if thing is not None:
            self._things.move_to_end(name)
        return thing

    def put(self, name: str, thing: T, weight: int) -> list[tuple[str, T]]:
        """Put a thing in, in the place of one of that name; give what went out for it."""
        self.pop(name)
        self._things[name], self._weights[name] = thing, weight
        self.weight += weight
        gone: list[tuple[str, T]] = []
        while self.weight > self.bytes_max and len(self._things) > 1:
            oldest = next(iter(self._things))
            taken = self.pop(oldest)
            if taken is not None:
                gone.append((oldest, taken))
        return gone

    def pop(self, name: str) -> T | None:
        """Take a thing out; None: it was not here."""
        self.weight -= self._weights.pop(name, 0)
        return self._things.pop(name, None)
