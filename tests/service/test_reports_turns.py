"""However large a report is, others have their turn every few thousand steps.

Counted in pauses, not in time: a machine may be slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.core import reports as folding
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import InvalidInput, Unavailable
from gateway.core.model import Catalogue, Line, Model
from gateway.core.reports_asked import View, read_asked
from gateway.core.reports_capacity import WINDOW_DAYS
from gateway.service import reports as making
from gateway.service.reports import Places, Reports
from gateway.store.opening import Store, open_store
from tests.vectors.patience import PATIENT_S

LINES = 60
STEPS = 7  # instead of thousands, so that few lines are many
DAYS = {"from": ["2030-01-30"], "to": ["2030-02-02"]}
LAST_MS = 1_896_000_000_000  # 2030-01-30


def _line(number: int) -> Line:
    return Line(
        id=f"L{number:02d}",
        feature=f"feature-{number:02d}",
        version="1",
        model=Model.CONCURRENT if number % 2 else Model.METERED,
        count=10,
        capacity=10,
    )


CATALOGUE = Catalogue(id="MANY", timezone="UTC", lines=tuple(_line(n) for n in range(LINES)))


async def _nothing(instance: str) -> None:
    """Sweep nothing: there are no holds."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Store]]:
    with asyncio.Runner() as runner:
        opened = open_store(
            "embedded", tmp_path_factory.mktemp("many"), partitions=4, deadline_s=PATIENT_S
        )
        store = runner.run(opened.__aenter__())
        try:
            runner.run(_record(store))
            yield runner, store
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def _record(store: Store) -> None:
    await store.catalogues.put(CATALOGUE)
    keys = store.catalogues.keys("MANY")
    fields: dict[str, int] = {}
    for line in CATALOGUE.lines:
        for day in (30, 31):
            kinds = ("u",) if line.model.metered else ("p", "h")
            fields |= {f"{line.id}|203001{day}|{kind}": 9 for kind in kinds}
    await store.client.hset(keys.days(203001), mapping=dict(fields))
    await store.client.hset(keys.ledger, mapping={"last_ms": LAST_MS, "since_ms": 1})
    used = {f"{line.id}|0": 9 for line in CATALOGUE.lines}
    await store.client.hset(keys.used, mapping=dict(used))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give what notes each pause that is made for others."""
    made: list[float] = []
    real = asyncio.sleep

    async def noted(delay: float) -> None:
        if not delay:  # the store's own tasks sleep for longer
            made.append(delay)
        await real(delay)

    monkeypatch.setattr(asyncio, "sleep", noted)
    return made


async def _index(store: Store) -> CatalogueIndex:
    found = await store.catalogues.read("MANY")
    assert found is not None
    return found


def test_no_list_of_rows_is_long_and_others_have_turns_between(
    many: tuple[asyncio.Runner, Store], monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    runner, store = many

    async def story() -> None:
        found = {}
        for steps in (10_000, STEPS):
            monkeypatch.setattr(folding, "STEPS_MAX", steps)
            asked = read_asked(View.USAGE, {"by": ["day,line"], **DAYS})
            report = await Reports(store.catalogues, _nothing).open(await _index(store), asked)
            pauses.clear()
            rows, sizes = [], []
            async for some in report.parts[0].rows():
                rows += some
                sizes.append(len(some))
            found[steps] = (len(pauses), rows, report.parts[0].total)
            assert max(sizes) <= steps
        (few, *whole), (often, *paused) = found.values()
        assert whole == paused
        # Seats: lines and what they come to, on 30 days of which one is asked for. Then rows.
        seats, more = LINES // 2 // STEPS, LINES // STEPS
        assert often - few >= 30 * seats + seats + more

    runner.run(story())


def test_lines_near_capacity_are_judged_some_at_a_time(
    many: tuple[asyncio.Runner, Store], monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    runner, store = many

    async def story() -> None:
        index, found = await _index(store), {}
        for judged in (10_000, STEPS):
            monkeypatch.setattr(making, "JUDGED_MAX", judged)
            reports = Reports(store.catalogues, _nothing)
            pauses.clear()
            found[judged] = (await reports.near_capacity(index), len(pauses))
            assert reports.places == Places()
        (whole, few), (paused, often) = found.values()
        assert whole == paused
        assert [each.line for each in whole] == [line.id for line in CATALOGUE.lines]
        assert often - few == LINES // STEPS

    runner.run(story())


def test_a_line_is_as_old_as_its_first_record(many: tuple[asyncio.Runner, Store]) -> None:
    """All that it ever counted is in the window, or something came before."""
    runner, store = many

    async def story() -> None:
        keys = store.catalogues.keys("MANY")
        index, reports = await _index(store), Reports(store.catalogues, _nothing)
        before = {"L00|20300110|u": 20, "L00|20300120|u": 1}
        await store.client.hset(keys.days(203001), mapping=dict(before))
        try:
            for earlier, per_day in ((0, 21 // 20), (1, 21 // WINDOW_DAYS)):
                await store.client.hset(keys.ledger, "acked|L00", 21 + 9 + earlier)
                (near,) = await reports.near_capacity(index, ("feature-00",))
                assert (near.per_day, near.why) == (per_day, "")
        finally:
            await store.client.hdel(keys.days(203001), *before)

    runner.run(story())


def test_a_report_that_is_to_be_short_is_not_read_on(many: tuple[asyncio.Runner, Store]) -> None:
    runner, store = many

    async def story() -> None:
        reports = Reports(store.catalogues, _nothing)
        asked = read_asked(View.USAGE, {"by": ["line"], **DAYS})
        report = await reports.open(await _index(store), asked)
        ((_, rows),) = await report.read(LINES)
        assert len(rows) == LINES
        report = await reports.open(await _index(store), asked)
        with pytest.raises(InvalidInput, match="more than 59 rows"):
            await report.read(LINES - 1)
        assert reports.places == Places()

    runner.run(story())


def test_a_place_is_refused_before_anything_is_done(many: tuple[asyncio.Runner, Store]) -> None:
    runner, store = many
    swept: list[str] = []

    async def sweep(instance: str) -> None:
        swept.append(instance)

    async def story() -> None:
        reports = Reports(store.catalogues, sweep, Places(1))
        index, asked = await _index(store), read_asked(View.USAGE, DAYS)
        first = (await reports.open(index, asked)).json()
        second = (await reports.open(index, asked)).json()
        await anext(first)
        swept.clear()
        with pytest.raises(Unavailable) as raised:
            await anext(second)
        assert (raised.value.outcome, raised.value.retry_after_s) == ("not_applied", 5)
        with pytest.raises(Unavailable):
            await reports.open(index, asked)
        with pytest.raises(Unavailable):
            await reports.near_capacity(index)
        assert (swept, reports.places) == ([], Places(0))
        await first.aclose()
        assert reports.places == Places(1)
        assert await reports.near_capacity(index)

    runner.run(story())
