"""What floating clients ask: lines by their id, and what only the flags of theirs can say.

Decided here: which of it is drawn, and what it is about; nothing that a door would refuse. Not
decided here: what becomes of it, which is the machine's business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec
from hypothesis import strategies as st

from gateway.core.calls import INCREMENTAL, LATER, PARTIAL, RESTOCK, SET, TELL
from gateway.core.catalogue import CatalogueIndex, ResolvedWant
from gateway.core.counters import Hold
from gateway.core.model import COUNT_MAX, Catalogue, Host
from tests.model.pools import DAY_MS, HOSTS, HOUR_MS, SECOND_MS

FLOATING_HOSTS: Final = (Host("LICENSESPRING", "ann"), Host("LICENSESPRING", "bob|2"), HOSTS[0])
HELD: Final = ("S1", "S2", "S4", "P1", "P2", "K3", "K4")
RETURNED: Final = ("C1", "K1", "K2")  # lines that may be returned of without a window
CONSUMED: Final = ("C2", "D1", "D2", "F1", "N1", *RETURNED)
SHARED_LINES: Final = ("K1", "K1", "K2", "K3", "K4")
CAPACITIES: Final = (0, 3, 12, 20)


@dataclass(frozen=True)
class Wish:
    """One line, and how many units of it; None: it is only told."""

    line: str
    units: int | None
    interval_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True)
class Floating:
    """One ask; `overages` is a line and the capacity that it is to have from now on."""

    host: Host
    wishes: tuple[Wish, ...]
    flags: int
    overages: tuple[str, int] | None = None

    @property
    def meaning(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def next_catalogue(self, present: Catalogue) -> Catalogue | None:
        if self.overages is None:
            return None
        line_id, capacity = self.overages
        lines = tuple(
            msgspec.structs.replace(line, capacity=capacity) if line.id == line_id else line
            for line in present.lines
        )
        return msgspec.structs.replace(present, version=present.version + 1, lines=lines)

    def resolve(self, index: CatalogueIndex) -> list[ResolvedWant]:
        if new := self.next_catalogue(index.catalogue):
            index = CatalogueIndex(new)
        resolved: list[ResolvedWant] = []
        for place, wish in enumerate(self.wishes):
            table = index.resolve_line(
                index.line[wish.line], interval_ms=wish.interval_ms, until_ms=wish.until_ms
            )
            resolved.append((table, [] if wish.units is None else [(wish.units, place)]))
        return resolved


@st.composite
def floating(draw: st.DrawFn, now_ms: int) -> Floating:
    """Draw an ask; what it consumes of, and what it returns of, are never the same line."""
    holds = draw(st.lists(st.sampled_from(HELD), max_size=3))
    uses = draw(st.lists(st.sampled_from(CONSUMED), max_size=2, unique=True))
    flags = INCREMENTAL | SET | RESTOCK
    flags |= draw(st.sampled_from((0, LATER))) | draw(st.sampled_from((0, TELL, TELL)))
    flags |= draw(st.sampled_from((0, 0, PARTIAL)))
    counts = st.sampled_from((0, 1, 1, 1, 2, 3, 4, 9, -1, -1, -2, None))
    wishes = []
    for line in holds:
        interval_ms = draw(st.sampled_from((None, SECOND_MS, HOUR_MS, 3 * DAY_MS)))
        away_ms = draw(st.sampled_from((None, None, -1, 0, HOUR_MS, DAY_MS)))
        until_ms = None if away_ms is None else now_ms + away_ms
        wishes.append(Wish(line, draw(counts), interval_ms, until_ms))
    for line in uses:
        units = draw(st.sampled_from((None, 0, 1, 2, 5, COUNT_MAX)))
        if line in RETURNED and draw(st.booleans()):
            units = -(units or 3)
        wishes.append(Wish(line, units))
    overages = draw(st.sampled_from((None, None, None, "C1", "K1", "K2", "F1")))
    return Floating(
        draw(st.sampled_from(FLOATING_HOSTS)),
        tuple(draw(st.permutations(wishes))),
        flags,
        overages and (overages, draw(st.sampled_from(CAPACITIES))),
    )


@st.composite
def about_held(draw: st.DrawFn, held: list[tuple[str, str, Hold]]) -> Floating:
    """Draw an ask about what a host holds of a line: as much, one more or less, all, or nothing;
    held on for longer, for less long, or until the very moment that it lapses.
    """
    host, line, hold = draw(st.sampled_from(held))
    count = hold.count
    units = draw(st.sampled_from((count, count, count + 1, count - 1, 0, -count, -count - 1)))
    interval_ms = draw(st.sampled_from((None, SECOND_MS, 40 * DAY_MS)))
    until_ms = draw(st.sampled_from((None, hold.lapses_ms or None)))
    flags = draw(st.sampled_from((SET, SET | LATER, SET | LATER | TELL)))
    wish = Wish(line, units, interval_ms, until_ms)
    return Floating(Host(*host.split(":", 1)), (wish,), flags | INCREMENTAL)
