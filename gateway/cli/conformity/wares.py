"""The features that a run is told it may use, as far as checks tell them apart.

Not decided here: how it is found out what a feature is (examining.py). Source: SEMANTICS 1.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.cli.conformity.checks import Takes

FEATURES_MAX: Final = 8  # that a run can be told


class Ware(msgspec.Struct, frozen=True):
    """One told feature. `version` is the highest that is offered."""

    name: str
    version: str
    consumed: bool  # what is asked of it adds up and is not held
    seats: bool = False  # held, and lapses without being asked to
    undoable: bool = False  # one unit, just consumed, could be undone

    def fits(self, takes: Takes) -> bool:
        match takes:
            case Takes.ANY:
                return True
            case Takes.CONSUMED:
                return self.consumed
            case Takes.REUSABLE:
                return not self.consumed
            case Takes.SEATS:
                return self.seats
            case Takes.METERED_REUSABLE:
                return not self.consumed and not self.seats
