"""What a client of the demonstration asks for: an endless, seeded mix of access requests.

Decided here: which kinds of request there are, how often each comes, and where a fault is injected.
A request depends on the seed, the client's number and its place alone, never on an answer: the same
seed is the same mix, however fast it is answered. Not decided here: what an answer must say
(journal.py), how a request travels (wire.py, fleet.py). Source: SEMANTICS 4, 5, 6 and 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final, TypeAlias

Wanted: TypeAlias = tuple[str, str, int]  # name, version and count, as sent

RESET_SHARE: Final = 0.03  # of requests whose connection is reset before the answer is read
RESET_AFTER_S_MAX: Final = 0.02  # some are reset before they are applied, some after
REPEAT_SHARE: Final = 0.04  # of requests after which an id that is answered is sent again


@dataclass(frozen=True, slots=True)
class Ask:
    """One access request and what is to happen to it; `reset_after_s` None: nothing."""

    features: tuple[Wanted, ...]
    incremental: bool = True
    partial: bool = True
    interval: str = "0d"
    reset_after_s: float | None = None
    repeats: bool = False


def asks(seed: int, client: int) -> Iterator[Ask]:
    """Give the requests of one client, in order, without end."""
    draw = Random(f"{seed}/{client}")  # noqa: S311 - a mix, no secret
    kinds = [kind for kind, _ in _KINDS]
    weights = [weight for _, weight in _KINDS]
    while True:
        (kind,) = draw.choices(kinds, weights)
        ask = kind(draw)
        reset_after_s, repeats = fate(draw)
        yield replace(ask, reset_after_s=reset_after_s, repeats=repeats)


def fate(draw: Random) -> tuple[float | None, bool]:
    """Draw what is to happen to a request: when it is reset, if it is, and whether an id that is
    answered follows it once more.
    """
    # All of it for every request, so that a changed share leaves the requests as they were.
    reset, after_s, repeats = draw.random(), draw.random(), draw.random()
    reset_after_s = after_s * RESET_AFTER_S_MAX if reset < RESET_SHARE else None
    return reset_after_s, repeats < REPEAT_SHARE


def read_back() -> Ask:
    """Give the request that changes nothing and is answered with all that the host holds."""
    return Ask(())


def _usage(draw: Random) -> Ask:
    # Incremental, or the seats that the same host holds would be released (SEMANTICS 12).
    return Ask(_consumption(draw), partial=draw.random() < 0.7)


def _usage_that_releases(draw: Random) -> Ask:
    return Ask(_consumption(draw), incremental=False)


def _consumption(draw: Random) -> tuple[Wanted, ...]:
    features = [("sessions", "1.0", draw.randint(1, 40))]
    if draw.random() < 0.6:
        features.append(("users", "1.0", draw.randint(1, 5)))
    if draw.random() < 0.3:
        features.append(("api", "0", draw.randint(1, 5_000)))
    return tuple(features)


def _undo(draw: Random) -> Ask:
    return Ask((("users", "1.0", -draw.randint(1, 4)),), partial=draw.random() < 0.5)


def _undo_of_nothing_undoable(draw: Random) -> Ask:
    return Ask((("sessions", "1.0", -draw.randint(1, 4)),))


def _checkout(draw: Random) -> Ask:
    seats = draw.randint(1, 2)
    return Ask((("editor", "1.0", seats),), partial=draw.random() < 0.5, interval="1h")


def _whole_set(draw: Random) -> Ask:
    """Hold exactly this: a checkout at first, a renewal when it is what is held already."""
    features: list[Wanted] = [("editor", "2.0", draw.randint(0, 2))]
    if draw.random() < 0.5:
        features.append(("pages", "1.0", draw.randint(0, 15)))
    return Ask(tuple(features), incremental=False, partial=draw.random() < 0.5, interval="2h")


def _give_back(draw: Random) -> Ask:
    if draw.random() < 0.5:
        return Ask((("editor", "1.0", -1),), partial=draw.random() < 0.5)
    return Ask((("pages", "1.0", -draw.randint(1, 6)),))


def _pages(draw: Random) -> Ask:
    return Ask((("pages", "1.0", draw.randint(1, 12)),), partial=draw.random() < 0.7)


def _release(draw: Random) -> Ask:
    return Ask((), incremental=False)


def _read_back(draw: Random) -> Ask:
    return read_back()


def _denied(draw: Random) -> Ask:
    unknown: Wanted = ("plotter", "1.0", 1)
    too_new: Wanted = ("editor", "9.0", 1)
    too_many: Wanted = ("editor", "2.0", 100)
    # Not partial: a partial grant of too many would leave nothing to the others.
    return Ask((draw.choice((unknown, too_new, too_many)), ("sessions", "1.0", 1)), partial=False)


_KINDS: Final[tuple[tuple[Callable[[Random], Ask], int], ...]] = (
    (_usage, 46),
    (_usage_that_releases, 5),
    (_undo, 8),
    (_undo_of_nothing_undoable, 1),
    (_checkout, 11),
    (_whole_set, 9),
    (_give_back, 8),
    (_pages, 6),
    (_release, 1),
    (_read_back, 2),
    (_denied, 3),
)
