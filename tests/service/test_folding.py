"""Old days become months, and no report says anything else than before.

A generated journal is the other side: its sums are made by brute force, with the standard library's
calendar. Law: SEMANTICS 11, `report.retention`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime

import pytest

from gateway.core.calls import Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import AccessRequest, Host, Line, Model, Want
from gateway.core.reports_periods import Days, months_before
from gateway.service import folding
from gateway.service.folding import Folder
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.opening import Store, open_store
from tests.core import reports_journal
from tests.core.reports_journal import LINES, journal
from tests.service.folding_house import FIRST, LAST, House, check
from tests.vectors.patience import PATIENT_S
from tests.vectors.served import PRELUDE

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
HALF_YEAR = Days(date(2028, 1, 1), date(2028, 6, 30))


Run = Callable[[Callable[[Store], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with asyncio.Runner() as runner:
        directory = tmp_path_factory.mktemp("folding")
        opened = open_store(
            "embedded", directory, partitions=4, prelude=PRELUDE, deadline_s=PATIENT_S
        )
        store = runner.run(opened.__aenter__())

        async def told(story: Callable[[Store], Awaitable[None]]) -> None:
            await story(store)

        try:
            yield lambda story: runner.run(told(story))
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.mark.parametrize(
    ("timezone", "seed"),
    [
        ("Pacific/Kiritimati", 1),
        ("Pacific/Pago_Pago", 2),
        pytest.param("Europe/Paris", 3, marks=pytest.mark.slow),
        pytest.param("Asia/Kolkata", 4, marks=pytest.mark.slow),
        pytest.param("Australia/Lord_Howe", 5, marks=pytest.mark.slow),
    ],
)
def test_no_fold_changes_what_is_told(
    at: Run, monkeypatch: pytest.MonkeyPatch, timezone: str, seed: int
) -> None:
    """Any history, folded in any portions, with a look before, between and after."""
    dice = random.Random(seed)  # noqa: S311 (a run is to be repeatable)

    async def story(store: Store) -> None:
        house = House(store, timezone, LINES)
        made = journal(house.zone, FIRST, LAST, f"fold-{seed}")
        await house.begin(made.ms(FIRST))
        await house.write(made)
        await house.set_clock(made.ms(LAST) + DAY_MS // 2)
        await check(house, made, dice)
        folded = 0
        for retention in (12, 4, 2, 1):
            more = True
            while more:
                monkeypatch.setattr(folding, "FOLD_LINES_MAX", dice.randrange(1, 4))
                more = await house.folder(retention).fold(house.instance)
                folded += 1
                await check(house, made, dice)
        assert folded > 5
        whole = Days(FIRST, LAST).months
        assert await house.kept(whole) == [202904, 202905]
        months = {name.split("|")[1] for name in await house.months()}
        assert months == {str(month) for month in whole[:-2]}

    at(story)


def line(line_id: str) -> Line:
    return reports_journal.line(line_id, "sessions", Model.METERED)


def test_readers_and_two_who_fold_do_not_disturb_one_another(
    at: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for anybody: what is read while it moves is read anew."""

    async def story(store: Store) -> None:
        lines = tuple(line(f"L{number}") for number in range(12))
        house = House(store, "Pacific/Pago_Pago", lines)
        begin_ms = int(datetime(2028, 1, 1, tzinfo=house.zone).timestamp() * 1000)
        await house.begin(begin_ms)
        sums: dict[str, int] = {}
        for month in HALF_YEAR.months:
            fields = {f"{x.id}|{month}{day:02d}|u": day for x in lines for day in range(1, 29)}
            await store.client.hset(house.keys.days(month), mapping=dict(fields))
        for each in lines:
            sums |= {f"acked|{each.id}": 6 * 406, f"days|{each.id}": 6 * 406}
        await store.client.hset(house.keys.ledger, mapping=dict(sums))
        await house.set_clock(begin_ms + 1_000 * DAY_MS)
        monkeypatch.setattr(folding, "FOLD_LINES_MAX", 5)
        working = True

        async def fold() -> None:
            more = True
            while more:
                more = await house.folder(1).fold(house.instance)
                await asyncio.sleep(0.02)

        async def look() -> int:
            looks = 0
            while working:
                rows = await house.rows(
                    by="month,line", **{"from": "2028-01-01", "to": "2028-06-30"}
                )
                assert [row.units for row in rows] == [406] * 6 * len(lines)
                assert await house.balanced()
                looks += 1
            return looks

        looking = asyncio.create_task(look())
        await asyncio.gather(fold(), fold())
        working = False
        assert await looking  # the last one ended behind both
        assert await house.kept(HALF_YEAR.months) == []
        found = await house.months()
        assert sorted(found) == sorted(
            f"{x.id}|{month}|u" for x in lines for month in HALF_YEAR.months
        )
        assert set(found.values()) == {406}

    at(story)


