"""How the lines of an instance stand at one moment, told to people: used, left, in force or not.

Decided here: what is left of a line and how full it is (what other servers consumed is taken too),
in which orders lines are shown, which belong together, and what a search finds. Not decided here:
at which moment that was true (features.py). Pure. Source: SEMANTICS 1, 3 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from gateway.core.catalogue import CatalogueIndex, PeriodRule, period_of, period_rule
from gateway.core.floating import NO_LICENCE, group_of
from gateway.core.model import Line

NEAR_PERCENT: Final = 80


class State(StrEnum):
    """Whether a line serves requests."""

    IN_FORCE = "in force"
    LATER = "not started"
    EXPIRED = "expired"
    RETIRED = "retired"


class LineStanding(msgspec.Struct, frozen=True):
    """A line and what is taken of it: `used` by this gateway's clients in the current period, or
    held by them now; `elsewhere` by other servers of its licence. None below 0.

    `resets_ms`: when the next period begins; None: never.
    """

    line: Line
    state: State
    used: int
    elsewhere: int
    resets_ms: int | None

    @property
    def taken(self) -> int:
        """What is not available."""
        return self.used + self.elsewhere

    @property
    def held(self) -> int | None:
        """What hosts hold; None of a line whose counts do not come back."""
        return self.used if self.line.model.reusable else None

    @property
    def available(self) -> int | None:
        """What is left; None: without limit."""
        return None if self.line.unlimited else max(0, self.line.capacity - self.taken)

    @property
    def share(self) -> float | None:
        """How much of the capacity is taken, 1 being all; None where there is no such bound."""
        if self.line.unlimited or self.line.capacity <= 0:
            return None
        return self.taken / self.line.capacity

    @property
    def percent(self) -> int | None:
        """The share in percent, rounded down."""
        return None if self.share is None else self.taken * 100 // self.line.capacity

    @property
    def overage(self) -> int:
        """What is taken past the count, of the overdraft."""
        return 0 if self.line.count is None else max(0, self.taken - self.line.count)

    @property
    def in_force(self) -> bool:
        """Whether it serves requests."""
        return self.state is State.IN_FORCE

    @property
    def near(self) -> bool:
        """Whether it is in force, and nearly or wholly taken."""
        return self.in_force and (self.percent or 0) >= NEAR_PERCENT


Used = Callable[[Line], tuple[int, int]]  # what is used of a line here, and elsewhere


def standings_of(
    index: CatalogueIndex, lines: Iterable[Line], used: Used, at_ms: int
) -> list[LineStanding]:
    """Tell how lines of an instance stand at a moment; some 3 us each."""
    ends: dict[PeriodRule, int] = {}
    found = []
    for line in lines:
        rule = period_rule(line)
        if rule not in ends:
            ends[rule] = period_of(line, at_ms)[1]
        here, elsewhere = used(line)
        found.append(
            LineStanding(
                line, _state(line, at_ms), max(0, here), max(0, elsewhere), ends[rule] or None
            )
        )
    return found


def _state(line: Line, at_ms: int) -> State:
    if line.retired:
        return State.RETIRED
    if line.starts_ms is not None and at_ms < line.starts_ms:
        return State.LATER
    if line.expires_ms is not None and line.expires_ms <= at_ms:
        return State.EXPIRED
    return State.IN_FORCE


class Together(msgspec.Struct, frozen=True):
    """What lines come to together; `capacity` None: without limit."""

    lines: int
    taken: int
    capacity: int | None
    overage: int


def together(standings: Iterable[LineStanding]) -> Together:
    """Add up lines that are in force."""
    some = [each for each in standings if each.in_force]
    unlimited = any(each.line.unlimited for each in some)
    return Together(
        len(some),
        sum(each.taken for each in some),
        None if unlimited else sum(each.line.capacity for each in some),
        sum(each.overage for each in some),
    )


def akin(one: Line, other: Line) -> bool:
    """Say whether lines serve one feature, or are parts of one licence."""
    licence = group_of(one)
    return one.feature == other.feature or (licence != NO_LICENCE and licence == group_of(other))


def fullest_first(each: LineStanding) -> tuple[Any, ...]:
    """Order lines by who needs somebody's attention: those in force, the fullest first."""
    return not each.in_force, -(each.share or 0), each.line.feature, each.line.id


_NEVER: Final = 1 << 62

ORDERS: Final[dict[str, Callable[[LineStanding], Any]]] = {
    "full": fullest_first,
    "feature": lambda each: (each.line.feature, each.line.id),
    "line": lambda each: each.line.id,
    "used": lambda each: (-each.taken, each.line.feature, each.line.id),
    "available": lambda each: (
        _NEVER if each.available is None else each.available,
        each.line.feature,
        each.line.id,
    ),
    "resets": lambda each: (each.resets_ms or _NEVER, each.line.feature, each.line.id),
    "expires": lambda each: (each.line.expires_ms or _NEVER, each.line.feature, each.line.id),
}


def found_by(standings: Sequence[LineStanding], words: str) -> list[LineStanding]:
    """Find lines by a part of their feature, id or product, without case."""
    wanted = words.casefold()
    return [
        each
        for each in standings
        if any(wanted in text.casefold() for text in _texts(each.line) if text)
    ]


def _texts(line: Line) -> tuple[str | None, ...]:
    return line.feature, line.id, line.product.name
