"""Usage reports and lines near capacity, read from what is recorded with the counts.

Decided here: that lapses are swept first, so that seats and units which came back are told as of
their moment; what is read of which months; how many reports are open at once, and that others have
their turn every few milliseconds. Not decided here: how fields become rows (core/reports.py), how
they are paged (store/usage.py), how rows are written (protocols/usage_report.py).
Source: INTERFACE 4, SEMANTICS 11, protocols/cmapi.md Q20 and Q21.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import BadRequest, InvalidInput, Unavailable
from gateway.core.model import Line
from gateway.core.periods import local_day, zone
from gateway.core.reports import Fold, Row, Sums
from gateway.core.reports_asked import Asked, Grouping, Thing, View, check_kept
from gateway.core.reports_capacity import (
    NearCapacity,
    Recent,
    fullest_first,
    near_capacity,
    window,
)
from gateway.core.reports_periods import Days, Unit
from gateway.protocols.usage_report import CsvText, Head, JsonText
from gateway.store.acked import read_acked
from gateway.store.catalogues import Catalogues
from gateway.store.usage import Clock, Record

READING_MAX: Final = 2  # months read at once in this process; a slow reader of rows holds none
OPEN_MAX: Final = 8  # reports open at once in this process; each may keep the sums of a month
OPEN_RETRY_S: Final = 5
JUDGED_MAX: Final = 200  # lines judged at a time, each in some 20 us

_DAILY: Final = Grouping(Unit.DAY, Thing.LINE)


@dataclass
class Places:
    """Places for reports that are open: being made, or waiting for whoever takes their rows."""

    free: int = OPEN_MAX

    def check(self) -> None:
        """Raise Unavailable when there is none; a retry helps when others are done."""
        if not self.free:
            raise Unavailable("Too many reports are open", "not_applied", OPEN_RETRY_S)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place for a while. Raises as `check`."""
        self.check()
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1


