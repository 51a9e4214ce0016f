"""Reports say what the script counted: units, denials, and seats to the moment they lapsed.

Requests of many hosts over a quarter with a change of clocks, on a real store; what the answers
said is added up by brute force, and held against reports, the ledger and lines near capacity.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from gateway.core.calls import INCREMENTAL, PARTIAL, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import BadRequest, Unavailable
from gateway.core.fingerprint import fingerprint
from gateway.core.model import AccessRequest, Catalogue, Host, Line, Model, Want
from gateway.core.reports import Row, Sums
from gateway.core.reports_asked import View, read_asked
from gateway.core.reports_periods import Days
from gateway.service.balance import audit
from gateway.service.reports import Reports
from gateway.service.sweeping import Sweeper
from gateway.store.calls import Job
from gateway.store.opening import Store, open_store
from gateway.store.usage import Record
from tests.core.reports_journal import Journal
from tests.vectors.served import CLOCK, PRELUDE

ZONE = ZoneInfo("Australia/Lord_Howe")  # its clocks move by half an hour, on 6 October 2030
FIRST, LAST = date(2030, 9, 1), date(2030, 11, 30)
HOUR_MS = 3_600_000
FEATURES = ("sessions", "editor", "pages", "nobody")


def _line(line_id: str, feature: str, model: Model, capacity: int) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version="1",
        model=model,
        count=capacity,
        capacity=capacity,
        undo_ms=24 * HOUR_MS if model is Model.METERED else 0,
    )


CATALOGUE = Catalogue(
    id="DEMO",
    timezone=str(ZONE),
    lines=(
        _line("M1", "sessions", Model.METERED, 2_000),
        _line("C1", "editor", Model.CONCURRENT, 9),
        _line("R1", "pages", Model.METERED_REUSABLE, 40),
    ),
)


class Quarter:
    """A store, requests at moments of their own, and a journal of what was answered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reports = Reports(store.catalogues, Sweeper(store.catalogues, store.lane).sweep)
        self.journal = Journal(ZONE, FIRST, LAST + timedelta(days=2))
        self.held: dict[tuple[str, str], tuple[int, int]] = {}  # line, host -> count, lapse
        self.index = CatalogueIndex(CATALOGUE)

    async def tell(self) -> None:
        await self.store.client.set(CLOCK, self.journal.ms(FIRST))
        await self.store.catalogues.put(CATALOGUE)
        found = await self.store.catalogues.read("DEMO")
        assert found is not None
        self.index = found
        dice = random.Random("quarter")  # noqa: S311 (a run is to be repeatable)
        end = self.journal.ms(LAST)
        change = round(datetime(2030, 10, 6, 2, tzinfo=ZONE).timestamp() * 1000)
        moments = [dice.randrange(self.journal.ms(FIRST), end) for _ in range(300)]
        moments += [change + dice.randrange(-30, 30) * HOUR_MS for _ in range(40)]
        for number, at_ms in enumerate(sorted(moments)):
            await self.ask(at_ms, dice, number)
        self.lapse(self.journal.ms(LAST + timedelta(days=1)))
        self.journal.seats.sort(key=lambda event: event[0])
        # The day after: what lapsed meanwhile was not swept by any request.
        await self.store.client.hset(
            self.store.catalogues.keys("DEMO").ledger,
            "last_ms",
            self.journal.ms(LAST + timedelta(days=1)),
        )

    async def ask(self, at_ms: int, dice: random.Random, number: int) -> None:
        await self.store.client.set(CLOCK, at_ms)
        host = f"h{dice.randrange(6)}"
        feature = dice.choice(FEATURES[:3] if number % 20 else FEATURES)
        count = dice.randrange(1, 40 if feature == "sessions" else 6)
        count = -count if dice.randrange(5) == 0 else count
        request = AccessRequest(
            host=Host("string", host),
            wants=(Want(feature, "1", count),),
            incremental=True,
            partial=True,
            interval_s=dice.choice((3_600, 40_000, 300_000)),
        )
        job = Job(
            self.index,
            self.index.resolve(request),
            f"id-{number}",
            60_000,
            fingerprint(request).hex(),
            "",
            request.host.canonical,
            INCREMENTAL | PARTIAL,
        )
        reply = await self.store.lane.submit(job)
        assert reply.verdict is Verdict.DONE
        assert reply.outcome is not None
        self.lapse(at_ms)
        for grant in reply.outcome.grants:
            self.journal.units.append((at_ms, grant.line, grant.units))
        for held in reply.outcome.held:
            self.move(at_ms, held.line, host, held.count, held.lapses_ms)
        for short in reply.outcome.shortfalls:
            lines = [line.id for line in CATALOGUE.lines if line.feature == feature]
            self.journal.denials.append((at_ms, lines[0] if lines else "", short.code))

    def lapse(self, until_ms: int) -> None:
        """Give back what lapsed by now, each at its moment."""
        due = sorted((at, *key) for key, (count, at) in self.held.items() if 0 < at <= until_ms)
        for at_ms, line, host in due:
            self.move(at_ms, line, host, 0, 0)

    def move(self, at_ms: int, line: str, host: str, count: int, lapses_ms: int) -> None:
        before = self.held.pop((line, host), (0, 0))[0]
        if count:
            self.held[line, host] = (count, lapses_ms)
        if line == "R1" and count != before:
            self.journal.units.append((at_ms, line, count - before))
        if line == "C1" and count != before:
            total = sum(held for (of, _), (held, _) in self.held.items() if of == line)
            self.journal.seats.append((at_ms, line, total))

    async def rows(self, **members: str) -> tuple[list[Row], Sums]:
        view = View(members.pop("view", "usage"))
        asked = read_asked(view, {name: [text] for name, text in members.items()})
        ((part, rows),) = await (await self.reports.open(self.index, asked)).read()
        return rows, part.total


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Quarter]]:
    with asyncio.Runner() as runner:
        directory = tmp_path_factory.mktemp("quarter")
        opened = open_store("embedded", directory, partitions=4, prelude=PRELUDE)
        store = runner.run(opened.__aenter__())
        try:
            made = Quarter(store)
            runner.run(made.tell())
            yield runner, made
        finally:
            runner.run(opened.__aexit__(None, None, None))


