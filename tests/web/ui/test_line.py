"""A line: what it is and has, who uses it, its last days, its books, and what was denied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.core.model import Attachment, FloatingLicense, Line, Model, Product, Reset
from gateway.core.periods import day_number
from gateway.web.ui.paging import PAGE_MAX
from tests.vectors.served import Served
from tests.web.ui.looks import ESCAPED, EVIL, Looker, at_looker, looks_serving, noon_zone


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with looks_serving(tmp_path_factory.mktemp("line")) as opened:
        yield opened


def _line(line_id: str, feature: str, model: Model = Model.METERED, **more: Any) -> Line:
    facts: dict[str, Any] = {"version": "1", "count": 10, "capacity": 10} | more
    return Line(id=line_id, feature=feature, model=model, **facts)


def test_a_line_tells_what_was_provisioned_what_is_used_and_when_it_resets(
    served: Served,
) -> None:
    zone = noon_zone()
    line = _line(
        "L1",
        "alpha",
        number=1,
        overdraft="5",
        capacity=15,
        undo_ms=3_600_000,
        reset=Reset.MONTHLY,
        reset_timezone=zone,
        notice=EVIL,
        vendor_string=EVIL,
        selectors={"site": EVIL},
        product=Product(name=EVIL, version="7", activation_id="A-1"),
    )

    async def story(looker: Looker) -> None:
        body = {
            "hostId": {"type": "string", "value": "h1"},
            "features": [{"name": "alpha", "count": 12}],
            "selectorsDictionary": {"site": EVIL},
        }
        assert (await looker.door.knock(body)).json()["statusList"] == []
        page = await looker.page("licences/line?id=L1")
        for words in (
            "Used 12 80 % of 15",
            "Available 3",
            "Overage 2 of an overdraft of 5",
            "Next reset monthly",
            f"Reset monthly in {zone}",
            "Undo interval 1h",
            f"Product {EVIL} 7",
            f"Selectors site = {EVIL}",
            "Maximum 15",
        ):
            assert words in page.text
        assert EVIL not in page.source
        assert page.source.count(ESCAPED) >= 4
        [row] = page.table("Hosts whose use can still be undone")
        assert row[:2] == ["STRING:h1", "12"]

    at_looker(served, story, lines=(line,), timezone=zone)


def test_a_line_tells_of_its_feature_and_its_licence_in_all(served: Served) -> None:
    def sold(feature: str) -> FloatingLicense:
        return FloatingLicense(license_id=7, product="SUITE", feature=feature)

    lines = (
        _line("L1", "alpha", number=1, overdraft="5", capacity=15, licensespring=sold(EVIL)),
        _line("L2", "alpha", number=2, version="2"),
        _line("L3", "beta", number=3, licensespring=sold("")),
        _line("L4", "gamma", number=4),
        _line("L5", "alpha", number=5, retired=True),
        _line("L6", "alpha", number=6, expires_ms=1_000),
    )

    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("alpha", 22), ("beta", 3))
        page = await looker.page("licences/line?id=L1")
        told = "Of alpha in all 22 are used of 25, 5 past the count, on 2 lines in force."
        assert told in page.text
        assert page.table("Lines of the same feature or licence") == [
            ["L1 this one", "alpha 1", f"feature {EVIL}", "15", "15", "5"],
            ["L2", "alpha 2", "–", "7", "10", "0"],
            ["L3", "beta 1", "itself", "3", "10", "0"],
            ["L6 expired", "alpha 1", "–", "0", "10", "0"],
        ]
        assert EVIL not in page.source
        alone = await looker.page("licences/line?id=L4")
        assert "Its feature and licence" not in alone.text

    at_looker(served, story, lines=lines)


def test_a_line_tells_who_holds_it_a_page_at_a_time(served: Served) -> None:
    line = _line("L1", "alpha", Model.CONCURRENT, number=1, count=100, capacity=100)

    async def story(looker: Looker) -> None:
        hosts = [EVIL, *(f"h{n}" for n in range(PAGE_MAX + 9))]
        for host in hosts:
            await looker.ask(host, ("alpha", 1))
        page = await looker.page("licences/line?id=L1")
        rows = page.table("Hosts that hold it")
        assert len(rows) == PAGE_MAX
        assert "60 % of 100" in page.text
        sources = page.source
        page = await looker.page(page.link("Next hosts"))
        rows += page.table("Hosts that hold it, further on")
        sources += page.source
        assert {row[0] for row in rows} == {f"STRING:{host}" for host in hosts}
        assert {row[1] for row in rows} == {"1"}
        assert all(row[2].startswith("20") and row[3].startswith("20") for row in rows)
        assert EVIL not in sources
        assert ESCAPED in sources
        assert "Next hosts" not in page.text
        assert (await looker.page("licences/line?id=L1&after=x")).status == 400

    at_looker(served, story, lines=(line,))


def test_a_line_of_which_nothing_is_held_says_so(served: Served) -> None:
    async def story(looker: Looker) -> None:
        assert "Nothing is held." in (await looker.page("licences/line?id=editor")).text
        told = (await looker.page("licences/line?id=sessions")).text
        assert "Nobody: what is used of it does not come back" in told
        assert "Nothing was denied in the last 30 days." in told

    at_looker(served, story)


def test_a_line_tells_why_it_was_denied_in_words(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("editor", 3))
        for _ in range(2):
            await looker.ask("h2", ("editor", 1))
        page = await looker.page("licences/line?id=editor")
        [row] = page.table("Denials in the last 30 days")
        assert row[:2] == ["FEATURE_COUNT_INSUFFICIENT", "2"]
        assert "everything is used, or held by others" in row[2]
        assert "Requests for it are denied." in page.text
        assert page.table("The same numbers")[0][1:] == ["3", "2"]

    at_looker(served, story)


@dataclass
class Days:
    """The local days of an instance before today, and their names in its record."""

    zone: str

    def before(self, count: int) -> datetime:
        return datetime.now(UTC).astimezone(ZoneInfo(self.zone)) - timedelta(days=count)

    async def record(self, looker: Looker, line: str, count: int, **kinds: int) -> None:
        day = day_number(self.before(count).date())
        keys = looker.served.catalogues.keys(looker.door.instance)
        told = {f"{line}|{day}|{kind}": units for kind, units in kinds.items()}
        await looker.served.store.hset(keys.days(day // 100), mapping=told)


def test_the_last_days_of_units_are_drawn_with_the_same_numbers_in_a_table(
    served: Served,
) -> None:
    days = Days(noon_zone())

    async def story(looker: Looker) -> None:
        await days.record(looker, "sessions", 2, u=40, b=3)
        await days.record(looker, "sessions", 29, u=7)
        await days.record(looker, "sessions", 30, u=9_999)  # not shown any more
        await days.record(looker, "users", 2, u=8_888)  # of another line
        page = await looker.page("licences/line?id=sessions")
        rows = page.table("The same numbers")
        assert len(rows) == 30
        told = {row[0]: row[1:] for row in rows if row[1:] != ["0", "0", "0"]}
        assert told == {
            f"{days.before(2):%Y-%m-%d}": ["40", "3", "0"],
            f"{days.before(29):%Y-%m-%d}": ["7", "0", "0"],
        }
        assert f"<title>{days.before(2):%Y-%m-%d}: 40 units used, net</title>" in page.source
        assert "Denials, by day" not in page.source
        assert "888" not in page.text

    at_looker(served, story, timezone=days.zone)


def test_seats_are_told_also_of_days_on_which_nothing_changed(served: Served) -> None:
    days = Days(noon_zone())

    async def story(looker: Looker) -> None:
        keys = looker.served.catalogues.keys(looker.door.instance)
        await looker.served.store.hset(keys.used, "editor|0", 1)
        await days.record(looker, "editor", 40, p=2, h=2)
        await days.record(looker, "editor", 5, p=3, h=1)
        since_ms = int(days.before(60).timestamp() * 1000)
        await looker.served.store.hset(keys.ledger, "since_ms", since_ms)
        page = await looker.page("licences/line?id=editor")
        held = [row[1] for row in reversed(page.table("The same numbers"))]
        assert held == ["2"] * 24 + ["3"] + ["1"] * 5
        assert "capacity 3" in page.text  # the bound of the chart

    at_looker(served, story, timezone=days.zone)


def test_what_became_of_its_units_is_told_by_upstream(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("sessions", 40))
        page = await looker.page("licences/line?id=sessions")
        assert "40 units were ever acknowledged" in page.text
        rows = page.table("What became of them")
        assert rows == [["parent", "40", "0", "40", "0", "0", "0", "agrees"]]
        keys = looker.served.catalogues.keys(looker.door.instance)
        await looker.served.store.hincrby(keys.ledger, "forwarded|sessions|parent", 2)
        await looker.served.store.hincrby(keys.ledger, "days|sessions", 1)
        page = await looker.page("licences/line?id=sessions")
        assert page.table("What became of them")[0][7] == "does not agree"
        assert "but its days come to 41" in page.text
        assert (
            "nothing of them goes upstream" in (await looker.page("licences/line?id=editor")).text
        )

    at_looker(served, story, upstreams=(Attachment("parent"),))


def test_a_part_of_a_line_that_cannot_be_read_hides_no_other(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("editor", 2))
        keys = looker.served.catalogues.keys(looker.door.instance)
        for month in await looker.served.store.keys(keys.prefix + "days:*"):
            await looker.served.store.set(month, EVIL)
        page = await looker.page("licences/line?id=editor")
        assert page.status == 200
        assert "Last 30 days It cannot be read" in page.text
        assert page.table("Hosts that hold it")[0][:2] == ["STRING:h1", "2"]
        assert EVIL not in page.source

    at_looker(served, story)


def test_a_line_that_is_not_there_is_not_there(served: Served) -> None:
    async def story(looker: Looker) -> None:
        for asked in ("nothing", "..", "%3Cimg%3E", ""):
            page = await looker.page(f"licences/line?id={asked}")
            assert page.status == 404
            assert "no line of this id" in page.text
            assert "<img" not in page.source

    at_looker(served, story)
