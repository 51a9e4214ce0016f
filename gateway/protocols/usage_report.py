"""Usage reports on the wire: the query that asks for one, and rows as JSON and as CSV.

Decided here: how a question is spelt in a query, how rows are written piece by piece, and that a
CSV is safe to open in a spreadsheet program, wherever it begins a new cell: what would be a formula
there has an apostrophe before it, a number stays a number. Not decided here: what may be asked
(core/reports_asked.py). Source: INTERFACE 4, RFC 4180.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.reports import OPEN_PLACE, Row, Sums
from gateway.core.reports_asked import FEATURES_MAX, Asked, View, read_asked
from gateway.core.reports_capacity import NearCapacity
from gateway.core.reports_periods import Days

QUERY_BYTES_MAX: Final = 16_384  # FEATURES_MAX names of the longest, percent-encoded
FIELDS_MAX: Final = FEATURES_MAX + 16
ROWS_A_TEXT: Final = 500  # written at a time: a few milliseconds
FORMULA_SIGNS: Final = "=+@＝＋－＠-"  # full-width ones too: East Asian programs take them so

# Where a cell may begin, and a formula with it: at the beginning, and after what another program
# takes for the end of a cell. Where the decimal sign is a comma, Excel splits at semicolons only,
# and quotes that do not begin a cell mean nothing to it: neither do those that we set. LibreOffice
# splits at commas, semicolons and tabs alike. A cell may be quoted, and blanks may be trimmed.
_FORMULA: Final = re.compile(rf'(?:^|(?<=[;\t\r\n]))(?=[\s"]*[{FORMULA_SIGNS}]|[\t\r\n])')

_MEMBERS: Final = ("feature", "period", "from", "to", "by", "compare", "format")
_CAPACITY_MEMBERS: Final = ("feature", "format")


class Form(StrEnum):
    """How an answer is written."""

    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Head:
    """What a report is about, and its columns."""

    instance: str
    timezone: str
    days: Days
    by: str
    columns: tuple[str, ...]
    counts: tuple[str, ...]


class Capacity(msgspec.Struct, frozen=True):
    """The lines of an instance that are near capacity, the fullest first."""

    instance: str
    lines: list[NearCapacity]


def decode_query(query: bytes, view: View) -> tuple[Asked, Form]:
    """Read the query of a report. Raises BadRequest naming the member that is wrong. Pure."""
    members = _members(query, _MEMBERS)
    form = _form(members)
    asked = read_asked(view, members)
    if asked.compare and form is Form.CSV:
        raise BadRequest("A comparison has no CSV", "compare")
    return asked, form


def decode_capacity_query(query: bytes) -> tuple[tuple[str, ...], Form]:
    """Read the query for lines near capacity: features and form. Raises BadRequest. Pure."""
    members = _members(query, _CAPACITY_MEMBERS)
    features = tuple(dict.fromkeys(members.get("feature", ())))
    return features, _form(members)


class JsonText:
    """Writes one report as a JSON object without its last brace, piece by piece."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._values = values_of(head.columns)
        self._first = True

    def begin(self) -> bytes:
        head = self._head
        about = {
            "instance": head.instance,
            "timezone": head.timezone,
            "from": head.days.first.isoformat(),
            "to": head.days.last.isoformat(),
            "by": head.by,
        }
        return msgspec.json.encode(about)[:-1] + b',"rows":['

    def rows(self, rows: Iterable[Row]) -> bytes:
        names = self._head.columns
        objects = [dict(zip(names, self._values(row), strict=True)) for row in rows]
        before = b"" if self._first else b","
        self._first = False
        return before + msgspec.json.encode(objects)[1:-1]

    def end(self, total: Sums) -> bytes:
        names = self._head.counts
        counts = values_of(names)(Row(*OPEN_PLACE, total))
        return b'],"total":' + msgspec.json.encode(dict(zip(names, counts, strict=True)))


class CsvText:
    """Writes the rows of one report as CSV, piece by piece; without a total, which would be added
    up with the rows.
    """

    def __init__(self, head: Head) -> None:
        self._columns = head.columns
        self._values = values_of(head.columns)

    def begin(self) -> bytes:
        return csv_lines([self._columns])

    def rows(self, rows: Iterable[Row]) -> bytes:
        return csv_lines(map(self._values, rows))


def values_of(columns: Sequence[str]) -> Callable[[Row], tuple[Any, ...]]:
    """Give what reads these columns of a row, in their order."""
    read = attrgetter(*columns)
    return read if len(columns) > 1 else lambda row: (read(row),)


def csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Write rows of texts, integers and None as lines of a CSV that no spreadsheet executes."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def capacity_csv(lines: Sequence[NearCapacity]) -> Iterator[bytes]:
    """Write lines near capacity as CSV, ROWS_A_TEXT at a time."""
    yield csv_lines([struct_columns(NearCapacity)])
    for start in range(0, len(lines), ROWS_A_TEXT):
        yield csv_lines(map(msgspec.structs.astuple, lines[start : start + ROWS_A_TEXT]))


def struct_columns(kind: type[msgspec.Struct]) -> Sequence[str]:
    """Name the columns of a CSV whose rows are structs of one kind."""
    return kind.__struct_fields__


def _cell(value: object) -> object:
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


def _members(query: bytes, known: Sequence[str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    try:
        if len(query) > QUERY_BYTES_MAX:
            raise ValueError("too long")
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        raise BadRequest("The query cannot be read", "query") from None
    for name, value in pairs:
        if name not in known:
            # A misspelt member would silently answer another question.
            raise BadRequest(f"{name[:64]!r} is none of {', '.join(known)}", name[:64])
        members.setdefault(name, []).append(value)
    return members


def _form(members: dict[str, list[str]]) -> Form:
    given = members.pop("format", [Form.JSON.value])
    if len(given) > 1 or given[0] not in [*Form]:
        raise BadRequest("format must be json or csv", "format")
    return Form(given[0])
