"""What a LicenseSpring client of the demonstration does: an endless, seeded mix of operations.

Decided here: which operations there are and how often each comes. As in mix.py, an operation
depends on the seed, the client's number and its place alone. Not decided here: how it is spelled in
either version, and what an answer must say (licensespring.py).
Source: protocols/licensespring.md 1.2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

from gateway.cli.demonstration.mix import fate

# The lines of the licence, by feature name: its consumption, its seats, and its features, whose
# codes are their names.
UNITS: Final = "sessions"
SEATS: Final = "editor"
FLOATING: Final = "viewer"
CONSUMED: Final = ("users", "api")


class Deed(StrEnum):
    """What a client does."""

    CONSUME = "consume"
    CONSUME_FEATURE = "consume feature"
    REGISTER = "register"
    BORROW = "borrow"
    UNREGISTER = "unregister"
    TAKE_FEATURE = "take feature"
    RELEASE_FEATURE = "release feature"


@dataclass(frozen=True, slots=True)
class Act:
    """One operation on the line of a feature name; `hours` of a borrow."""

    deed: Deed
    feature: str
    units: int = 1
    hours: int = 0
    reset_after_s: float | None = None
    repeats: bool = False


def acts(seed: int, client: int) -> Iterator[Act]:
    """Give the operations of one client, in order, without end; it registers first."""
    draw = Random(f"{seed}/licensespring/{client}")  # noqa: S311 - a mix, no secret
    kinds = [kind for kind, _ in _KINDS]
    weights = [weight for _, weight in _KINDS]
    yield _register(draw)
    while True:
        (kind,) = draw.choices(kinds, weights)
        act = kind(draw)
        reset_after_s, repeats = fate(draw)
        yield replace(act, reset_after_s=reset_after_s, repeats=repeats)


def _consume(draw: Random) -> Act:
    return Act(Deed.CONSUME, UNITS, draw.randint(1, 40))


def _consume_feature(draw: Random) -> Act:
    name = draw.choice(CONSUMED)
    return Act(Deed.CONSUME_FEATURE, name, draw.randint(1, 5 if name == "users" else 5_000))


def _too_much(draw: Random) -> Act:
    """More than the line has in all: nothing of it is granted."""
    return Act(Deed.CONSUME_FEATURE, "users", draw.randint(4_401, 5_000))


def _register(draw: Random) -> Act:
    return Act(Deed.REGISTER, SEATS)


def _borrow(draw: Random) -> Act:
    return Act(Deed.BORROW, SEATS, hours=draw.randint(2, 72))


def _unregister(draw: Random) -> Act:
    return Act(Deed.UNREGISTER, SEATS)


def _take_feature(draw: Random) -> Act:
    return Act(Deed.TAKE_FEATURE, FLOATING)


def _release_feature(draw: Random) -> Act:
    return Act(Deed.RELEASE_FEATURE, FLOATING)


_KINDS: Final[tuple[tuple[Callable[[Random], Act], int], ...]] = (
    (_consume, 40),
    (_consume_feature, 22),
    (_too_much, 3),
    (_register, 13),
    (_borrow, 5),
    (_unregister, 8),
    (_take_feature, 6),
    (_release_feature, 3),
)
