"""Sessions and users: year to date, last month, last quarter, last year, after two years of posts.

A product posts both once a week, as the field does it (metered, `0d`, not incremental, partial).
The eight answers are asked of the API and of the command line, as JSON, CSV and table, and held
against the posts themselves, added up day by day.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.core.model import UNITS_MAX, Line, Model, Reset, Role
from tests.vectors.credentials import keys_of
from tests.vectors.served import Served, serving
from tests.web.desks import Desk
from tests.web.doors import Door

PARIS = ZoneInfo("Europe/Paris")
# In the future, so that for the instance it is then: no transaction is before the last one.
FIRST, NOW = date(2029, 12, 17), datetime(2031, 12, 17, 9, 30, tzinfo=PARIS)
PERIODS = {
    "year-to-date": (date(2031, 1, 1), date(2031, 12, 17)),
    "last-month": (date(2031, 11, 1), date(2031, 11, 30)),
    "last-quarter": (date(2031, 7, 1), date(2031, 9, 30)),
    "last-year": (date(2030, 1, 1), date(2030, 12, 31)),
}
FEATURES = ("sessions", "users")
README = Path(__file__).parents[2] / "README.md"


def _line(line_id: str, feature: str, count: int | None, reset: Reset) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version="1.0",
        model=Model.METERED,
        count=count,
        capacity=UNITS_MAX if count is None else count,
        reset=reset,
    )


class Story:
    """What was posted and taken, day by day, and the gateway that was told."""

    def __init__(self, desk: Desk, data_dir: Path) -> None:
        self.desk, self.data_dir = desk, data_dir
        self.taken: dict[tuple[str, date], int] = {}
        self.denied: dict[tuple[str, date], int] = {}
        self.header: dict[str, str] = {}

    async def tell(self) -> None:
        """Post every Monday at six, and at the ends of years a moment before and after midnight."""
        lines = (
            _line("L1", "sessions", None, Reset.NONE),
            _line("L2", "users", 120, Reset.MONTHLY),
        )
        begin = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=PARIS)
        await self.desk.door.served.set_clock(round(begin.timestamp() * 1000))
        await self.desk.open(Role.READ, keys=keys_of("own"), lines=lines, timezone="Europe/Paris")
        for number in range(105):
            day = FIRST + timedelta(weeks=number)
            await self._post(datetime(day.year, day.month, day.day, 6, tzinfo=PARIS), number)
            if (day + timedelta(7)).year != day.year:
                midnight = datetime(day.year + 1, 1, 1, tzinfo=PARIS)
                await self._post(midnight - timedelta(milliseconds=1), 1_000 + number)
                await self._post(midnight, 2_000 + number)
        await self.desk.door.served.set_clock(int(NOW.timestamp() * 1000))

    async def _post(self, at: datetime, number: int) -> None:
        await self.desk.door.served.set_clock(round(at.timestamp() * 1000))
        asked = {"sessions": 1_000 + number * 7, "users": 20 + number % 23}
        body = {
            "hostId": {"type": "string", "value": "plant-7"},
            "incremental": False,
            "partial": True,
            "borrow-interval": "0d",
            "correlationId": f"post-{number}",
            "features": [{"name": name, "count": count} for name, count in asked.items()],
        }
        answer = await self.desk.door.knock(body)
        assert answer.status_code == 200, answer.text
        for feature in answer.json()["features"]:
            key = (feature["name"], at.date())
            self.taken[key] = self.taken.get(key, 0) + feature["count"]
        for status in answer.json()["statusList"]:
            key = (status["name"], at.date())
            self.denied[key] = self.denied.get(key, 0) + 1

    def rows(self, period: str) -> list[dict[str, Any]]:
        """Add up what was taken, by nothing but the calendar."""
        first, last = PERIODS[period]

        def sum_of(feature: str, found: dict[tuple[str, date], int]) -> int:
            inside = (key for key in found if key[0] == feature and first <= key[1] <= last)
            return sum(found[key] for key in inside)

        return [
            {
                "feature": feature,
                "units": sum_of(feature, self.taken),
                "undone": 0,
                "peak": 0,
                "denied": sum_of(feature, self.denied),
            }
            for feature in FEATURES
        ]

    async def ask(self, query: str) -> Any:
        http = self.desk.http
        answer = await http.get(self.desk.door.path("usage") + query, headers=self.header)
        assert answer.status_code == 200, answer.text
        return answer

    def command(self, *arguments: str) -> str:
        program = "from gateway.cli import main; main()"
        options = ("--data-dir", str(self.data_dir))
        instance = self.desk.door.instance
        told = subprocess.run(
            [sys.executable, "-c", program, "report", instance, *arguments, *options],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        return told.stdout


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    data_dir = tmp_path_factory.mktemp("eight")
    with serving(data_dir, TOKEN__CLOCK_SKEW_S="0") as served:
        told = Story(Desk(Door(served)), data_dir)
        served.run(told.tell())
        told.header = served.run(told.desk.header())
        # Whoever asks moves the instance's time to now; the command line then has it from there.
        served.run(told.ask("?period=today"))
        yield told


def served_of(story: Story) -> Served:
    return story.desk.door.served


def test_the_posts_were_cut_at_capacity_now_and_then(story: Story) -> None:
    """Otherwise the denials below would be told right by telling nothing."""
    assert sum(story.denied.values()) > 3
    assert {name for name, _ in story.denied} == {"users"}


@pytest.mark.parametrize("period", PERIODS)
def test_the_answers_are_right_through_the_api_as_json(story: Story, period: str) -> None:
    told = served_of(story).run(story.ask(f"?period={period}")).json()
    rows = story.rows(period)
    first, last = PERIODS[period]
    assert told == {
        "instance": story.desk.door.instance,
        "timezone": "Europe/Paris",
        "from": first.isoformat(),
        "to": last.isoformat(),
        "by": "feature",
        "rows": rows,
        "total": {name: sum(row[name] for row in rows) for name in list(rows[0])[1:]},
    }


@pytest.mark.parametrize("period", PERIODS)
def test_the_answers_are_right_through_the_api_as_csv(story: Story, period: str) -> None:
    answer = served_of(story).run(story.ask(f"?period={period}&format=csv"))
    assert answer.headers["content-type"].startswith("text/csv")
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert found == [{k: str(v) for k, v in row.items()} for row in story.rows(period)]


def test_the_readme_shows_what_came_of_these_two_years(story: Story) -> None:
    shown = re.findall(
        r"^(feature,units,\S+) +# ([a-z-]+): (\S+) to (\S+)\n(.+)\n(.+)$",
        README.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [period for _, period, *_ in shown] == list(PERIODS)
    for head, period, first, last, *rows in shown:
        assert (first, last) == tuple(map(str, PERIODS[period]))
        assert list(csv.DictReader([head, *rows])) == [
            {k: str(v) for k, v in row.items()} for row in story.rows(period)
        ]


@pytest.mark.parametrize("feature", FEATURES)
def test_one_feature_is_asked_for_alone(story: Story, feature: str) -> None:
    told = served_of(story).run(story.ask(f"?period=last-year&feature={feature}&by=month")).json()
    expected = {row["feature"]: row for row in story.rows("last-year")}[feature]
    assert sum(row["units"] for row in told["rows"]) == expected["units"]
    assert [row["label"] for row in told["rows"]] == [f"2030-{month:02d}" for month in range(1, 13)]


@pytest.mark.slow
@pytest.mark.parametrize("period", PERIODS)
def test_the_answers_are_right_through_the_command_line(story: Story, period: str) -> None:
    rows = story.rows(period)
    told = json.loads(story.command("--period", period, "--format", "json"))
    assert told["rows"] == rows
    found = csv.DictReader(io.StringIO(story.command("--period", period, "--format", "csv")))
    assert list(found) == [{k: str(v) for k, v in row.items()} for row in rows]
    table = story.command("--period", period)
    first, last = PERIODS[period]
    assert f"{period}, {first} to {last} (Europe/Paris)" in table
    for row in rows:
        cells = [part.strip() for part in _row_of(table, row["feature"]).strip("│").split("│")]
        assert cells == [str(value) for value in row.values()]


@pytest.mark.slow
def test_a_table_shows_the_period_before(story: Story) -> None:
    table = story.command("--period", "last-month", "--compare")
    assert "compared with 2031-10-01 to 2031-10-31" in table
    now = {row["feature"]: row["units"] for row in story.rows("last-month")}["sessions"]
    was = sum(
        units
        for (name, day), units in story.taken.items()
        if name == "sessions" and (day.year, day.month) == (2031, 10)
    )
    cells = _row_of(table, "sessions").replace("│", " ").split()
    assert cells[:3] == ["sessions", str(now), str(was)]


def _row_of(table: str, feature: str) -> str:
    (row,) = [line for line in table.splitlines() if f" {feature} " in line]
    return row
