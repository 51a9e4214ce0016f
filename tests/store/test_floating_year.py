"""A year of resets over the real script: every unit in its period, to the millisecond.

A leap year and the days around it, by a clock that is set. At each midnight in UTC, in the last
millisecond before it, in its first and in the one after, other units are consumed of a line for
each rule; which period a moment is in is worked out by the calendar alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from gateway.core.calls import INCREMENTAL, TELL
from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Attachment, Catalogue, FloatingLicense, Line, Model, Reset
from gateway.service.balance import audit, conservation
from gateway.store.calls import Job
from gateway.store.opening import Store, open_store

pytestmark = pytest.mark.slow
PRELUDE = (Path(__file__).parents[1] / "model" / "clock.lua").read_text()
INSTANCE, UPSTREAM = "YEAR", "cloud"
RULES = [each for each in Reset if each is not Reset.NONE]
DAYS = [date(2027, 12, 30) + timedelta(days=at) for at in range(370)]
AROUND = {-1: 3, 0: 5, 1: 7}  # ms from midnight -> units
KEPT_MS = 400 * 86_400_000  # periods are kept for as long as they may be undone
LINES = tuple(
    Line(
        id=str(reset),
        feature=str(reset),
        version="1.0",
        model=Model.METERED,
        count=10**6,
        capacity=10**6,
        reset=reset,
        undo_ms=KEPT_MS,
        licensespring=FloatingLicense(77, "PROD", str(reset), "key"),
    )
    for reset in RULES
)


def first_day(reset: Reset, day: date) -> date:
    """Give the first day of the period that a day is in."""
    match reset:
        case Reset.DAILY:
            return day
        case Reset.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Reset.MONTHLY:
            return day.replace(day=1)
        case _:
            return day.replace(month=1, day=1)


async def consume(store: Store, index: CatalogueIndex, at_ms: int, units: int) -> dict[str, int]:
    """Consume of every line at a moment, in one request; give what was used then, by line."""
    await store.client.set("gw:clock", at_ms)
    wants = [(index.resolve_line(line), [(units, at)]) for at, line in enumerate(LINES)]
    said = (f"at-{at_ms}", 60_000, "meaning", "echo", "LICENSESPRING:ann", INCREMENTAL | TELL)
    reply = await store.lane.submit(Job(index, wants, *said))
    assert reply.outcome is not None
    assert reply.outcome.at_ms == at_ms
    assert reply.outcome.shortfalls == []
    return {each.line: each.used for each in reply.outcome.told}


async def live(store: Store) -> None:
    await store.client.set("gw:clock", int(datetime(2027, 12, 29, tzinfo=UTC).timestamp()) * 1_000)
    await store.catalogues.put(
        Catalogue(id=INSTANCE, lines=LINES, upstreams=(Attachment(UPSTREAM),))
    )
    index = await store.catalogues.read(INSTANCE)
    assert index is not None
    used: Counter[tuple[str, date]] = Counter()
    hours: Counter[int] = Counter()
    for midnight in DAYS:
        begins = datetime(midnight.year, midnight.month, midnight.day, tzinfo=UTC)
        for off_ms, units in AROUND.items():
            at_ms = int(begins.timestamp()) * 1_000 + off_ms
            day = (begins + timedelta(milliseconds=off_ms)).date()
            periods = {line.id: (line.id, first_day(line.reset, day)) for line in LINES}
            used.update(dict.fromkeys(periods.values(), units))
            hours[at_ms // 3_600_000] += units
            told = await consume(store, index, at_ms, units)
            assert told == {line: used[period] for line, period in periods.items()}
    keys = store.catalogues.keys(INSTANCE)
    kept = {
        name.decode(): int(told) for name, told in (await store.client.hgetall(keys.used)).items()
    }
    expected = {f"{line}|{line[0]}{first:%Y%m%d}": units for (line, first), units in used.items()}
    assert kept == expected
    rows = await store.client.hgetall(keys.open(UPSTREAM))
    assert {name.decode(): int(units) for name, units in rows.items()} == {
        f"{line.id}|{hour}": units for line in LINES for hour, units in hours.items()
    }
    assert conservation([await audit(store.catalogues, INSTANCE, deep=True)]) == "OK"


def test_a_year_of_resets_has_every_unit_in_its_period(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_store(
            "embedded", tmp_path, partitions=2, prelude=PRELUDE, deadline_s=20.0
        ) as store:
            await live(store)

    asyncio.run(story())
