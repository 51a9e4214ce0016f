"""What a cloud's total says: whether an attempt arrived, and what other servers consumed.

Decided here: how an attempt without an answer is decided by the totals before and after it, when a
total tells that somebody else writes to it too, and what a line's `elsewhere` is. Not decided here:
how totals are asked for (upstream/) and where what is known is kept (store/syncs.py). The cloud's
periods are calendar periods in UTC. Pure. Source: DESIGN 4 and 5, protocols/licensespring.md 4, 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from gateway.core.model import Reset
from gateway.core.periods import hour_of, reset_periods, zone
from gateway.core.usage import Row

# The cloud's clock and ours are not one: so close to a boundary nobody can say on which side it is.
BOUNDARY_MS: Final = 120_000
# Who wrote to a total once is taken to write to it for a month, or a little longer.
OTHERS_MS: Final = 35 * 86_400_000
OK: Final = "ok"

_UTC: Final = zone("UTC")


class Total(msgspec.Struct, frozen=True, array_like=True):
    """What a cloud had of one line at a moment, in ms by its own clock, and how it resets that."""

    units: int
    at_ms: int
    reset: Reset = Reset.NONE

    @property
    def period(self) -> str:
        """The label of the cloud's period that it belongs to."""
        return reset_periods(self.reset, _UTC, self.at_ms, 0, 1)[0][1]

    @property
    def since_ms(self) -> int:
        """The first moment of that period."""
        return reset_periods(self.reset, _UTC, self.at_ms, 0, 1)[0][0]

    @property
    def near_boundary(self) -> bool:
        """Whether it may belong to the period beside its own."""
        around = (self.at_ms - BOUNDARY_MS, self.at_ms + BOUNDARY_MS)
        return len({reset_periods(self.reset, _UTC, at, 0, 1)[0][1] for at in around}) > 1


class Known(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was last heard of a line, for the next comparison and for people.

    `code` is OK or what was wrong, in the cloud's word; `text` says it for people. `licence` tells
    licences apart without saying their key. `total` belongs to `period`. `others_ms`: when the
    total was last seen to move by another's doing, 0 never. `overdraft`: as last pulled.
    `elsewhere`: as last computed, in that period. `unsynced`: what then waited here, blocked units
    included. `late`: units of earlier periods that the cloud booked in `period`.
    """

    at_ms: int
    code: str = OK
    text: str = ""
    licence: str = ""
    total: int | None = None
    period: str = ""
    others_ms: int = 0
    overdraft: str = ""
    elsewhere: int = 0
    unsynced: int = 0
    late: int = 0

    def shared(self, now_ms: int) -> bool:
        """Say whether another server is taken to consume of the line too."""
        return bool(self.others_ms) and now_ms - self.others_ms < OTHERS_MS


class Found(Enum):
    """What totals tell of an attempt whose answer is not known."""

    APPLIED = "applied"
    NOT_APPLIED = "not applied"
    AMBIGUOUS = "ambiguous"


def decide(before: Total, after: Total, units: int) -> Found:
    """Decide an attempt to add `units` (not 0) to a total that only we write to.

    A total that either reading of what happened may leave is ambiguous, as is one that none does.
    """
    applied: set[int] = set()
    not_applied: set[int] = set()
    same = before.period == after.period
    near = before.near_boundary or after.near_boundary
    # Whoever changes how it is reset may leave it as it is, or begin anew.
    changed = before.reset is not after.reset
    if same or near or changed:
        applied.add(before.units + units)
        not_applied.add(before.units)
    if not same or near or changed:
        applied |= {units, 0}  # after the reset, or before it and gone with it
        not_applied.add(0)
    if after.units in applied - not_applied:
        return Found.APPLIED
    return Found.NOT_APPLIED if after.units in not_applied - applied else Found.AMBIGUOUS


def heard(known: Known | None, total: Total, own: int, now_ms: int) -> Known:
    """Take down a total, `own` units of which were added by us since what is known.

    What explains it otherwise is that somebody else wrote to it: so is a total that is there when
    it is first looked at.
    """
    late = others = 0
    if known is None or known.total is None:
        expected = {own}
    elif known.period == total.period:
        expected = {known.total + own}
        late, others = known.late, known.elsewhere
    else:
        expected = {own}
        # Whoever changes how it is reset may leave it as it is.
        if total.near_boundary or known.period[:1] != total.period[:1]:
            expected.add(known.total + own)
    others_ms = known.others_ms if known else 0
    if total.units not in expected:
        others_ms = now_ms
    return msgspec.structs.replace(
        known or Known(at_ms=now_ms),
        at_ms=now_ms,
        total=total.units,
        period=total.period,
        others_ms=others_ms,
        elsewhere=others,
        late=late,
    )


def units_since(rows: Iterable[Row], since_ms: int) -> int:
    """Add up the units of hours from a moment on; the moment is a whole hour, or it is 0."""
    return sum(row.units for row in rows if row.hour >= hour_of(since_ms))


def units_before(rows: Iterable[Row], since_ms: int) -> int:
    """Add up the units of the hours before a moment."""
    return sum(row.units for row in rows if row.hour < hour_of(since_ms))


def elsewhere(total: Total, used: int, unsettled: Iterable[Row]) -> int:
    """Say what others consumed of a line in the total's period; below 0: it was reset there.

    `used` is ours in that period, `unsettled` are the line's rows that the cloud does not have.
    No batch of the line may be under way.
    """
    return total.units - (used - units_since(unsettled, total.since_ms))
