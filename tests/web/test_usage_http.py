"""Reports over HTTP: who may read them, what is refused, denials, peaks, capacity, comparison.

What was recorded is written straight into the store: how it gets there is others' law.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.core.errors import Unavailable
from gateway.core.model import Line, Model, Role
from gateway.store.usage import Month, Record
from tests.vectors.credentials import token
from tests.vectors.served import Served
from tests.web.desks import Desk, desk_at, without_ids
from tests.web.doors import door_serving

FORMULA = "=1+1"
FEBRUARY = "from=2026-02-01&to=2026-02-28"
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


def _line(line_id: str, feature: str, model: Model = Model.METERED, **more: Any) -> Line:
    return Line(
        id=line_id, feature=feature, version="1", model=model, count=100, capacity=100, **more
    )


LINES = (
    _line("L1", "sessions"),
    _line("L2", "editor", Model.CONCURRENT),
    _line("L3", FORMULA, retired=True),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("usage")) as opened:
        yield opened


class Reader:
    """A desk whose administrator reads reports of what is recorded."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.header = desk, {}

    async def get(self, path: str = "usage", *, instance: str | None = None) -> httpx.Response:
        http = self.desk.http
        return await http.get(self.desk.door.path(path, instance), headers=self.header)

    async def json(self, path: str) -> Any:
        answer = await self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def reading(served: Served, story: Any, *roles: Role, **changes: Any) -> None:
    async def told(desk: Desk) -> None:
        reader = Reader(desk)
        keys = served.catalogues.keys(desk.door.instance)
        await served.store.hset(keys.days(202602), mapping=RECORD)
        reader.header = await desk.header()
        await story(reader)

    changes = {"lines": LINES, "timezone": "Europe/Paris"} | changes
    desk_at(served, told, *(roles or (Role.READ,)), **changes)


@pytest.fixture(scope="module")
def reader(served: Served) -> Reader:
    """One log-in for all tests that only read."""
    found: list[Reader] = []

    async def keep(reader: Reader) -> None:
        found.append(reader)

    reading(served, keep)
    return found[0]


def test_usage_is_told_by_feature(served: Served, reader: Reader) -> None:
    async def story() -> None:
        told = await reader.json(f"usage?{FEBRUARY}")
        assert told == {
            "instance": reader.desk.door.instance,
            "timezone": "Europe/Paris",
            "from": "2026-02-01",
            "to": "2026-02-28",
            "by": "feature",
            "rows": [
                {"feature": "", "units": 0, "undone": 0, "peak": 0, "denied": 2},
                {"feature": FORMULA, "units": 7, "undone": 0, "peak": 0, "denied": 0},
                {"feature": "editor", "units": 0, "undone": 0, "peak": 3, "denied": 0},
                {"feature": "sessions", "units": 45, "undone": 2, "peak": 0, "denied": 3},
            ],
            "total": {"units": 52, "undone": 2, "peak": 3, "denied": 5},
        }

    served.run(story())


def test_denials_are_told_by_day_feature_and_code(served: Served, reader: Reader) -> None:
    async def story() -> None:
        told = await reader.json(f"usage/denials?{FEBRUARY}")
        assert told["rows"] == [
            {
                "label": "2026-02-10",
                "feature": "sessions",
                "code": "FEATURE_COUNT_INSUFFICIENT",
                "denied": 3,
            },
            {"label": "2026-02-11", "feature": "", "code": "FEATURE_NOT_FOUND", "denied": 2},
        ]
        assert (told["by"], told["total"]) == ("day,feature,code", {"denied": 5})

    served.run(story())


def test_peaks_are_told_by_day_and_line(served: Served, reader: Reader) -> None:
    async def story() -> None:
        told = await reader.json("usage/peaks?from=2026-02-03&to=2026-02-06")
        assert [tuple(row.values()) for row in told["rows"]] == [
            ("2026-02-04", "editor", "L2", 3),
            ("2026-02-05", "editor", "L2", 1),
            ("2026-02-06", "editor", "L2", 1),
        ]
        assert told["total"] == {"peak": 3}

    served.run(story())


def test_a_comparison_has_the_report_on_the_days_before(served: Served, reader: Reader) -> None:
    async def story() -> None:
        query = "from=2026-02-08&to=2026-02-14&feature=sessions&compare=true"
        told = await reader.json(f"usage?{query}")
        assert [row["units"] for row in told["rows"]] == [5]
        before = told["previous"]
        assert (before["from"], before["to"]) == ("2026-02-01", "2026-02-07")
        assert [row["units"] for row in before["rows"]] == [40]

    served.run(story())


def test_a_csv_executes_nothing_in_a_spreadsheet(served: Served, reader: Reader) -> None:
    async def story() -> None:
        answer = await reader.get(f"usage?{FEBRUARY}&format=csv")
        assert answer.headers["content-type"].startswith("text/csv")
        name = f'filename="usage-{reader.desk.door.instance}-2026-02-01-2026-02-28.csv"'
        assert name in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["feature"] for row in rows] == ["", "'" + FORMULA, "editor", "sessions"]
        assert rows[3] == {
            "feature": "sessions",
            "units": "45",
            "undone": "2",
            "peak": "0",
            "denied": "3",
        }

    served.run(story())