def test_a_month_is_folded_when_all_of_it_is_old_on_the_clock_of_its_instance(at: Run) -> None:
    """The same moment is in January for one, in December for the other, and a ms earlier too."""

    async def story(store: Store) -> None:
        # Midnight in Kiritimati; in Pago Pago that is 25 hours later.
        turn_ms = int(datetime(2027, 12, 31, 10, tzinfo=UTC).timestamp() * 1000)
        for timezone, at_ms, kept in (
            ("Pacific/Kiritimati", turn_ms - 1, [202511, 202512]),
            ("Pacific/Kiritimati", turn_ms, [202512]),
            ("Pacific/Pago_Pago", turn_ms, [202511, 202512]),
            ("Pacific/Pago_Pago", turn_ms + 25 * HOUR_MS - 1, [202511, 202512]),
            ("Pacific/Pago_Pago", turn_ms + 25 * HOUR_MS, [202512]),
        ):
            house = House(store, timezone, LINES)
            await house.begin(turn_ms - 900 * DAY_MS)
            for month in (202510, 202511, 202512):
                await store.client.hset(house.keys.days(month), f"M1|{month}28|u", 1)
            await house.set_clock(at_ms)
            assert not await house.folder(25).fold(house.instance)
            found = await house.kept([202510, 202511, 202512])
            assert (timezone, at_ms - turn_ms, found) == (timezone, at_ms - turn_ms, kept)

    at(story)


SEATS = (
    Line(id="C", feature="editor", version="1", model=Model.CONCURRENT, count=9, capacity=9),
    Line(id="R", feature="pages", version="1", model=Model.METERED_REUSABLE, count=9, capacity=9),
)


async def borrow(house: House, index: CatalogueIndex, days: int) -> None:
    wants = (Want("editor", "1", 4), Want("pages", "1", 5))
    request = AccessRequest(host=Host("string", "h"), wants=wants, interval_s=days * 86_400)
    job = Job(
        index, index.resolve(request), house.instance, 60_000, "", "", request.host.canonical, 0
    )
    assert (await house.store.lane.submit(job)).verdict is Verdict.DONE


def test_a_lapse_that_is_swept_years_late_lands_in_the_folded_month_and_is_folded_too(
    at: Run,
) -> None:
    async def story(store: Store) -> None:
        house = House(store, "Pacific/Kiritimati", SEATS)
        begin = datetime(2026, 1, 30, 12, tzinfo=house.zone)
        begin_ms = int(begin.timestamp() * 1000)
        await borrow(house, await house.begin(begin_ms), days=1)
        # Somebody folds without sweeping first, three years on.
        later_ms = begin_ms + 1_100 * DAY_MS
        await house.set_clock(later_ms)
        await store.client.hset(house.keys.ledger, "last_ms", later_ms)
        assert not await house.folder(25, sweep=_nothing).fold(house.instance)
        assert await house.months() == {
            **{"C|202601|p": 4, "C|202601|h": 4},
            **{"R|202601|u": 5},
        }
        assert await house.balanced()
        asked = {"by": "month,line", "from": "2026-01-01", "to": "2026-02-28"}
        told = [("2026-01", "C", 0, 0, 4), ("2026-01", "R", 0, 5, 0)]
        for _ in range(3):
            # The first report sweeps: the fields are anew in days, beside the months.
            found = [
                (r.label, r.line, r.units, r.undone, r.peak) for r in await house.rows(**asked)
            ]
            assert found == told
            assert await house.balanced()
            await house.folder(25).fold(house.instance)
        assert await house.kept([202601, 202602]) == []
        assert await house.months() == {
            **{"C|202601|p": 4, "C|202601|h": 0},
            **{"R|202601|u": 0, "R|202601|b": 5},
        }

    at(story)


