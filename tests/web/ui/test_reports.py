"""Reports on a page: what is chosen, what is told of it, charts with the same numbers, files.

What was recorded is written straight into the store: how it gets there is others' law.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.model import Line, Model, Role
from gateway.service import report_tables
from tests.vectors.served import Served
from tests.web.desks import LOGIN
from tests.web.doors import door_serving
from tests.web.ui.visitors import XSS, Visit, at_visitor, is_escaped, text_of

RECORD = {
    "L1|20260203|u": 40,
    "L1|20260203|b": 2,
    "L1|20260210|u": 5,
    "L1|20260210|d:FEATURE_COUNT_INSUFFICIENT": 3,
    "L2|20260204|p": 3,
    "L2|20260204|h": 1,
    "L3|20260205|u": 7,
    "|20260211|d:FEATURE_NOT_FOUND": 2,
}
BEFORE = {"L1|20260105|u": 19}
FEBRUARY = {"from": "2026-02-01", "to": "2026-02-28"}


def _line(line_id: str, feature: str, model: Model = Model.METERED, **more: Any) -> Line:
    facts: dict[str, Any] = {"version": "1", "count": 100, "capacity": 100} | more
    return Line(id=line_id, feature=feature, model=model, **facts)


LINES = (
    _line("L1", "sessions"),
    _line("L2", "editor", Model.CONCURRENT),
    _line("L3", XSS, retired=True),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("reports")) as opened:
        yield opened


def at_reader(served: Served, story: Any, *roles: Role) -> None:
    """Run a story of ann's at an instance with two recorded months."""

    async def told(ann: Visit) -> None:
        keys, store = served.catalogues.keys(ann.door.instance), served.store
        await store.hset(keys.ledger, "since_ms", 1_735_689_600_000)  # 2025
        await store.hset(keys.days(202602), mapping=RECORD)
        await store.hset(keys.days(202601), mapping=BEFORE)
        await story(ann)

    at_visitor(served, told, *roles, lines=LINES)


def test_usage_is_told_by_feature_with_its_total(served: Served) -> None:
    async def story(ann: Visit) -> None:
        page = await ann.page("reports", **FEBRUARY)
        assert "Usage from 2026-02-01 to 2026-02-28" in page
        assert "52 units in all" in page  # 40 + 5 + 7
        assert "2 were undone" in page
        assert "sessions 45 2" in page

    at_reader(served, story)


def test_a_chart_has_the_numbers_of_the_table(served: Served) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.get("reports", by="day,feature", feature="sessions", **FEBRUARY)
        assert answer.text.count("<svg") == 1
        drawn = re.findall("<title>(2026-[^:]*): ([0-9]*) units</title>", answer.text)
        assert len(drawn) == 28  # a day without units has its place
        assert {day: count for day, count in drawn if count != "0"} == {
            "2026-02-03": "40",
            "2026-02-10": "5",
        }
        assert "2026-02-03 sessions 40" in text_of(answer)

    at_reader(served, story)


def test_the_time_before_stands_beside(served: Served) -> None:
    async def story(ann: Visit) -> None:
        days = {"from": "2026-02-01", "to": "2026-02-28", "compare": "1"}
        answer = await ann.get("reports", feature="sessions", **days)
        page = text_of(answer)
        assert "45 units in all, 19 in the time before (2026-01-04 to 2026-01-31)" in page
        assert "19 +136 %" in page
        assert "the time before" in answer.text

    at_reader(served, story)


def test_denials_and_seats_have_views_of_their_own(served: Served) -> None:
    async def story(ann: Visit) -> None:
        page = await ann.page("reports", view="denials", **FEBRUARY)
        assert "5 denied in all" in page
        assert "FEATURE_COUNT_INSUFFICIENT 3" in page
        page = await ann.page("reports", view="peaks", **FEBRUARY)
        assert "L2 3" in page
        assert "Seats held at most from" in page
        assert "3 seats at once, of all lines together" in page

    at_reader(served, story)


def test_units_of_several_features_are_not_added_up_in_silence(served: Served) -> None:
    async def story(ann: Visit) -> None:
        assert "adds up units of different features" in await ann.page(
            "reports", by="month", **FEBRUARY
        )
        alone = await ann.page("reports", by="month", feature="sessions", **FEBRUARY)
        assert "adds up" not in alone
        some = await ann.page("reports", by="month", feature="sessions, editor", **FEBRUARY)
        assert "adds up units of different features" in some
        assert "45 units in all" in some

    at_reader(served, story)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"from": "2026-02-30", "to": "2026-03-01"}, "from"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "is before from"),
        ({"from": "2026-02-02"}, "from and to go together"),
        ({"period": "someday"}, "period"),
        ({"feature": "nothing"}, "nothing"),
        ({"feature": "sessions,nothing"}, "nothing"),
        ({"by": "decade"}, "by must be of"),
        ({"view": "nothing"}, "view must be one of usage, denials, peaks"),
    ],
)
def test_what_cannot_be_answered_is_said_beside_the_form(
    served: Served, query: dict[str, str], sentence: str
) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.get("reports", **query)
        assert answer.status_code == 400
        assert sentence in text_of(answer).partition("Show")[2]
        for name in ("from", "to", "feature"):
            assert f'value="{query.get(name, "")}"' in answer.text
        assert answer.text.count('aria-invalid="true"') == ("view" not in query)
        assert (await ann.get("reports/file", format="csv", **query)).status_code == 400

    at_reader(served, story)