@dataclass
class Reports:
    """Makes reports of instances. `sweep` has everything returned that has lapsed."""

    catalogues: Catalogues
    sweep: Callable[[str], Awaitable[object]]
    places: Places = field(default_factory=Places)
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READING_MAX))

    async def open(self, index: CatalogueIndex, asked: Asked) -> Report:
        """Begin a report: everything that can be refused is. Its rows are read as they are taken.

        It has its place from its first row to its end. Raises BadRequest naming the member that is
        wrong, Unavailable.
        """
        self.places.check()
        lines = _lines(index, asked.features)
        await self.sweep(index.catalogue.id)
        record = Record(self.catalogues.client, self.catalogues.keys(index.catalogue.id))
        clock = await record.clock()
        tz = zone(index.catalogue.timezone)
        today, since = local_day(clock.now_ms, tz), local_day(clock.since_ms, tz)
        days = [asked.days(today), *([asked.before(today)] if asked.compare else [])]
        await record.begin()
        for each in days:
            check_kept(each, asked.by, record.folded)
        return Report(
            [
                Part(
                    _head(index, asked, each),
                    _Reading(self._turn, record, asked, each, today, since, lines),
                )
                for each in days
            ],
            self.places,
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

        The fullest come first. Raises BadRequest for a feature that the instance does not have,
        Unavailable.
        """
        with self.places.taken():
            return await self._near_capacity(index, features)

    async def _near_capacity(
        self, index: CatalogueIndex, features: tuple[str, ...]
    ) -> list[NearCapacity]:
        lines = [line for line in _lines(index, features) if not line.retired]
        await self.sweep(index.catalogue.id)
        record = Record(self.catalogues.client, self.catalogues.keys(index.catalogue.id))
        clock = await record.clock()
        recent = await self._recent(record, index, clock, lines)
        used = await record.used()
        found: list[NearCapacity] = []
        for start in range(0, len(lines), JUDGED_MAX):
            some = lines[start : start + JUDGED_MAX]
            found += near_capacity(
                index, some, used, recent, since_ms=clock.since_ms, now_ms=clock.now_ms
            )
            await asyncio.sleep(0)
        return sorted(found, key=fullest_first)

    async def _recent(
        self, record: Record, index: CatalogueIndex, clock: Clock, lines: list[Line]
    ) -> dict[str, Recent]:
        tz = zone(index.catalogue.timezone)
        today, since = local_day(clock.now_ms, tz), local_day(clock.since_ms, tz)
        days = Days(window(today).first, today)
        await record.begin()
        metered = [line.id for line in lines if line.model.metered]
        # Before its days: what is acknowledged meanwhile makes no line look older than it is.
        acked = await read_acked(record.client, record.keys, metered)
        asked = Asked(View.USAGE, _DAILY, range=days)
        units: dict[str, dict[str, int]] = {}
        peaks: dict[str, int] = {}
        reading = _Reading(self._turn, record, asked, days, today, since, lines)
        async with aclosing(reading.rows()) as lists:
            async for rows in lists:
                for row in rows:
                    units.setdefault(row.line, {})[row.label] = row.sums.units
                    peaks[row.line] = max(peaks.get(row.line, 0), row.sums.most)
        return {
            line: _recent(of_days, peaks[line], today, acked.get(line, 0))
            for line, of_days in units.items()
        }


@dataclass
class Part:
    """A report on one range of days; `total` is whole when all rows were taken."""

    head: Head
    _reading: _Reading

    @property
    def total(self) -> Sums:
        return self._reading.total

    def rows(self) -> AsyncGenerator[list[Row], None]:
        """Read the rows, some at a time; whoever takes them closes it."""
        return self._reading.rows()


@dataclass
class Report:
    """A report that was begun: the days asked for and, when compared, those before them."""

    parts: list[Part]
    places: Places

    async def json(self) -> AsyncGenerator[bytes, None]:
        """Write it as one JSON object, in pieces. Raises Unavailable, also when too many are open;
        BadRequest when what it is grouped by stopped being kept while it was read.
        """
        with self.places.taken():
            for number, part in enumerate(self.parts):
                text = JsonText(part.head)
                yield (b',"previous":' if number else b"") + text.begin()
                async with aclosing(part.rows()) as lists:
                    async for rows in lists:
                        yield text.rows(rows)
                yield text.end(part.total)
            yield b"}" * len(self.parts)

    async def csv(self) -> AsyncGenerator[bytes, None]:
        """Write the rows of the days asked for as CSV, in pieces; raises as `json` does."""
        with self.places.taken():
            text = CsvText(self.parts[0].head)
            yield text.begin()
            async with aclosing(self.parts[0].rows()) as lists:
                async for rows in lists:
                    yield text.rows(rows)

    async def read(self, rows_max: int | None = None) -> list[tuple[Part, list[Row]]]:
        """Read all of it; raises as `json` does, and InvalidInput beyond `rows_max` rows."""
        found, count = [], 0
        with self.places.taken():
            for part in self.parts:
                found.append((part, all_rows := list[Row]()))
                async with aclosing(part.rows()) as lists:
                    async for rows in lists:
                        all_rows += rows
                        count += len(rows)
                        if rows_max is not None and count > rows_max:
                            raise InvalidInput(f"There are more than {rows_max:,} rows")
        return found


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

    async def rows(self) -> AsyncGenerator[list[Row], None]:
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
                if rows:
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


def _recent(units: dict[str, int], peak: int, today: date, acked: int) -> Recent:
    """Say what a line's days come to; `units` has today's too, and days of denials alone."""
    young = acked <= sum(units.values())  # all that it ever counted
    since = date.fromisoformat(min(units)) if young else None
    units.pop(today.isoformat(), None)  # it is not over
    return Recent(units, peak, since)


def _head(index: CatalogueIndex, asked: Asked, days: Days) -> Head:
    return Head(
        instance=index.catalogue.id,
        timezone=index.catalogue.timezone,
        days=days,
        by=str(asked.by),
        columns=asked.columns,
        counts=asked.counts,
    )
