"""Seats by what clients were told: nobody may hold one that another one holds. Pure.

Decided here: from when until when a seat is held by the clients' own answers, and that at no moment
more are held than there are. Not decided here: how an answer is read (nemesis_clients.py,
nemesis_floating.py), what the store says (checker.py). Source: RELIABILITY 1 (I4), SEMANTICS 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.checker import Finding, Kind, Pair

LASTS_MS = 2**53  # of one that does not lapse


@dataclass(frozen=True)
class Held:
    """A host was told at `at_ms`, by the store's time, that it holds so many seats until then."""

    instance: str
    line: str
    host: str
    at_ms: int
    count: int
    lapses_ms: int = LASTS_MS


def over_seats(told: Iterable[Held], capacity: Mapping[Pair, int]) -> Iterator[Finding]:
    """I4 of seats: a finding for each line of which too many were held at a moment.

    What a host holds is what it was last told, until that lapses. Of what happened in one and the
    same ms, what is given back comes first, so that nothing is found that need not be.
    """
    by_host: dict[tuple[Pair, str], dict[int, Held]] = {}
    for each in told:
        moments = by_host.setdefault(((each.instance, each.line), each.host), {})
        known = moments.get(each.at_ms)
        if known is None or each.count < known.count:
            moments[each.at_ms] = each
    changes: dict[Pair, list[tuple[int, int]]] = {}
    for (pair, _), moments in by_host.items():
        inorder = [moments[at_ms] for at_ms in sorted(moments)]
        ends = [*(later.at_ms for _, later in pairwise(inorder)), LASTS_MS]
        for each, end_ms in zip(inorder, ends, strict=True):
            until_ms = min(each.lapses_ms, end_ms)
            if each.count and until_ms > each.at_ms:
                changes.setdefault(pair, []).extend(
                    [(each.at_ms, each.count), (until_ms, -each.count)]
                )
    for pair, of_line in sorted(changes.items()):
        yield from _beyond(pair, of_line, capacity[pair])


def _beyond(pair: Pair, changes: list[tuple[int, int]], capacity: int) -> Iterator[Finding]:
    held = most = moment_ms = 0
    for at_ms, change in sorted(changes):
        held += change
        if held > most:
            most, moment_ms = held, at_ms
    if most > capacity:
        where = f"{pair[0]} line {pair[1]}"
        text = f"I4: {where}: clients were told that they hold {most} of {capacity} at {moment_ms}"
        yield Finding(text, Kind.OVER, most - capacity)