def test_what_no_line_has_is_named_so_in_chart_and_table(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for by, drawn in (("feature", ">of no line: 0 units<"), ("day,feature", "of no line</h3>")):
            answer = await ann.get("reports", by=by, **FEBRUARY)
            assert drawn in answer.text
            assert "of no line 0 0 0 2" in text_of(answer)
            assert "something was denied 5 times" in text_of(answer)
        for by, name in (
            ("feature,code", "of no line FEATURE_NOT_FOUND"),
            ("line,code", "of no line FEATURE_NOT_FOUND"),
            ("code", "FEATURE_NOT_FOUND"),
        ):
            answer = await ann.get("reports", view="denials", by=by, **FEBRUARY)
            assert f"<title>{name}: 2 denied" in answer.text

    at_reader(served, story)


def test_what_is_too_long_for_a_page_is_offered_as_a_file(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_tables, "ROWS_MAX", 1)

    async def story(ann: Visit) -> None:
        answer = await ann.get("reports", by="line", **FEBRUARY)
        assert answer.status_code == 400
        assert "more than 1 rows" in text_of(answer)
        assert "reports/file?format=csv" in answer.text

    at_reader(served, story)


def test_a_chart_of_too_many_columns_is_not_drawn(served: Served) -> None:
    async def story(ann: Visit) -> None:
        days = {"from": "2025-01-01", "to": "2026-02-28"}
        answer = await ann.get("reports", by="day,feature", feature="sessions", **days)
        assert "<svg" not in answer.text
        assert "too many columns for a chart: 424." in text_of(answer)
        assert "2026-02-03 sessions 40" in text_of(answer)

    at_reader(served, story)


def test_what_counts_most_comes_first_but_in_time(served: Served) -> None:
    async def story(ann: Visit) -> None:
        page = await ann.page("reports", by="line", **FEBRUARY)
        assert page.index("L1 45") < page.index("L3 7")
        page = await ann.page("reports", by="day", compare="1", **FEBRUARY)
        # 19 units of 5 January stand beside the day at the same place, 2 February.
        assert "2026-02-02 0 0 0 0 19 -100 %" in page
        assert page.index("2026-02-02 0") < page.index("2026-02-03 40")

    at_reader(served, story)


def test_a_day_before_without_a_row_of_now_stands_at_its_place(served: Served) -> None:
    async def story(ann: Visit) -> None:
        days = {"compare": "1", "by": "day,line", "feature": "sessions"}
        page = await ann.page("reports", **days, **FEBRUARY)
        assert "2026-02-02 sessions L1 0 0 0 0 19 -100 %" in page
        assert "2026-02-03 sessions L1 40 2 0 0 0 new" in page
        assert page.index("2026-02-02 sessions") < page.index("2026-02-03 sessions")

    at_reader(served, story)


def test_seats_of_lines_that_were_busy_at_different_moments_are_bounds(served: Served) -> None:
    async def story(ann: Visit) -> None:
        keys = served.catalogues.keys(ann.door.instance)
        await ann.put(lines=(*LINES, _line("L4", "editor", Model.CONCURRENT)))
        await served.store.hset(keys.days(202602), mapping={"L4|20260204|p": 2, "L4|20260204|h": 0})
        page = await ann.page("reports", view="peaks", by="feature", **FEBRUARY)
        assert "3 to 5 seats at once" in page
        assert "only bounds are known" in page
        assert "editor 3 to 5" in page

    at_reader(served, story)


@pytest.mark.parametrize(
    ("view", "path"), [("usage", "usage"), ("denials", "usage/denials"), ("peaks", "usage/peaks")]
)
def test_files_are_what_the_api_gives(served: Served, view: str, path: str) -> None:
    async def story(ann: Visit) -> None:
        token = (await ann.http.post(ann.door.path("authorize"), json=LOGIN)).json()["token"]
        header = {"Authorization": f"Bearer {token}"}
        for form in ("csv", "json"):
            query = {"feature": "sessions", **FEBRUARY}
            query["by"] = {"usage": "feature", "denials": "feature,code", "peaks": "line"}[view]
            got = await ann.get("reports/file", view=view, format=form, **query)
            asked = await ann.http.get(
                ann.door.path(path), params=query | {"format": form}, headers=header
            )
            assert (200, asked.text) == (got.status_code, got.text)
            named = f'filename="{view}-{ann.door.instance}-2026-02-01-2026-02-28.{form}"'
            assert named in got.headers["content-disposition"]
        text = (await ann.get("reports/file", format="csv", **FEBRUARY)).text
        rows = list(csv.reader(io.StringIO(text)))
        assert rows[0][0] == "feature"
        assert (await ann.get("reports/file", **FEBRUARY)).status_code == 400  # of no format

    at_reader(served, story)


def test_names_from_outside_are_text(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for query in ({}, {"feature": XSS}, {"period": XSS}, {"by": XSS}, {"view": XSS}):
            for by in ("feature", "line", "day,feature"):
                answer = await ann.get("reports", **{"by": by, **FEBRUARY, **query})
                assert answer.status_code in (200, 400)
                assert is_escaped(answer.text)

    at_reader(served, story)


def test_without_the_role_there_is_nothing(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for page in ("reports", "reports/file"):
            assert (await ann.get(page)).status_code == 403

    at_reader(served, story, Role.DROPCLIENT)
