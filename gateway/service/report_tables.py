"""A report as a table and charts: rows beside those of the period before, and what they come to.

Decided here: which row of before stands beside which of now (the same place in time, the same
feature, line and code), in which order, and what is drawn: a chart in time has no holes. Not
decided here: what is counted (core/reports.py), how it is shown (web/ui/). Pure but for reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.core.reports import Row, Sums
from gateway.core.reports_asked import Asked, View
from gateway.core.reports_periods import label_of
from gateway.protocols.usage_report import Head
from gateway.service.reports import Report

ROWS_MAX: Final = 5_000  # of a table; more are for a download
DRAWN_MAX: Final = 6  # charts of one report
NO_LINE: Final = "of no line"  # what was asked for and no line has

_Key = tuple[int, str, str, str]


class Beside(msgspec.Struct, frozen=True):
    """A row, and the one of the period before; either may be missing. `label` says when."""

    now: Row | None
    before: Row | None
    label: str

    @property
    def row(self) -> Row:
        """The row that says of what both are."""
        row = self.now or self.before
        assert row is not None  # noqa: S101 - it was made of one
        return row


class Drawing(msgspec.Struct, frozen=True):
    """What one chart draws: what it is of, and a value per label, of now and of before."""

    of: str
    labels: list[str]
    now: list[int]
    before: list[int] | None


class ReportTable(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report. `undrawn`: so many things have no chart of their own."""

    head: Head
    head_before: Head | None
    rows: list[Beside]
    total: Sums
    total_before: Sums | None
    drawings: list[Drawing]
    undrawn: int


async def read_table(asked: Asked, report: Report) -> ReportTable:
    """Read a report into a table. Raises what reading it raises; InvalidInput beyond ROWS_MAX."""
    [(part, rows), *rest] = await report.read(ROWS_MAX)
    earlier = rest[0][1] if rest else None
    labels = _labels(asked, part.head)
    beside = _beside(asked, labels, rows, earlier)
    drawings, undrawn = _drawings(asked, labels, beside, compared=earlier is not None)
    return ReportTable(
        head=part.head,
        head_before=rest[0][0].head if rest else None,
        rows=beside,
        total=part.total,
        total_before=rest[0][0].total if rest else None,
        drawings=drawings,
        undrawn=undrawn,
    )


def count_of(view: View, sums: Sums | None) -> int:
    """Give the count that a view is about; of seats the most that can have been held at once."""
    if sums is None:
        return 0
    return {View.USAGE: sums.units, View.DENIALS: sums.denied, View.PEAKS: sums.most}[view]


def _labels(asked: Asked, head: Head) -> list[str]:
    """Name all places in time; none where rows have no time."""
    unit = asked.by.unit
    return [] if unit is None else list(dict.fromkeys(label_of(unit, day) for day in head.days))


def _beside(
    asked: Asked, labels: Sequence[str], rows: Sequence[Row], earlier: Sequence[Row] | None
) -> list[Beside]:
    """Join rows to those of before: in time as time goes, else what counts most first."""
    before = {_key(row): row for row in earlier or ()}
    found = [Beside(row, before.pop(_key(row), None), row.label) for row in rows]
    for row in before.values():
        # February has no place for the 30th of the month before: that keeps its own name.
        label = labels[row.place] if row.place < len(labels) else row.label
        found.append(Beside(None, row, label))
    if asked.by.unit is not None:
        return sorted(found, key=lambda each: _key(each.row))
    return sorted(found, key=lambda each: (-abs(_now(asked, each)), *_key(each.row)))


def _key(row: Row) -> _Key:
    return row.place, row.feature, row.line, row.code


def _now(asked: Asked, beside: Beside) -> int:
    return count_of(asked.view, beside.now.sums if beside.now else None)


def _before(asked: Asked, beside: Beside) -> int:
    return count_of(asked.view, beside.before.sums if beside.before else None)


def _drawings(
    asked: Asked, labels: Sequence[str], rows: Sequence[Beside], *, compared: bool
) -> tuple[list[Drawing], int]:
    """Say what is drawn: by time a chart for each thing, the greatest first; else one in all."""
    if asked.by.unit is None:
        if not rows:
            return [], 0
        before = [_before(asked, each) for each in rows] if compared else None
        names = [_thing(asked, each.row) for each in rows]
        return [Drawing("", names, [_now(asked, each) for each in rows], before)], 0
    things: dict[tuple[str, str, str], list[Beside]] = {}
    for each in rows:
        row = each.row
        things.setdefault((row.feature, row.line, row.code), []).append(each)
    sums = {thing: sum(abs(_now(asked, each)) for each in some) for thing, some in things.items()}
    greatest = sorted(things, key=lambda thing: (-sums[thing], thing))
    drawn = [
        _in_time(asked, labels, things[thing], compared=compared) for thing in greatest[:DRAWN_MAX]
    ]
    return drawn, max(0, len(greatest) - DRAWN_MAX)


def _in_time(
    asked: Asked, labels: Sequence[str], rows: Sequence[Beside], *, compared: bool
) -> Drawing:
    """Draw one thing: what has no row was 0."""
    named = {place: label for place, label in enumerate(labels)}
    named |= {each.row.place: each.label for each in rows}
    now = {each.row.place: _now(asked, each) for each in rows}
    before = {each.row.place: _before(asked, each) for each in rows}
    places = sorted(named)
    return Drawing(
        _of(asked, rows[0].row),
        [named[place] for place in places],
        [now.get(place, 0) for place in places],
        [before.get(place, 0) for place in places] if compared else None,
    )


def _of(asked: Asked, row: Row) -> str:
    """Name what a chart in time is of; "" where it is of all."""
    words = (row.feature, row.line) if row.feature or row.line else (_no_line(asked),)
    return " ".join(word for word in (*words, row.code) if word)


def _thing(asked: Asked, row: Row) -> str:
    """Name a column of a chart of things."""
    return " ".join(word for word in (row.line or row.feature or _no_line(asked), row.code) if word)


def _no_line(asked: Asked) -> str:
    return "" if asked.by.thing is None else NO_LINE
