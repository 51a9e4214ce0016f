"""Licences: what is told of every line, how they are sorted, found and paged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.model import Line, Model, Product, Role
from gateway.web.ui.paging import PAGE_MAX
from tests.vectors.served import Served
from tests.web.ui.looks import EVIL, Looker, at_looker, looks_serving

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with looks_serving(tmp_path_factory.mktemp("licences")) as opened:
        yield opened


def _line(line_id: str, feature: str, model: Model = Model.METERED, **more: Any) -> Line:
    facts: dict[str, Any] = {"version": "1", "count": 10, "capacity": 10} | more
    return Line(id=line_id, feature=feature, model=model, **facts)


def _lines(count: int) -> tuple[Line, ...]:
    return tuple(_line(f"L{n:03d}", f"f{n:03d}", number=n + 1) for n in range(count))


def test_every_line_is_listed_the_fullest_first(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("sessions", 30), ("users", 11), ("editor", 1))
        page = await looker.page("licences")
        assert "1 of 5 lines is near capacity" in page.text
        rows = page.table("Lines, the fullest first")
        told = [(row[0], row[2], row[3], *row[4:9]) for row in rows]
        assert told == [
            ("users 1.0", "metered", "91 %", "11", "–", "10", "2 1 used", "1"),
            ("editor 2.0", "concurrent", "33 %", "1", "1", "3", "0", "2"),
            ("sessions 1.0", "metered", "30 %", "30", "–", "100", "0", "70"),
            ("api 1.0", "metered", "–", "0", "–", "uncounted", "0", "unlimited"),
            ("pages 1.0", "metered reusable", "0 %", "0", "0", "50", "0", "50"),
        ]
        assert {row[11] for row in rows} == {"permanent"}

    at_looker(served, story)


def test_lines_are_sorted_by_what_is_asked_and_by_nothing_else(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("sessions", 30))
        page = await looker.page("licences")
        page = await looker.page(page.link("Feature"))
        names = [row[0].split()[0] for row in page.table("Lines by feature")]
        assert names == ["api", "editor", "pages", "sessions", "users"]
        assert 'aria-sort="ascending"' in page.source
        page = await looker.page(page.link("Used"))
        assert page.table("Lines, the most used first")[0][0] == "sessions 1.0"
        for order in ("line", "available", "resets", "expires"):
            assert (await looker.page(f"licences?sort={order}")).status == 200
        assert (await looker.page("licences?sort=__class__")).status == 400

    at_looker(served, story)


def test_a_search_finds_by_feature_line_and_product(served: Served) -> None:
    lines = (
        _line("L1", "alpha", number=1, product=Product(name=EVIL)),
        _line("L2", "beta", number=2),
    )

    async def story(looker: Looker) -> None:
        for words, found in (("ALPH", ["alpha"]), ("l2", ["beta"]), ("onerror", ["alpha"])):
            rows = (await looker.page(f"licences?q={words}")).table("Lines")
            assert [row[0].split()[0] for row in rows] == found
        page = await looker.page("licences?q=%22%3E%3Cimg+src%3Dz")
        assert "No line fits this search." in page.text
        assert "<img" not in page.source
        assert (await looker.page(f"licences?q={'x' * 201}")).status == 400

    at_looker(served, story, lines=lines)


def test_many_lines_come_a_page_at_a_time(served: Served) -> None:
    async def story(looker: Looker) -> None:
        page = await looker.page("licences?sort=line")
        seen = [row[1] for row in page.table("Lines by id")]
        assert len(seen) == PAGE_MAX
        assert "1 to 50 of 120 lines" in page.text
        for _ in range(2):
            page = await looker.page(page.link("Next lines"))
            seen += [row[1] for row in page.table("Lines by id")]
        assert seen == [f"L{n:03d}" for n in range(120)]
        assert "Next lines" not in page.text

    at_looker(served, story, lines=_lines(120))


def test_what_is_not_in_force_is_marked_and_what_is_retired_is_apart(served: Served) -> None:
    now_ms = int(time.time() * 1000)
    lines = (
        _line("L1", "now", number=1),
        _line("L2", "past", number=2, expires_ms=now_ms - DAY_MS),
        _line("L3", "later", number=3, starts_ms=now_ms + DAY_MS),
        _line("L4", "gone", number=4, retired=True),
    )

    async def story(looker: Looker) -> None:
        page = await looker.page("licences")
        marked = {row[0].split()[0]: row[1] for row in page.table("Lines")}
        assert marked == {"now": "L1", "past": "L2 expired", "later": "L3 not started"}
        page = await looker.page(page.link("1 retired"))
        assert [row[1] for row in page.table("Lines")] == ["L4"]
        for line, state in (("L2", "expired"), ("L3", "not started"), ("L4", "retired")):
            told = (await looker.page(f"licences/line?id={line}")).text
            assert f"This line is {state}: it grants nothing" in told
        none = (await looker.page("licences?q=nothing")).text
        assert "No line fits this search." in none

    at_looker(served, story, lines=lines)


def test_only_who_may_read_sees_licences(served: Served) -> None:
    async def story(looker: Looker) -> None:
        paths = ("licences", "licences/line?id=editor", "licences/request?id=x")
        for path in paths:
            page = await looker.page(path)
            assert (page.status, "ROLE_READ" in page.text) == (403, True)
            assert "editor" not in page.text
        looker.http.cookies.clear()
        for path in paths:
            assert (await looker.page(path)).status == 303

    at_looker(served, story, Role.ADMIN)
