"""Seats that moved last in some former month are told on every day that they are held.

Law: SEMANTICS 11: the peak of a day without events is what was held when the last one with events
ended, however long ago, and whether that is in days still or folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, datetime

import pytest

from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.model import AccessRequest, Host, Line, Model, Want
from gateway.store.calls import Job
from gateway.store.opening import Store, open_store
from tests.service.folding_house import House
from tests.vectors.served import PRELUDE

DAY_S = 86_400
YEAR_MS = 366 * DAY_S * 1000
SEATS = (
    Line(
        id="C",
        feature="editor",
        version="1",
        model=Model.CONCURRENT,
        count=9,
        capacity=9,
        borrow_ms=YEAR_MS,
    ),
    Line(id="M", feature="calls", version="1", model=Model.METERED, count=9, capacity=9),
)
Run = Callable[[Callable[[House], Awaitable[None]]], None]


@pytest.fixture
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with asyncio.Runner() as runner:
        opened = open_store(
            "embedded", tmp_path_factory.mktemp("seats"), partitions=4, prelude=PRELUDE
        )
        store: Store = runner.run(opened.__aenter__())

        async def told(story: Callable[[House], Awaitable[None]]) -> None:
            await story(House(store, "Europe/Paris", SEATS))

        try:
            yield lambda story: runner.run(told(story))
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def ask(house: House, day: date, feature: str, count: int, days: int = 0) -> None:
    await house.set_clock(ms(day, house))
    index = await house.index()
    request = AccessRequest(
        host=Host("string", "h"),
        wants=(Want(feature, "1", count),),
        incremental=True,
        interval_s=days * DAY_S,
    )
    host = request.host.canonical
    name = f"{day}-{feature}"
    job = Job(index, index.resolve(request), name, 60_000, "", "", host, INCREMENTAL)
    assert (await house.store.lane.submit(job)).verdict is Verdict.DONE


def ms(day: date, house: House) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=house.zone).timestamp() * 1000)


async def peaks(house: House, begin: str, end: str, by: str = "line") -> list[int | None]:
    asked = {"by": by, "feature": "editor", "from": begin, "to": end}
    return [row.peak for row in await house.rows(**asked)]


def test_seats_are_carried_over_months_without_events(at: Run) -> None:
    """Also while only metered lines are used, and after the month they were taken in was folded."""

    async def story(house: House) -> None:
        await house.begin(ms(date(2028, 1, 3), house))
        await ask(house, date(2028, 1, 20), "editor", 4)
        for month in (2, 3, 4, 5):
            await ask(house, date(2028, month, 10), "calls", 1)
        for _ in range(2):
            assert await peaks(house, "2028-04-01", "2028-04-30", "day") == [4] * 30
            assert await peaks(house, "2028-05-01", "2028-05-10", "day") == [4] * 10
            assert await peaks(house, "2028-02-01", "2028-02-29") == [4]
            assert await peaks(house, "2028-01-01", "2028-01-31") == [4]
            assert await house.balanced()
            assert not await house.folder(3).fold(house.instance)
        assert (await house.months())["C|202801|h"] == 4
        assert await house.kept([202801, 202802]) == [202802]

    at(story)


def test_what_expires_as_the_year_begins_is_a_peak_of_the_old_one_alone(at: Run) -> None:
    async def story(house: House) -> None:
        await house.begin(ms(date(2027, 12, 1), house))
        await ask(house, date(2027, 12, 27), "editor", 4, days=5)
        await house.set_clock(ms(date(2028, 1, 9), house))
        assert await peaks(house, "2027-12-31", "2027-12-31") == [4]
        assert await peaks(house, "2027-12-01", "2028-01-09") == [4]
        for end in ("2028-01-01", "2028-01-09"):
            rows = await house.rows(by="day", **{"from": "2028-01-01", "to": end})
            assert {row.peak for row in rows} == {0}

    at(story)
