"""One line, for whoever wants to know all of it: its last days, its books, who holds it.

Decided here: that the days are the last DAYS_SHOWN of the instance's time zone, today's included,
as far as days are kept; that whether its books agree is judged by the rule of all books. Not
decided here: how days become sums (core/reports.py). Source: SEMANTICS 11, INTERFACE 4.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Line
from gateway.core.periods import local_day, zone
from gateway.core.reports import Fold, Row
from gateway.core.reports_asked import Asked, Grouping, View
from gateway.core.reports_periods import Days, Unit, shifted
from gateway.protocols.cmapi_features import Page
from gateway.service.features import Features
from gateway.service.line_standings import LineStanding
from gateway.store.catalogues import Catalogues
from gateway.store.ledgers import UpstreamSums
from gateway.store.lines import read_line_days, read_line_sums
from gateway.store.reads import Served, read_last_seen
from gateway.store.usage import Record

DAYS_SHOWN: Final = 30


class LineDays(msgspec.Struct, frozen=True):
    """What a line did on each day, the earliest first, and what it denied in all by code."""

    rows: list[Row]
    denied: dict[str, int]


class Account(msgspec.Struct, frozen=True):
    """What became of a line's units on the way to one upstream, and whether it adds up. `acked`
    counts since the upstream was attached.
    """

    upstream: str
    acked: int
    sums: UpstreamSums

    @property
    def balanced(self) -> bool:
        return self.acked == self.sums.accounted


class Accounts(msgspec.Struct, frozen=True):
    """The books of a line: all units it ever granted, by day too, and what became of them."""

    acked: int
    days: int
    upstreams: list[Account]


class Holder(msgspec.Struct, frozen=True):
    """A host, in canonical form, and what it has of a line: held, or consumed and still to be
    undone. `since_ms` 0: not known; `lapses_ms` 0: it does not lapse.
    """

    host: str
    units: int
    since_ms: int
    lapses_ms: int
    borrowed: bool
    seen_ms: int | None


class Holders(msgspec.Struct, frozen=True):
    """A page of those who have something of a line; `after` begins the next one."""

    holders: list[Holder]
    after: int | None


@dataclass(frozen=True, slots=True)
class LineDetails:
    """Reads one line of an instance. Everything raises Unavailable; a retry is always safe."""

    catalogues: Catalogues
    features: Features

    async def standing(
        self, index: CatalogueIndex, line: str
    ) -> tuple[int, LineStanding, list[LineStanding]]:
        """Tell how the line of an id stands, when, and the others of its feature or licence.

        Raises NotFound.
        """
        return await self.features.standing(index, line)

    async def days(self, index: CatalogueIndex, line: Line) -> LineDays:
        """Tell what a line did on the last days."""
        keys = self.catalogues.keys(index.catalogue.id)
        record = Record(self.catalogues.client, keys)
        clock = await record.clock()
        await record.begin()
        tz = zone(index.catalogue.timezone)
        today, since = local_day(clock.now_ms, tz), local_day(clock.since_ms, tz)
        days = _kept_days(today, record.folded)
        whole = Days(days.first.replace(day=1), days.last)  # seats held before the first day
        found = await read_line_days(record.client, keys, line.id, list(whole))
        seats = [] if line.model.metered else [line.id]
        held = await record.held_before(days.months[0], _month(since), seats)
        asked = Asked(View.USAGE, Grouping(Unit.DAY), features=(line.feature,), range=days)
        fold = Fold(asked, days, today, [line], held)
        rows: list[Row] = []
        denied: Counter[str] = Counter()
        for month in days.months:
            fields = found.get(month, {})
            fold.begin_month(month, folded=False)
            fold.take(fields.items())
            for some in fold.end_month():
                rows += some
            for name, count in fields.items():
                _, day, kind = name.decode().split("|", 2)
                if kind.startswith("d:") and day >= f"{days.first:%Y%m%d}":
                    denied[kind.removeprefix("d:")] += int(count)
        return LineDays(rows, dict(denied.most_common()))

    async def accounts(self, index: CatalogueIndex, line: Line) -> Accounts:
        """Tell what became of all that a metered line granted."""
        keys = self.catalogues.keys(index.catalogue.id)
        names = [each.name for each in index.catalogue.upstreams]
        found = await read_line_sums(self.catalogues.client, keys, line.id, names)
        accounts = [
            Account(name, found.acked - sums.base, sums) for name, sums in found.upstreams.items()
        ]
        return Accounts(found.acked, found.days, accounts)

    async def holders(
        self, index: CatalogueIndex, standing: LineStanding, page: Page, at_ms: int
    ) -> Holders:
        """Give a page of those who have something of a line. Raises Unavailable, also when there
        are too many hosts to look at.
        """
        instance, line = index.catalogue.id, standing.line
        if standing.held == 0:
            return Holders([], None)
        served, after = await self.features.served(instance, line, page, at_ms)
        keys = self.catalogues.keys(instance)
        hosts = [each.host for each in served]
        seen = await read_last_seen(self.catalogues.client, keys, hosts) if hosts else {}
        return Holders([_holder(each, seen.get(each.host)) for each in served], after)


def _kept_days(today: date, folded: int) -> Days:
    """Give the days to be shown; those of a month that was folded (yyyymm) are not kept."""
    first = today - timedelta(days=DAYS_SHOWN - 1)
    if folded and _month(first) <= folded:
        first = shifted(Unit.MONTH, date(folded // 100, folded % 100, 1), 1)
    return Days(min(first, today), today)


def _month(day: date) -> int:
    return day.year * 100 + day.month


def _holder(served: Served, seen_ms: int | None) -> Holder:
    holding = served.holding
    return Holder(
        served.host,
        served.units,
        holding.since_ms if holding else served.last_ms,
        holding.lapses_ms if holding else 0,
        holding.borrowed if holding else False,
        seen_ms,
    )
