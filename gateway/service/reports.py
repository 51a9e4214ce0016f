"""Usage reports and lines near capacity, read from what is recorded with the counts.

Decided here: that lapses are swept first, so that seats and units which came back are told as of
their moment; what is read of which months; how many reports are made at once. Not decided here:
how fields become rows (core/reports.py), how they are paged (store/usage.py), how rows are written
(protocols/usage_report.py). Source: INTERFACE 4, SEMANTICS 11, protocols/cmapi.md Q20 and Q21.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import BadRequest
from gateway.core.model import Line
from gateway.core.periods import local_day, zone
from gateway.core.reports import Fold, Row, Sums
from gateway.core.reports_asked import Asked, Grouping, Thing, View, check_kept
from gateway.core.reports_capacity import NearCapacity, Recent, near_capacity, window
from gateway.core.reports_periods import Days, Unit
from gateway.protocols.usage_report import CsvText, Head, JsonText
from gateway.store.catalogues import Catalogues
from gateway.store.usage import Clock, Record

READING_MAX: Final = 2  # months read at once in this process; a slow reader of rows holds none

_DAILY: Final = Grouping(Unit.DAY, Thing.LINE)


@dataclass
class Reports:
    """Makes reports of instances. `sweep` has everything returned that has lapsed."""

    catalogues: Catalogues
    sweep: Callable[[str], Awaitable[object]]
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READING_MAX))

    async def open(self, index: CatalogueIndex, asked: Asked) -> Report:
        """Begin a report: everything that can be refused is. Its rows are read as they are taken.

        Raises BadRequest naming the member that is wrong, Unavailable.
        """
        lines = _lines(index, asked.features)
        await self.sweep(index.catalogue.id)
        record = Record(self.catalogues.client, self.catalogues.keys(index.catalogue.id))
        clock = await record.clock()
        tz = zone(index.catalogue.timezone)
        today, since = local_day(clock.now_ms, tz), local_day(clock.since_ms, tz)
        days = [asked.days(today), *([asked.before(today)] if asked.compare else [])]
        await record.begin(min(each.months[0] for each in days))
        for each in days:
            check_kept(each, asked.by, record.folded)
        return Report(
            [
                Part(
                    _head(index, asked, each),
                    _Reading(self._turn, record, asked, each, today, since, lines),
                )
                for each in days
            ]
        )

    async def days(self, index: CatalogueIndex, asked: Asked) -> Days:
        """Say which days a question is about now. Raises as `open`."""
        _lines(index, asked.features)
        record = Record(self.catalogues.client, self.catalogues.keys(index.catalogue.id))
        now_ms = (await record.clock()).now_ms
        return asked.days(local_day(now_ms, zone(index.catalogue.timezone)))

    async def near_capacity(
        self, index: CatalogueIndex, features: tuple[str, ...] = ()
    ) -> list[NearCapacity]:
        """List the lines that are near capacity, or will be past it before they reset.

        Raises BadRequest for a feature that the instance does not have, Unavailable.
        """
        lines = [line for line in _lines(index, features) if not line.retired]
        await self.sweep(index.catalogue.id)
        record = Record(self.catalogues.client, self.catalogues.keys(index.catalogue.id))
        clock = await record.clock()
        recent = await self._recent(record, index, clock, lines)
        return near_capacity(
            index,
            await record.used(),
            recent,
            since_ms=clock.since_ms,
            now_ms=clock.now_ms,
            features=features,
        )

    async def _recent(
        self, record: Record, index: CatalogueIndex, clock: Clock, lines: list[Line]
    ) -> dict[str, Recent]:
        tz = zone(index.catalogue.timezone)
        today, since = local_day(clock.now_ms, tz), local_day(clock.since_ms, tz)
        days = Days(window(today).first, today)
        await record.begin(days.months[0])
        asked = Asked(View.USAGE, _DAILY, range=days)
        units: dict[str, dict[str, int]] = {}
        peaks: dict[str, int] = {}
        reading = _Reading(self._turn, record, asked, days, today, since, lines)
        async for rows in reading.rows():
            for row in rows:
                if row.label != today.isoformat():  # today is not over
                    units.setdefault(row.line, {})[row.label] = row.sums.units
                peaks[row.line] = max(peaks.get(row.line, 0), row.sums.most)
        return {
            line: Recent(units.get(line, {}), peaks.get(line, 0)) for line in units.keys() | peaks
        }


@dataclass
class Part:
    """A report on one range of days; `total` is whole when all rows were taken."""

    head: Head
    _reading: _Reading

    @property
    def total(self) -> Sums:
        return self._reading.total

    def rows(self) -> AsyncIterator[list[Row]]:
        return self._reading.rows()


@dataclass
class Report:
    """A report that was begun: the days asked for and, when compared, those before them."""

    parts: list[Part]

    async def json(self) -> AsyncIterator[bytes]:
        """Write it as one JSON object, in pieces. Raises Unavailable; BadRequest when what it is
        grouped by stopped being kept while it was read.
        """
        for number, part in enumerate(self.parts):
            text = JsonText(part.head)
            yield (b',"previous":' if number else b"") + text.begin()
            async for rows in part.rows():
                if rows:
                    yield text.rows(rows)
            yield text.end(part.total)
        yield b"}" * len(self.parts)

    async def csv(self) -> AsyncIterator[bytes]:
        """Write the rows of the days asked for as CSV, in pieces; raises as `json` does."""
        text = CsvText(self.parts[0].head)
        yield text.begin()
        async for rows in self.parts[0].rows():
            if rows:
                yield text.rows(rows)

    async def read(self) -> list[tuple[Part, list[Row]]]:
        """Read all of it; raises as `json` does."""
        return [(part, [row async for rows in part.rows() for row in rows]) for part in self.parts]


@dataclass
class _Reading:
    """Reads a range of days into rows, month by month."""

    turn: asyncio.Semaphore
    record: Record
    asked: Asked
    days: Days
    today: date
    since: date
    lines: list[Line]
    total: Sums = field(default_factory=Sums)

    async def rows(self) -> AsyncIterator[list[Row]]:
        months = self.days.months
        seats = [] if self.asked.by.code else [x.id for x in self.lines if not x.model.metered]
        since = self.since.year * 100 + self.since.month
        held = await self.record.held_before(months[0], since, seats)
        fold = Fold(self.asked, self.days, self.today, self.lines, held)
        self.total = fold.total
        for month in months:
            async with self.turn:
                ready = await self._month(fold, month)
            for rows in ready:
                yield rows
                await asyncio.sleep(0)

    async def _month(self, fold: Fold, month: int) -> Iterator[list[Row]]:
        found = await self.record.month(month)
        # Folded since this report began: what it is grouped by may not be kept any more.
        check_kept(self.days, self.asked.by, self.record.folded)
        fold.begin_month(month, folded=found.folded)
        for portion in found.portions():
            fold.take(portion)
            await asyncio.sleep(0)  # others have requests to be answered
        return fold.end_month()


def _lines(index: CatalogueIndex, features: tuple[str, ...]) -> list[Line]:
    """Find the lines of these features, or all; retired ones included."""
    lines = index.catalogue.lines
    known = {line.feature for line in lines}
    for feature in features:
        if feature not in known:
            raise BadRequest(f"This instance has no feature {feature[:128]!r}", "feature")
    return [line for line in lines if not features or line.feature in features]


def _head(index: CatalogueIndex, asked: Asked, days: Days) -> Head:
    return Head(
        instance=index.catalogue.id,
        timezone=index.catalogue.timezone,
        days=days,
        by=str(asked.by),
        columns=asked.columns,
        counts=asked.counts,
    )