def test_what_has_lapsed_is_swept_before_anything_is_folded(at: Run) -> None:
    """So that only who folds without it ever writes to a folded month."""

    async def story(store: Store) -> None:
        house = House(store, "Pacific/Pago_Pago", SEATS)
        begin_ms = int(datetime(2026, 1, 5, tzinfo=house.zone).timestamp() * 1000)
        await borrow(house, await house.begin(begin_ms), days=3)
        await house.set_clock(begin_ms + 1_100 * DAY_MS)
        assert not await house.folder(25).fold(house.instance)
        assert await house.months() == {
            **{"C|202601|p": 4, "C|202601|h": 0},
            **{"R|202601|u": 0, "R|202601|b": 5},
        }
        assert await house.kept([202601]) == []

    at(story)


def test_an_instance_without_old_days_is_left_without_a_look_at_its_catalogue(
    at: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daily round must not put catalogues that nobody uses in the place of those in use."""

    async def story(store: Store) -> None:
        house = House(store, "Pacific/Kiritimati", LINES)
        begin_ms = int(datetime(2027, 10, 31, 12, tzinfo=house.zone).timestamp() * 1000)
        await house.begin(begin_ms)
        await store.client.hset(house.keys.days(202710), "M1|20271031|u", 1)
        await house.set_clock(begin_ms + 60 * DAY_MS)  # in December
        looks: list[str] = []
        real = type(store.catalogues).fresh

        async def spied(catalogues: Catalogues, instance: str) -> CatalogueIndex | None:
            looks.append(instance)
            return await real(catalogues, instance)

        monkeypatch.setattr(type(store.catalogues), "fresh", spied)
        now_ms = begin_ms + 60 * DAY_MS
        folder = Folder(store.catalogues, house.sweep, 2, lambda: now_ms)
        assert not await folder.fold(house.instance)
        assert (looks, await house.kept([202710])) == ([], [202710])
        # An hour before midnight in Kiritimati it may be January somewhere, but is not there.
        turn_ms = int(datetime(2028, 1, 1, tzinfo=house.zone).timestamp() * 1000)
        for now_ms, kept in ((turn_ms - HOUR_MS, [202710]), (turn_ms, [])):
            await house.set_clock(now_ms)
            assert not await folder.fold(house.instance)
            assert await house.kept([202710]) == kept
        assert looks == 2 * [house.instance]

    at(story)


def test_a_clock_that_is_ahead_here_folds_nothing_that_is_young_in_the_store(at: Run) -> None:
    async def story(store: Store) -> None:
        house = House(store, "UTC", LINES)
        begin_ms = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
        await house.begin(begin_ms)
        await store.client.hset(house.keys.days(202601), "M1|20260105|u", 1)
        await house.set_clock(begin_ms + 300 * DAY_MS)
        assert not await house.folder(25).fold(house.instance)
        assert await house.kept([202601]) == [202601]
        assert await house.months() == {}

    at(story)


def test_an_instance_that_is_gone_or_new_has_nothing_to_fold(at: Run) -> None:
    async def story(store: Store) -> None:
        house = House(store, "UTC", LINES)
        assert not await house.folder(1).fold(house.instance)
        begin_ms = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
        await house.begin(begin_ms)
        before = await store.client.hgetall(house.keys.ledger)
        assert not await house.folder(999).fold(house.instance)
        assert await store.client.hgetall(house.keys.ledger) == before

    at(story)


@pytest.mark.parametrize(
    ("today", "kept", "last"),
    [
        (date(2026, 11, 22), 25, 202409),
        (date(2026, 11, 30), 25, 202409),
        (date(2026, 11, 1), 25, 202409),
        (date(2026, 10, 31), 25, 202408),
        (date(2026, 3, 31), 1, 202601),
        (date(2026, 1, 1), 1, 202511),
        (date(2026, 1, 1), 999, None),
    ],
)
def test_the_day_so_many_months_ago_is_kept_with_its_month(
    today: date, kept: int, last: int | None
) -> None:
    months = months_before(date(2023, 5, 31), today, kept)
    assert months[-1:] == ([] if last is None else [last])
    assert months[:1] == ([] if last is None else [202305])


async def _nothing(instance: str) -> None:
    """Sweep nothing."""
