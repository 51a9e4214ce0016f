"""`report`: tables, CSV and JSON of what is recorded, and the ten columns of what was spooled."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.reporting import tables
from gateway.core.model import Catalogue, Line, Model, Product
from gateway.core.ports import Answer
from gateway.core.usage import Batch, Choice, Row
from gateway.store.opening import open_store
from gateway.upstream.raw_usage import COLUMNS
from gateway.upstream.spool import SpoolUpstream, encode
from gateway.upstream.spooling import SpoolSender
from tests.upstream.spool_house import PRIVATE

PARIS = ZoneInfo("Europe/Paris")
# In the future, which is then now for the instance: nothing was before its last transaction.
NOW = datetime(2031, 11, 20, 12, tzinfo=PARIS)
HOUR = 3_600


def _line(line_id: str, feature: str, model: Model = Model.METERED, **more: Any) -> Line:
    return Line(
        id=line_id, feature=feature, version="1.0", model=model, count=100, capacity=100, **more
    )


CATALOGUE = Catalogue(
    id="DEMO",
    name="-Acme",
    default=True,
    timezone="Europe/Paris",
    lines=(
        _line("L1", "sessions", product=Product(name="@Suite", activation_id="A-1")),
        _line("L2", "editor", Model.CONCURRENT),
    ),
)
RECORD = {
    "L1|20311101|u": 12,
    "L1|20311103|u": -2,
    "L1|20311103|b": 2,
    "L1|20311004|u": 8,
    "L1|20311102|d:FEATURE_COUNT_INSUFFICIENT": 3,
    "L2|20311105|p": 4,
    "L2|20311105|h": 1,
}


class Home:
    """A store with a record, kept open, and commands that attach to it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.data_dir = directory, directory / "var"
        self.spool = directory / "spool"
        self.config = directory / "gateway.toml"
        self.config.write_text(
            f'[[upstream]]\nname = "usb"\nkind = "spool"\ndir = "{self.spool}"\n'
            '[[upstream]]\nname = "meter"\nkind = "cloudevents"\nurl = "http://127.0.0.1/"\n'
        )

    def report(self, *words: str) -> Result:
        options = ["--data-dir", str(self.data_dir), "--config", str(self.config)]
        return CliRunner().invoke(main, ["report", *words, *options])

    def told(self, *words: str) -> str:
        result = self.report(*words)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def batch(self, number: int, rows: tuple[Row, ...], instance: str = "DEMO") -> None:
        """Write a batch to the spool as a forwarder does."""
        lines = {line.id: line for line in CATALOGUE.lines}
        body = encode(Choice(rows=rows), instance, f"batch-{number}", lines)
        sender = SpoolSender(
            SpoolUpstream(name="usb", directory=self.spool, interval_s=60), PRIVATE
        )
        sent = asyncio.run(sender.send(Batch(f"batch-{number}", "usb", instance, rows, body)))
        assert sent.answer is Answer.HANDED_OVER


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("report"))
    with asyncio.Runner() as runner:
        opened = open_store("embedded", made.data_dir, partitions=256)
        store = runner.run(opened.__aenter__())

        async def write() -> None:
            await store.catalogues.put(CATALOGUE)
            keys = store.catalogues.keys("DEMO")
            for field, value in RECORD.items():
                await store.client.hset(keys.days(int(field.split("|")[1]) // 100), field, value)
            last_ms = round(NOW.timestamp() * 1000)
            since_ms = round((NOW - timedelta(days=60)).timestamp() * 1000)
            mapping = {"last_ms": last_ms, "since_ms": since_ms}
            await store.client.hset(keys.ledger, mapping=mapping)
            await store.client.hset(keys.used, mapping={"L1|0": 90, "L2|0": 1})

        try:
            runner.run(write())
            yield made
        finally:
            runner.run(opened.__aexit__(None, None, None))


def cells(table: str) -> list[list[str]]:
    rows = [line for line in table.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]


def test_a_table_is_this_month_by_feature(home: Home) -> None:
    told = home.told("~")
    assert told.startswith("DEMO: month-to-date, 2031-11-01 to 2031-11-20 (Europe/Paris)\n")
    assert cells(told) == [
        ["editor", "0", "0", "4", "0"],
        ["sessions", "10", "2", "0", "3"],
        ["total", "10", "2", "4", "3"],
    ]


def test_a_comparison_stands_beside_it(home: Home) -> None:
    told = home.told("DEMO", "--compare", "--feature", "sessions")
    assert "compared with 2031-10-01 to 2031-10-20\n" in told
    assert cells(told)[0][:4] == ["sessions", "10", "8", "+25 %"]
    told = home.told("DEMO", "--compare", "--by", "month,line", "--format", "json")
    found = json.loads(told)
    assert [row["units"] for row in found["previous"]["rows"]] == [8]


def test_denials_and_peaks_are_reports_of_their_own(home: Home) -> None:
    told = cells(home.told("DEMO", "--denials"))
    assert told[0] == ["2031-11-02", "sessions", "FEATURE_COUNT_INSUFFICIENT", "3"]
    told = cells(home.told("DEMO", "--peaks", "--from", "2031-11-04", "--to", "2031-11-06"))
    assert told == [
        ["2031-11-05", "editor", "L2", "4"],
        ["2031-11-06", "editor", "L2", "1"],
        ["total", "", "", "4"],
    ]


def test_lines_near_capacity_are_listed(home: Home) -> None:
    told = cells(home.told("DEMO", "--near-capacity"))
    assert told[0][:7] == ["sessions", "L1", "metered", "90", "-", "100", "90"]
    found = json.loads(home.told("DEMO", "--near-capacity", "--format", "json"))
    assert [(line["line"], line["level"]) for line in found["lines"]] == [("L1", 80)]
    told = home.told("DEMO", "--near-capacity", "--feature", "editor")
    assert told == "no line is near its capacity\n"
    rows = list(
        csv.DictReader(io.StringIO(home.told("DEMO", "--near-capacity", "--format", "csv")))
    )
    assert [row["percent"] for row in rows] == ["90"]


def test_csv_and_json_are_what_the_api_answers(home: Home) -> None:
    rows = list(csv.reader(io.StringIO(home.told("DEMO", "--by", "line", "--format", "csv"))))
    assert rows == [
        ["feature", "line", "units", "undone", "peak", "denied"],
        ["editor", "L2", "0", "0", "4", "0"],
        ["sessions", "L1", "10", "2", "0", "3"],
    ]
    found = json.loads(home.told("DEMO", "--by", "week", "--format", "json"))
    assert [row["label"] for row in found["rows"]] == [
        "2031-W44",
        "2031-W45",
        "2031-W46",
        "2031-W47",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("NOBODY",), "There is no instance 'NOBODY'"),
        (("DEMO", "--by", "hour"), "by must be of day"),
        (("DEMO", "--period", "never"), "period must be one of today"),
        (("DEMO", "--from", "2031-11-01"), "from and to go together"),
        (("DEMO", "--feature", "nothing"), "This instance has no feature 'nothing'"),
        (("DEMO", "--denials", "--peaks"), "Choose one of"),
        (("DEMO", "--near-capacity", "--by", "line"), "--by does not go with --near-capacity"),
        (("DEMO", "--compare", "--format", "csv"), "--compare is for table and json"),
        (("DEMO", "--raw", "meter"), "'meter' is no upstream of kind spool"),
        (("DEMO", "--raw", "usb", "--by", "day"), "--by does not go with --raw"),
        (("DEMO", "--raw", "usb", "--format", "json"), "--raw is a csv"),
        (("DEMO", "--raw", "usb", "--format", "table"), "--raw is a csv"),
    ],
)
def test_what_cannot_be_told_is_one_sentence_and_exit_2(
    home: Home, words: tuple[str, ...], said: str
) -> None:
    result = home.report(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(said)
    assert len(result.stderr.splitlines()) == 1


def test_spooled_batches_are_told_as_rows_of_ten_columns(home: Home) -> None:
    result = home.report("DEMO", "--raw", "usb")
    assert result.exit_code == 2
    assert "is not there" in result.stderr
    home.spool.mkdir()
    told = home.told("DEMO", "--raw", "usb", "--format", "csv")
    assert told.splitlines() == [",".join(COLUMNS)]
    midnight = int(datetime(2031, 11, 1, tzinfo=PARIS).timestamp()) // HOUR
    home.batch(1, (Row("L1", midnight - 1, "", 1), Row("L1", midnight, "string:=plant", 12)))
    home.batch(2, (Row("L1", midnight + 50, "string:plant-7", -2),))
    home.batch(3, (Row("L1", midnight, "", 99),), instance="OTHER")
    rows = list(csv.reader(io.StringIO(home.told("DEMO", "--raw", "usb"))))
    suite = ["'-Acme", "'@Suite", "sessions"]
    begin, later = "2031-10-31T23:00:00.000Z", "2031-11-03T01:00:00.000Z"
    assert rows == [
        list(COLUMNS),
        [*suite, begin, begin, "12", "A-1", "", "'=plant", "DEMO"],
        [*suite, later, later, "-2", "A-1", "", "plant-7", "DEMO"],
    ]
    assert len(COLUMNS) == 10
    assert home.told("DEMO", "--raw", "usb", "--feature", "sessions").count("\n") == len(rows)
    assert home.told("DEMO", "--raw", "usb", "--feature", "editor").count("\n") == 1
    before = home.told("DEMO", "--raw", "usb", "--period", "last-month")
    assert before.splitlines()[1].split(",")[5] == "1"
    changed = next(home.spool.glob("*batch-2.ndjson"))
    changed.chmod(0o640)
    changed.write_bytes(changed.read_bytes().replace(b'"units":-2', b'"units":-9'))
    result = home.report("DEMO", "--raw", "usb")
    assert (result.exit_code, len(result.stdout.splitlines())) == (2, 2)
    assert changed.name in result.stderr


def test_what_is_too_long_for_a_table_is_told_as_csv_or_json(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS_MAX", 4)
    days = ("--from", "2031-11-01", "--to", "2031-11-04", "--by", "day")
    assert len(cells(home.told("DEMO", *days))) == 4 + 1
    for more in (("--from", "2031-10-31"), ("--compare",)):  # of both together
        result = home.report("DEMO", *days, *more)
        said = "There are more than 4 rows, too many for a table: give --format csv or json\n"
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)
    told = home.told("DEMO", *days, "--from", "2031-10-31", "--format", "csv")
    assert len(told.splitlines()) == 1 + 5
    monkeypatch.setattr(tables, "ROWS_MAX", 0)
    result = home.report("DEMO", "--near-capacity")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("There are more than 0 lines, too many for a table")


def test_help_has_an_example_and_every_period(home: Home) -> None:
    told = CliRunner().invoke(main, ["report", "--help"]).stdout
    assert "cmapi-gateway report ~ --near-capacity" in told
    assert all(word in told for word in ("year-to-date", "last-quarter", "this-week", "today"))
    assert "an hour belongs to the local day in which it begins" in told
