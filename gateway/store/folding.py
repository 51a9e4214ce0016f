"""Folding the days of a month into one entry a line, some lines in a call of the script.

Decided here: which fields go together (all that a line has of the month), and how much a call and a
visit may move, so that the store is held for a few ms. Not decided here: what the fields come to
(lua/fold.lua) and which months are old enough (core/reports_periods.py). No lease protects this: a
repeat, or another process at the same month, finds nothing left to move. What a crash of the store
takes back is whole days again, so that no call waits for the disk. Source: DESIGN 4, SEMANTICS 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.scripts import Scripts
from gateway.store.topology import Client
from gateway.store.walks import steps

FOLD_FIELDS_MAX: Final = 1_000  # in one call, and those of one line more
FOLD_LINES_MAX: Final = 500  # in one visit; with 31 days of all kinds some 200,000 fields
_SCAN_FIELDS: Final = 2_000  # asked for at a time

_encode: Final = msgspec.msgpack.Encoder().encode

_Line = tuple[str, list[str]]  # a line, and its fields


@dataclass(frozen=True, slots=True)
class Moved:
    """What a visit to a month did: how many lines it looked at and moved; whether it left some."""

    lines: int
    moved: int
    left: bool


@dataclass(frozen=True)
class Folds:
    """What an instance has in days and in months. All raise Unavailable; a retry is safe."""

    client: Client
    scripts: Scripts
    keys: InstanceKeys

    async def moments(self) -> tuple[int, int]:
        """Tell since when the instance records and when its last transaction was, in ms; 0: never.

        All that it will ever record happens then or later, but for lapses that are not swept yet.
        """
        since_ms, last_ms = await answered(
            self.client.hmget(self.keys.ledger, ["since_ms", "last_ms"])
        )
        return int(since_ms or 0), int(last_ms or 0)

    async def with_days(self, months: Sequence[int]) -> list[int]:
        """Say which of these months (yyyymm) have days that are kept as such."""
        if not months:
            return []
        pipeline = self.client.pipeline(transaction=False)
        for month in months:
            pipeline.exists(self.keys.days(month))
        there = await answered(pipeline.execute())
        return [month for month, exists in zip(months, there, strict=True) if exists]

    async def fold(self, month: int, lines_max: int = FOLD_LINES_MAX) -> Moved:
        """Fold at most so many lines of a month (yyyymm).

        The caller sees to it that the month is old enough, and that earlier ones were folded.
        """
        lines, left = await self._lines(month, lines_max)
        keys = [self.keys.days(month), self.keys.month(month), self.keys.ledger]
        moved = 0
        for some in portions(lines):
            moved += await answered(
                self.scripts.fold.run(self.client, keys, [month, _encode(some)])
            )
        return Moved(len(lines), moved, left)

    async def _lines(self, month: int, lines_max: int) -> tuple[list[_Line], bool]:
        """Find all fields of the first lines that come by, and whether there are other lines.

        A field that is written meanwhile may be missed: it stays in days and is folded next.
        """
        found: dict[str, set[str]] = {}
        left = False
        async for fields in steps(self.client, self.keys.days(month), count=_SCAN_FIELDS):
            for name in map(bytes.decode, fields):
                line = name.partition("|")[0]
                if line in found or len(found) < lines_max:
                    found.setdefault(line, set()).add(name)
                else:
                    left = True
        return [(line, sorted(names)) for line, names in found.items()], left


def portions(lines: Sequence[_Line], fields_max: int = FOLD_FIELDS_MAX) -> Iterator[list[_Line]]:
    """Cut lines into what one call may move: a line is never cut, so that it moves at once."""
    some: list[_Line] = []
    fields = 0
    for line in lines:
        some.append(line)
        fields += len(line[1])
        if fields >= fields_max:
            yield some
            some, fields = [], 0
    if some:
        yield some
