"""Folding a year of daily data over 1,000 lines: how long a call, and a page, holds the store.

Figures are printed. What the store is held for is judged, generously: it is other people's delay.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from gateway.core.periods import midnight_ms, zone
from gateway.service.balance import audit
from gateway.service.folding import Folder
from gateway.store.opening import Store, open_store
from tests.bench.test_report_bench import FIRST, LAST, _nothing, _record

pytestmark = pytest.mark.bench

HELD_US_MAX = 40_000


async def _calls(store: Store) -> list[dict[str, Any]]:
    found: Any = await store.client.slowlog_get(20_000)
    await store.client.slowlog_reset()
    return list(found)


def _told(name: str, calls: list[dict[str, Any]], command: bytes) -> tuple[str, int]:
    held = [each["duration"] for each in calls if each["command"].upper().startswith(command)]
    text = f"{name}: {len(held)} calls, median {median(held):,.0f} us, at most {max(held):,} us"
    return text, max(held)


def test_folding_a_year_over_a_thousand_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=8) as store:
            index = await _record(store)
            keys = store.catalogues.keys("BIG")
            tz = zone(index.catalogue.timezone)
            since_ms = midnight_ms(FIRST, tz)
            last_ms = midnight_ms(LAST.replace(year=LAST.year + 1), tz)
            await store.client.hset(keys.ledger, mapping={"since_ms": since_ms, "last_ms": last_ms})
            await store.client.config_set("slowlog-max-len", 20_000)
            await store.client.config_set("slowlog-log-slower-than", 0)

            await audit(store.catalogues, "BIG", deep=True)
            calls = await _calls(store)
            told.append(_told("verify --deep of days", calls, b"")[0])

            folder = Folder(store.catalogues, _nothing, 1, lambda: last_ms)
            begin_s, visits, longest_s = time.perf_counter(), 0, 0.0
            more = True
            while more:
                visit_s = time.perf_counter()
                more = await folder.fold("BIG")
                longest_s = max(longest_s, time.perf_counter() - visit_s)
                visits += 1
            spent_s = time.perf_counter() - begin_s
            calls = await _calls(store)
            told.append(f"{visits} visits, {spent_s:.2f} s, the longest {longest_s:.2f} s")
            for name, command in (("fold.lua", b"EVAL"), ("pages", b"HSCAN")):
                text, held_us = _told(name, calls, command)
                told.append(text)
                assert held_us < HELD_US_MAX
            months = range(202501, 202513)
            folded = [int(await store.client.hlen(keys.month(m))) for m in months]
            told.append(f"{sum(folded):,} fields of months")
            left = [m for m in months if await store.client.exists(keys.days(m))]
            assert left == []

    asyncio.run(main())
    with capsys.disabled():
        print("\n" + "\n".join(told))