def test_capacity_names_the_lines_that_are_near_it(served: Served, reader: Reader) -> None:
    async def story() -> None:
        keys = served.catalogues.keys(reader.desk.door.instance)
        await served.store.hset(keys.used, mapping={"L1|0": 96, "L2|0": 80})
        told = await reader.json("usage/capacity")
        found = [(line["line"], line["percent"], line["level"]) for line in told["lines"]]
        assert found == [("L1", 96, 95), ("L2", 80, 80)]
        assert told["lines"][0]["forecast"] is None
        assert told["lines"][0]["why"].startswith("too little data: 0 ")
        only = await reader.json("usage/capacity?feature=editor")
        assert [line["line"] for line in only["lines"]] == ["L2"]
        answer = await reader.get("usage/capacity?format=csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(row["line"], row["used"], row["forecast"]) for row in rows] == [
            ("L1", "96", ""),
            ("L2", "80", ""),
        ]

    served.run(story())


REFUSED = (
    ("period=next-week", "period"),
    ("by=hour", "by"),
    ("from=2026-02-01", "to"),
    ("from=1&to=2", "from"),
    ("feature=nothing", "feature"),
    ("feature=", "feature"),
    ("format=xml", "format"),
    ("format=csv&compare=true", "compare"),
    ("period=today&period=today", "period"),
    ("formt=csv", "formt"),
    ("period", "query"),
    ("by=%FF", "query"),
)


def test_what_cannot_be_asked_is_named(served: Served, reader: Reader) -> None:
    async def story() -> None:
        before = await served.keys()
        for query, named in REFUSED:
            answer = await reader.get(f"usage?{query}")
            assert (answer.status_code, answer.json()["key"]) == (400, "gateway.badRequest")
            assert answer.json()["arguments"] == [named], query
        for query, named in (("feature=nothing", "feature"), ("period=today", "period")):
            answer = await reader.get(f"usage/capacity?{query}")
            assert (answer.status_code, answer.json()["arguments"]) == (400, [named])
        assert await served.keys() == before

    served.run(story())


def test_only_who_may_read_is_told(served: Served) -> None:
    async def story(reader: Reader) -> None:
        paths = ("usage", "usage/denials", "usage/peaks", "usage/capacity")
        for path in paths:
            answer = await reader.get(path)
            assert (answer.status_code, answer.json()["arguments"]) == (403, ["ROLE_READ"])
        answers = [await reader.get(path, instance="NOBODY") for path in paths]
        for said in ({}, {"Authorization": f"Bearer {token()}"}):
            reader.header = said
            for path in paths:
                answers += [await reader.get(path), await reader.get(f"{path}?by=hour")]
        assert {answer.status_code for answer in answers} == {401}
        assert len({without_ids(answer) for answer in answers}) == 1

    reading(served, story, Role.ADMIN, Role.PRODUCER)


def test_the_short_form_is_the_default_instance_and_read_only(served: Served) -> None:
    async def story(reader: Reader) -> None:
        http = reader.desk.http
        for path in ("/api/1.0/usage", reader.desk.door.path("usage", "~")):
            answer = await http.get(f"{path}?{FEBRUARY}", headers=reader.header)
            assert answer.json()["instance"] == reader.desk.door.instance
            refused = await http.post(path, headers=reader.header)
            assert refused.status_code == 405

    reading(served, story, default=True)


def test_a_report_comes_in_pieces_and_as_a_head_alone(served: Served, reader: Reader) -> None:
    async def story() -> None:
        path = "usage?from=2017-01-01&to=2026-12-31&by=day"
        answer = await reader.get(path)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert len(answer.content) > 65_536
        assert len(answer.json()["rows"]) == 3_652
        http = reader.desk.http
        head = await http.head(reader.desk.door.path(path), headers=reader.header)
        assert (head.status_code, head.content) == (200, b"")

    served.run(story())


def test_a_report_that_breaks_off_is_seen_not_to_be_whole(
    served: Served, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Record.month

    async def failing(self: Record, month: int) -> Month:
        if month == 202612:
            raise Unavailable("The store went away", "not_applied")
        return await real(self, month)

    async def story() -> None:
        monkeypatch.setattr(Record, "month", failing)
        with pytest.raises(httpx.RemoteProtocolError):
            await reader.get("usage?from=2017-01-01&to=2026-12-31&by=day")
        answer = await reader.get("usage?from=2026-12-01&to=2026-12-31")
        assert (answer.status_code, answer.json()["key"]) == (503, "gateway.unavailable")
        assert (await reader.get("usage?from=2026-11-01&to=2026-11-30")).status_code == 200

    served.run(story())