RANGE = {"from": str(FIRST), "to": str(LAST)}


def test_each_day_of_each_line_is_what_the_answers_said(
    quarter: tuple[asyncio.Runner, Quarter],
) -> None:
    runner, made = quarter
    rows, total = runner.run(made.rows(by="day,line", **RANGE))
    told = {(row.label, row.line): row.sums for row in rows}
    assert {line for _, line in told} == {"M1", "C1", "R1", ""}
    for day in Days(FIRST, LAST):
        for line in ("M1", "C1", "R1", ""):
            expected = made.journal.sums(Days(day, day), [line])
            if line != "C1":
                expected.least = expected.most = 0
            found = told.get((str(day), line), Sums())
            assert (day, line, found) == (day, line, expected)
    whole = made.journal.sums(Days(FIRST, LAST), ["M1", "C1", "R1", ""])
    assert (total.units, total.undone, total.denied) == (whole.units, whole.undone, whole.denied)
    assert total.peak == made.journal.peak(Days(FIRST, LAST), ["C1"]) > 1


def test_a_report_never_disagrees_with_the_ledger(quarter: tuple[asyncio.Runner, Quarter]) -> None:
    runner, made = quarter
    rows, _ = runner.run(made.rows(by="line", **RANGE))
    books = runner.run(audit(made.store.catalogues, "DEMO", deep=True))
    assert books.differences == []
    acked = {entry.id: entry.acked for entry in books.lines}
    # All seats and pages lapsed by the day after, which is no day of the range.
    after, _ = runner.run(made.rows(by="line", **{"from": "2030-12-01", "to": "2030-12-01"}))
    units = {row.line: row.sums.units for row in rows}
    for row in after:
        units[row.line] = units.get(row.line, 0) + row.sums.units
    assert {line: units.get(line, 0) for line in acked} == acked


