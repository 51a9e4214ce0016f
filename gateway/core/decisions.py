"""What was taken out of a lane, and what people decide about it.

Decided here: the facts that are kept of a batch or of refused rows, the decisions there are, and
which of them fit. Not decided here: how they are carried out (store/lua/decide.lua, unblock.lua)
and told (service/, cli/). Pure. Source: DESIGN 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from gateway.core.ports import Mark, Standing
from gateway.core.usage import Row


class Fate(StrEnum):
    """What becomes of units by a decision; the words are the places of the ledger."""

    OPEN = "open"  # they go again, in a batch of another id
    FORWARDED = "forwarded"  # they did arrive
    DEAD = "dead"  # they are given up


class Aside(msgspec.Struct, frozen=True):
    """A batch that was taken out of its lane, with all that is known of it.

    Moments are the store's, in ms. `first_sent_ms` is when the earliest attempt began whose outcome
    is not known; 0: none is in doubt. `body` is b"" unless it was asked for.
    """

    id: str
    instance: str
    upstream: str
    standing: Standing
    why: str
    at_ms: int
    first_sent_ms: int
    attempts: int
    rows: tuple[Row, ...]
    body: bytes = b""

    @property
    def units(self) -> Mapping[str, int]:
        """Its units by line."""
        return units_of(self.rows)


class Blocked(msgspec.Struct, frozen=True):
    """Rows of one line that an upstream refuses for now; they are tried again by themselves.

    `marks` say why and when next; without one the next round takes them up.
    """

    instance: str
    upstream: str
    line: str
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...]

    @property
    def units(self) -> Mapping[str, int]:
        """Its units, under its line."""
        return units_of(self.rows)


class Decision(msgspec.Struct, frozen=True):
    """Who decided what, about what, and why. `subject` is a batch's id, a line's, or "".

    `at_ms` and `units` ("LINE=UNITS …") are the store's words for what was carried out.
    """

    who: str
    what: str
    why: str
    upstream: str
    subject: str = ""
    at_ms: int = 0
    units: str = ""

    @property
    def fields(self) -> list[str]:
        """Names and values, one after the other, for the record; the store adds the rest."""
        names = ("who", "what", "why", "upstream", "subject")
        return [text for name in names for text in (name, getattr(self, name))]


def units_of(rows: Iterable[Row]) -> Mapping[str, int]:
    """Add up units by line."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row.line] += row.units
    return dict(sums)
