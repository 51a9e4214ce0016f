"""Reports on the wire: a CSV executes nothing, JSON in pieces is one text, a query is read once."""

from __future__ import annotations

import csv
import io
import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.reports import Row, Sums
from gateway.core.reports_asked import Thing, View
from gateway.core.reports_periods import Days, Period, Unit
from gateway.protocols.usage_report import (
    QUERY_BYTES_MAX,
    CsvText,
    Form,
    Head,
    JsonText,
    csv_lines,
    decode_capacity_query,
    decode_query,
)

HEAD = Head(
    instance="DEMO",
    timezone="UTC",
    days=Days(date(2026, 11, 1), date(2026, 11, 22)),
    by="line",
    columns=("feature", "line", "units", "peak"),
    counts=("units", "peak"),
)


def row(number: int, feature: str = "f") -> Row:
    return Row(0, "", feature, f"L{number}", "", Sums(units=-number, least=1, most=number))


# What can begin a cell somewhere, end one, quote one, or be taken for a formula.
hostile_ = st.text(st.sampled_from("=+-@＝＋－＠;,\t\r\n\"' a1"), max_size=8)
cells_ = st.one_of(st.text(max_size=5), hostile_, st.integers(), st.none())
SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


@given(st.lists(st.lists(cells_, min_size=2, max_size=4), max_size=3))
@settings(max_examples=100, deadline=None)
def test_no_cell_of_a_csv_is_a_formula_and_no_text_is_lost(rows: list[list[object]]) -> None:
    text = csv_lines(rows).decode("utf-8", "surrogatepass")
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert len(read) == len(rows)
    for cells, given_ in zip(read, rows, strict=True):
        for cell, value in zip(cells, given_, strict=True):
            if isinstance(value, str):
                assert not cell.startswith(SIGNS)
                assert not cell.lstrip(' "').startswith(SIGNS[:8])
                assert without_apostrophes(cell) == without_apostrophes(value)
            else:
                assert cell == ("" if value is None else str(value))


@given(st.lists(hostile_, min_size=1, max_size=3), st.sampled_from((";", "\t", ";,\t")))
@settings(max_examples=200, deadline=None)
def test_no_cell_is_a_formula_where_cells_end_otherwise(names: list[str], ends: str) -> None:
    """Excel splits at semicolons where the decimal sign is a comma, LibreOffice at all three."""
    text = csv_lines([[*names, 5]]).decode()
    for cell in split_otherwise(text, ends):
        assert not cell.lstrip(" ").startswith(SIGNS[:8]), (text, cell)


def split_otherwise(text: str, ends: str) -> list[str]:
    """Read as a spreadsheet program does: quotes mean something only where a cell begins."""
    cells, cell, at = [], "", 0
    while at < len(text):
        if text[at] == '"' and not cell:
            at += 1
            while at < len(text) and not (text[at] == '"' and text[at + 1 : at + 2] != '"'):
                cell += text[at]
                at += 2 if text[at] == '"' else 1
            at += 1
        # What stands behind a quote that ended is of the same cell.
        while at < len(text) and text[at] not in ends + "\r\n":
            cell += text[at]
            at += 1
        cells.append(cell)
        cell, at = "", at + 1
    return cells


def without_apostrophes(text: str) -> str:
    return text.replace("'", "")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        *((sign + "1+1", "'" + sign + "1+1") for sign in SIGNS[:8]),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("x;=cmd|'/c calc'!A1;y", "x;'=cmd|'/c calc'!A1;y"),
        ('x;"=1+1;', "x;'\"=1+1;"),
        ("x\n=1", "x\n'=1"),
        ("x\t＝1", "x\t'＝1"),
        (" =1", "' =1"),
    ],
)
def test_a_formula_has_an_apostrophe_before_it_and_a_number_stays_one(name: str, safe: str) -> None:
    (cells,) = csv.reader(io.StringIO(csv_lines([[name, -1, "a-b"]]).decode(), newline=""))
    assert cells == [safe, "-1", "a-b"]


@pytest.mark.parametrize("name", ["a-b", "a;b", "a, -b", "R&D = fun", "x@y", "a\tb", "5;6"])
def test_a_text_that_is_no_formula_anywhere_stays_as_it_is(name: str) -> None:
    (cells,) = csv.reader(io.StringIO(csv_lines([[name]]).decode(), newline=""))
    assert cells == [name]


@pytest.mark.parametrize("sizes", [[], [0], [1], [2, 1], [1, 1, 3]])
def test_json_in_pieces_is_one_object(sizes: list[int]) -> None:
    text, pieces, number = JsonText(HEAD), [], 0
    pieces.append(text.begin())
    for size in sizes:
        if size:
            pieces.append(text.rows(row(number + n) for n in range(size)))
        number += size
    found = json.loads(b"".join([*pieces, text.end(Sums(units=7, most=3, least=3)), b"}"]))
    assert [each["line"] for each in found["rows"]] == [f"L{n}" for n in range(number)]
    assert found["total"] == {"units": 7, "peak": 3}
    assert list(found) == ["instance", "timezone", "from", "to", "by", "rows", "total"]


def test_a_peak_that_is_not_known_is_null_and_an_empty_cell() -> None:
    known, unknown = row(1), row(2)
    assert json.loads(b"[" + JsonText(HEAD).rows([known, unknown]) + b"]") == [
        {"feature": "f", "line": "L1", "units": -1, "peak": 1},
        {"feature": "f", "line": "L2", "units": -2, "peak": None},
    ]
    text = CsvText(HEAD)
    told = (text.begin() + text.rows([known, unknown])).decode()
    assert told == "feature,line,units,peak\r\nf,L1,-1,1\r\nf,L2,-2,\r\n"


def test_a_query_is_read_into_a_question() -> None:
    query = b"feature=a+b&feature=c%2Fd&feature=a+b&by=week,line&period=last-year&format=csv"
    asked, form = decode_query(query, View.USAGE)
    assert (asked.features, asked.period, form) == (("a b", "c/d"), Period.LAST_YEAR, Form.CSV)
    assert (asked.by.unit, asked.by.thing, asked.by.code) == (Unit.WEEK, Thing.LINE, False)
    asked, form = decode_query(b"", View.USAGE)
    assert (asked.period, str(asked.by), form) == (Period.MONTH_TO_DATE, "feature", Form.JSON)
    assert decode_capacity_query(b"feature=a&feature=a") == (("a",), Form.JSON)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (b"=", ""),
        (b"feature", "query"),
        (b"feature=%C3%28", "query"),
        (b"feature=\xff", "query"),
        (b"feature=a&" * 90 + b"feature=b", "query"),
        (b"by=" + b"x" * QUERY_BYTES_MAX, "query"),
        (b"groupby=day", "groupby"),
        (b"format=json&format=csv", "format"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused_by_name(query: bytes, named: str) -> None:
    with pytest.raises(BadRequest) as raised:
        decode_query(query, View.USAGE)
    assert raised.value.arguments == (named,)


def test_peaks_have_no_code() -> None:
    with pytest.raises(BadRequest, match="by must be of day"):
        decode_query(b"by=code", View.PEAKS)