def test_denials_are_told_by_code(quarter: tuple[asyncio.Runner, Quarter]) -> None:
    runner, made = quarter
    rows, total = runner.run(made.rows(view="denials", by="line,code", **RANGE))
    codes = {(line, code) for _, line, code in made.journal.denials}
    assert {(row.line, row.code) for row in rows} == codes
    assert len(codes) >= 3
    for row in rows:
        expected = made.journal.sums(Days(FIRST, LAST), [row.line], row.code)
        assert row.denied == expected.denied
    assert total.denied == len(made.journal.denials)


def test_lapses_are_swept_before_anything_is_told(tmp_path: Path) -> None:
    """A hold that lapsed yesterday, with no request since, is not held today."""

    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=4, prelude=PRELUDE) as store:
            made = Quarter(store)
            await store.client.set(CLOCK, made.journal.ms(FIRST))
            await store.catalogues.put(replace(CATALOGUE, borrow_ms=HOUR_MS))
            found = await store.catalogues.read("DEMO")
            assert found is not None
            made.index = found
            wants = (Want("editor", "1", 4),)
            request = AccessRequest(host=Host("string", "h1"), wants=wants)
            said = (request.host.canonical, 0)
            job = Job(found, found.resolve(request), "one", 60_000, "", "", *said)
            assert (await store.lane.submit(job)).verdict is Verdict.DONE
            two_days_on = made.journal.ms(FIRST + timedelta(days=2))
            await store.client.set(CLOCK, two_days_on)
            days = {"from": str(FIRST), "to": str(FIRST + timedelta(days=1))}
            await store.client.hset(store.catalogues.keys("DEMO").ledger, "last_ms", two_days_on)
            rows, _ = await made.rows(view="peaks", **days)
            assert [(row.label, row.peak) for row in rows] == [(str(FIRST), 4)]

    asyncio.run(main())


def test_near_capacity_rests_on_the_same_record(quarter: tuple[asyncio.Runner, Quarter]) -> None:
    runner, made = quarter
    lines = runner.run(made.reports.near_capacity(made.index))
    found = {near.line: near for near in lines}
    assert found["M1"].used == sum(units for _, line, units in made.journal.units if line == "M1")
    window = Days(date(2030, 11, 3), LAST)
    assert found["C1"].peak == made.journal.peak(window, ["C1"])
    assert found["C1"].used == 0
    of_window = made.journal.sums(window, ["M1"])
    assert found["M1"].per_day == of_window.units // 28 > 0
    # Today is not over: it is no day to make a trend of.
    days = made.store.catalogues.keys("DEMO").days(203012)
    runner.run(made.store.client.hset(days, "M1|20301201|u", 10_000))
    assert runner.run(made.reports.near_capacity(made.index)) == lines
    runner.run(made.store.client.hdel(days, "M1|20301201|u"))
    only = runner.run(made.reports.near_capacity(made.index, ("sessions",)))
    assert [near.line for near in only] == ["M1"]
    with pytest.raises(BadRequest):
        runner.run(made.reports.near_capacity(made.index, ("nothing",)))


def test_what_is_folded_while_a_report_is_read_by_day_breaks_it_off(
    quarter: tuple[asyncio.Runner, Quarter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than days without their units."""
    runner, made = quarter
    real = Record.month

    async def late(self: Record, month: int) -> Any:
        found = await real(self, month)
        self.folded = 203009
        return found

    async def story() -> None:
        asked = read_asked(View.USAGE, {"by": ["day"], **{k: [v] for k, v in RANGE.items()}})
        report = await made.reports.open(made.index, asked)
        monkeypatch.setattr(Record, "month", late)
        with pytest.raises(BadRequest, match="days are kept from 2030-10-01 on"):
            await report.read()

    runner.run(story())


def test_a_sweep_that_fails_is_no_report(quarter: tuple[asyncio.Runner, Quarter]) -> None:
    runner, made = quarter

    async def fail(instance: str) -> None:
        raise Unavailable("The store does not answer", "not_applied")

    reports = Reports(made.store.catalogues, fail)
    with pytest.raises(Unavailable):
        runner.run(reports.open(made.index, read_asked(View.USAGE, {})))
