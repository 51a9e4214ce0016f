"""An instance whose journal is recorded in the store, to be folded and looked at by reports."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Catalogue, Line
from gateway.core.reports import Row
from gateway.core.reports_asked import View, read_asked
from gateway.core.reports_periods import Days
from gateway.service.balance import audit
from gateway.service.folding import Folder
from gateway.service.reports import Reports
from gateway.service.sweeping import Sweeper
from gateway.store.opening import Store
from tests.core.reports_journal import LINES, Journal, lines_of
from tests.vectors.served import CLOCK

FIRST, LAST = date(2029, 1, 3), date(2029, 5, 20)
_numbers = iter(range(1_000))


class House:
    """An instance of a test's own, in a time zone, on a store whose clock is set."""

    def __init__(self, store: Store, timezone: str, lines: tuple[Line, ...]) -> None:
        self.store = store
        self.instance = f"FOLDING-{next(_numbers)}"
        self.keys = store.catalogues.keys(self.instance)
        self.zone = ZoneInfo(timezone)
        self.catalogue = Catalogue(id=self.instance, timezone=timezone, lines=lines)
        self.sweep = Sweeper(store.catalogues, store.lane).sweep
        self.reports = Reports(store.catalogues, self.sweep)

    async def begin(self, at_ms: int) -> CatalogueIndex:
        await self.set_clock(at_ms)
        await self.store.catalogues.put(self.catalogue)
        return await self.index()

    async def index(self) -> CatalogueIndex:
        found = await self.store.catalogues.read(self.instance)
        assert found is not None
        return found

    async def set_clock(self, at_ms: int) -> None:
        await self.store.client.set(CLOCK, at_ms)

    async def write(self, made: Journal) -> None:
        """Record a journal, with the sums of the ledger that belong to it."""
        acked: dict[str, int] = {}
        for month, fields in made.months().items():
            await self.store.client.hset(self.keys.days(month), mapping=dict(fields))
        for _, line, units in made.units:
            acked[line] = acked.get(line, 0) + units
        used = {f"{line}|0": seats for _, line, seats in made.seats}
        await self.store.client.hset(self.keys.used, mapping=dict(used))
        sums = {f"{word}|{line}": n for line, n in acked.items() for word in ("acked", "days")}
        await self.store.client.hset(self.keys.ledger, mapping=dict(sums))

    def folder(
        self, retention_months: int, sweep: Callable[[str], Awaitable[object]] | None = None
    ) -> Folder:
        # A hint that is far ahead must not fold anything by itself.
        hint_ms = 9_000_000_000_000
        return Folder(self.store.catalogues, sweep or self.sweep, retention_months, lambda: hint_ms)

    async def kept(self, months: range | list[int]) -> list[int]:
        """List the months of these that have days."""
        return [each for each in months if await self.store.client.exists(self.keys.days(each))]

    async def rows(self, **members: str) -> list[Row]:
        asked = read_asked(View.USAGE, {name: [text] for name, text in members.items()})
        ((_, rows),) = await (await self.reports.open(await self.index(), asked)).read()
        return rows

    async def balanced(self) -> bool:
        return (await audit(self.store.catalogues, self.instance, deep=True)).differences == []

    async def months(self) -> dict[str, int]:
        """Read all that was folded, of any month."""
        folded: dict[str, int] = {}
        async for key in self.store.client.scan_iter(match=f"{self.keys.prefix}month:*"):
            found = await self.store.client.hgetall(key)
            folded |= {name.decode(): int(value) for name, value in found.items()}
        return folded


async def check(house: House, made: Journal, dice: random.Random) -> None:
    """Hold reports over whole months, and the ledger, against the journal."""
    first, last = sorted(dice.sample([*Days(FIRST, LAST).months, 202906], 2))
    begin = date(first // 100, first % 100, 1)
    end = date(last // 100, last % 100, 1) - timedelta(days=1)
    by = dice.choice(("month,line", "line", "month,feature", "quarter,line"))
    asked = read_asked(View.USAGE, {"by": [by]})
    rows = await house.rows(by=by, **{"from": str(begin), "to": str(end)})
    units = 0
    for row in rows:
        days = Days(begin, end)
        if asked.by.unit is not None:
            inside = [day for day in days if _label(asked.by.unit, day) == row.label]
            days = Days(inside[0], inside[-1])
        expected = made.sums(days, lines_of(row, asked))
        told = (row.units, row.undone, row.denied)
        assert (by, row.label, told) == (
            *(by, row.label),
            (expected.units, expected.undone, expected.denied),
        )
        # Lines that took turns within a month have no peak together once its days are gone.
        assert row.peak == expected.peak or (row.peak is None and not row.line)
        units += row.units
    assert units == made.sums(Days(begin, end), [line.id for line in LINES]).units
    assert await house.balanced()


def _label(unit: str, day: date) -> str:
    return f"{day:%Y-%m}" if unit == "month" else f"{day.year}-Q{(day.month + 2) // 3}"
