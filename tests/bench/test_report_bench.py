"""A year of daily data over 1,000 lines as reports: how long, and how long the store is held; and
what ten years of folded months behind it, and a seat nobody moved for years, add to that.

Figures are printed. Only what the store is held for is judged, and generously: it is other
people's delay.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Catalogue, Line, Model
from gateway.core.periods import midnight_ms, zone
from gateway.core.reports_asked import Asked, View, read_asked
from gateway.service.reports import READING_MAX, Reports
from gateway.store.opening import Store, open_store
from gateway.store.usage import Record

pytestmark = pytest.mark.bench

ROUNDS = 3
LINES, FIRST, LAST = 1_000, date(2025, 1, 1), date(2025, 12, 31)
HELD_US_MAX = 20_000
FIELDS_A_CALL = 10_000
FOLDED = [year * 100 + month for year in range(2015, 2025) for month in range(1, 13)]
READERS = 6
DENIED = "d:FEATURE_COUNT_INSUFFICIENT"


def _line(number: int) -> Line:
    return Line(
        id=f"LINE-{number:04d}",
        feature=f"feature-{number // 2}",
        version="1.0",
        model=Model.CONCURRENT if number % 5 == 0 else Model.METERED,
        count=100,
        capacity=100,
    )


async def _record(store: Store) -> CatalogueIndex:
    """Write a year: units of metered lines, seats of the others, denials of every tenth."""
    catalogue = Catalogue(
        id="BIG", timezone="Europe/Paris", lines=tuple(_line(n) for n in range(LINES))
    )
    await store.catalogues.put(catalogue)
    keys = store.catalogues.keys("BIG")
    months: dict[int, dict[str, int]] = {}
    for number in range((LAST - FIRST).days + 1):
        day = FIRST + timedelta(days=number)
        text = f"{day:%Y%m%d}"
        fields = months.setdefault(day.year * 100 + day.month, {})
        for place, line in enumerate(catalogue.lines):
            prefix = f"{line.id}|{text}|"
            if line.model is Model.CONCURRENT:
                fields[prefix + "p"], fields[prefix + "h"] = 9 + place % 7, place % 5
            else:
                fields[prefix + "u"] = 1 + (place * number) % 1_000
            if place % 10 == 0:
                fields[prefix + DENIED] = 1
    for month, found in months.items():
        pairs = list(found.items())
        for start in range(0, len(pairs), FIELDS_A_CALL):
            await store.client.hset(
                keys.days(month), mapping=dict(pairs[start : start + FIELDS_A_CALL])
            )
    index = await store.catalogues.read("BIG")
    assert index is not None
    return index


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    found = [0]
    tracemalloc.start()
    try:
        yield found
        found[0] = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def _nothing(instance: str) -> None:
    """Sweep nothing: there are no holds."""


def test_a_year_over_a_thousand_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=8) as store:
            index = await _record(store)
            reports = Reports(store.catalogues, _nothing)
            await store.client.config_set("slowlog-max-len", 10_000)
            for by in ("feature", "line", "month", "month,line", "week,feature", "day", "day,line"):
                asked = read_asked(
                    View.USAGE, {"by": [by], "from": [str(FIRST)], "to": [str(LAST)]}
                )

                async def whole(asked: Asked = asked) -> int:
                    pieces = (await reports.open(index, asked)).json()
                    return sum([len(piece) async for piece in pieces])

                times, cpu = [], []
                for _ in range(ROUNDS):
                    begin_s, cpu_s = time.perf_counter(), time.process_time()
                    size = await whole()
                    times.append(time.perf_counter() - begin_s)
                    cpu.append(time.process_time() - cpu_s)
                # Apart, because the log of slow calls is one of every call here.
                await store.client.config_set("slowlog-log-slower-than", 0)
                await store.client.slowlog_reset()
                await whole()
                await store.client.config_set("slowlog-log-slower-than", -1)
                calls: Any = await store.client.slowlog_get(10_000)
                held_us = max(each["duration"] for each in calls)
                told.append(
                    f"by {by:<13} {median(times):.2f} s ({median(cpu):.2f} s of CPU),"
                    f" {size:>10,} bytes, store held {held_us:,} us"
                )
                assert held_us < HELD_US_MAX
            with _peak_memory() as peak:
                await whole()
            told.append(f"by {by}: {peak[0] / 2**20:.0f} MiB at most")
            record = Record(store.client, store.catalogues.keys("BIG"))
            await record.begin()
            begin = time.perf_counter()
            for month in range(202501, 202513):
                await record.month(month)
            told.append(f"reading alone {time.perf_counter() - begin:.2f} s")

    asyncio.run(main())
    with capsys.disabled():
        print("\n" + "\n".join(told))


async def _record_history(store: Store, index: CatalogueIndex) -> None:
    """Write ten years of folded months before the year; one line held seats in the first alone."""
    keys = store.catalogues.keys("BIG")
    idle = next(line for line in index.catalogue.lines if not line.model.metered).id
    for month in FOLDED:
        fields: dict[str, int] = {}
        for place, line in enumerate(index.catalogue.lines):
            prefix = f"{line.id}|{month}|"
            if line.model is Model.METERED:
                fields[prefix + "u"], fields[prefix + "b"] = place * month, place
            elif line.id != idle or month == FOLDED[0]:
                fields[prefix + "p"], fields[prefix + "h"] = 9, 3
        await store.client.hset(keys.month(month), mapping=dict(fields))
    for month in range(202501, 202513):
        days = [f"{idle}|{month}{day:02d}|{kind}" for day in range(1, 32) for kind in "ph"]
        await store.client.hdel(keys.days(month), *days)
    used = {f"{line.id}|0": 3 for line in index.catalogue.lines if not line.model.metered}
    await store.client.hset(keys.used, mapping=dict(used))
    since_ms = midnight_ms(date(2015, 1, 1), zone(index.catalogue.timezone))
    sums = {"since_ms": since_ms, "folds": len(FOLDED), "folded": FOLDED[-1]}
    await store.client.hset(keys.ledger, mapping=dict(sums))


def test_ten_years_of_folded_months_behind_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report on this year is no dearer for them, and one on all of them holds one at a time."""
    told: list[str] = []

    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=8) as store:
            index = await _record(store)
            await _record_history(store, index)
            reports = Reports(store.catalogues, _nothing)
            await store.client.config_set("slowlog-max-len", 10_000)

            async def whole(first: str, last: str) -> float:
                asked = read_asked(View.USAGE, {"by": ["month"], "from": [first], "to": [last]})
                begin_s = time.perf_counter()
                async for _ in (await reports.open(index, asked)).json():
                    pass
                return time.perf_counter() - begin_s

            spans = (("2025-12-01", "2025-12-31"), ("2016-01-01", "2025-12-31"))
            for span in spans:
                await store.client.config_set("slowlog-log-slower-than", -1)
                took_s = median([await whole(*span) for _ in range(ROUNDS)])
                with _peak_memory() as peak:
                    await whole(*span)
                with _peak_memory() as together:
                    await asyncio.gather(*(whole(*span) for _ in range(READERS)))
                await store.client.config_set("slowlog-log-slower-than", 0)
                await store.client.slowlog_reset()
                await whole(*span)
                calls: Any = await store.client.slowlog_get(10_000)
                held_us = max(each["duration"] for each in calls)
                told.append(
                    f"{span[0]} to {span[1]}: {took_s:.2f} s, {peak[0] / 2**20:.0f} MiB,"
                    f" {READERS} at once {together[0] / 2**20:.0f} MiB,"
                    f" {len(calls)} calls, store held {held_us:,} us"
                )
                assert held_us < HELD_US_MAX
                assert together[0] < 2 * READING_MAX * peak[0]

    asyncio.run(main())
    with capsys.disabled():
        print("\n" + "\n".join(told))
