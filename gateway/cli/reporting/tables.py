"""Reports as tables on a terminal.

Decided here: columns, the line above and the total below, how a comparison and a forecast are
told, and how long a table may be: it is laid out whole, and nobody reads ten thousand rows. Not
decided here: what is told (service/reports.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from gateway.core.errors import InvalidInput
from gateway.core.reports import Row, Sums
from gateway.core.reports_asked import Asked
from gateway.core.reports_capacity import NearCapacity
from gateway.service.reports import Part, Report

ROWS_MAX: Final = 5_000  # of a table, before the total; laid out in some two seconds
PIPE_COLUMNS: Final = 200  # of a table that goes to no terminal
UNKNOWN: Final = "?"  # several lines held seats at once
NO_LINE: Final = "(no line)"

_Key = tuple[int, str, str, str]


async def rows_of(report: Report) -> list[tuple[Part, list[Row]]]:
    """Read the rows of a table. Raises InvalidInput when there are too many, and as `read` does."""
    try:
        return await report.read(ROWS_MAX)
    except InvalidInput as error:
        raise _too_long(error.message) from None


def show_report(asked: Asked, parts: Sequence[tuple[Part, list[Row]]]) -> None:
    """Print the rows and the total, beside those of the days before when there are such."""
    (part, rows), *others = parts
    head = part.head
    period = "" if asked.range else f"{asked.period}, "
    click.echo(f"{head.instance}: {period}{head.days.first} to {head.days.last} ({head.timezone})")
    for other, _ in others:
        click.echo(f"compared with {other.head.days.first} to {other.head.days.last}")
    named = [name for name in asked.columns if name not in asked.counts]
    table = Table()
    for name in named:
        table.add_column(name, overflow="fold")
    for name in asked.counts:
        table.add_column(name, justify="right", no_wrap=True)
        if others:
            table.add_column("before", justify="right", no_wrap=True)
            table.add_column("change", justify="right", no_wrap=True)
    before = {_key(row): row for _, found in others for row in found}
    now = {_key(row): row for row in rows}
    for key in sorted(now.keys() | before.keys()):
        row = now.get(key) or _moved(before[key])
        was = before[key].sums if key in before else Sums()
        names = [str(getattr(row, name)) for name in named]
        if not row.feature and "feature" in named:
            names[named.index("feature")] = NO_LINE
        table.add_row(*names, *_counts(asked, row.sums, was if others else None))
    table.add_section()
    was_all = others[0][0].total if others else None
    table.add_row(
        *["total", *[""] * (len(named) - 1)][: len(named)],
        *_counts(asked, part.total, was_all),
    )
    _console().print(table)


def show_capacity(lines: Sequence[NearCapacity]) -> None:
    """Print a row for each line near capacity. Raises InvalidInput when there are too many."""
    if not lines:
        click.echo("no line is near its capacity")
        return
    if len(lines) > ROWS_MAX:
        raise _too_long(f"There are more than {ROWS_MAX:,} lines")
    table = Table()
    for name in ("feature", "line", "model"):
        table.add_column(name, overflow="fold")
    for name in ("used", "peak", "capacity", "%", "per day", "forecast"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("until", "full on", "why no forecast"):
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(
            line.feature,
            line.line,
            line.model,
            *(_number(each) for each in (line.used, line.peak, line.capacity, line.percent)),
            *(_number(each) for each in (line.per_day, line.forecast)),
            line.until or "-",
            line.full_on or "-",
            line.why or "-",
        )
    _console().print(table)


def _too_long(why: str) -> InvalidInput:
    return InvalidInput(f"{why}, too many for a table: give --format csv or json")


def _counts(asked: Asked, sums: Sums, was: Sums | None) -> list[str]:
    cells = []
    for name in asked.counts:
        value = getattr(sums, name)
        cells.append(UNKNOWN if value is None else str(value))
        if was is not None:
            earlier = getattr(was, name)
            cells.append(UNKNOWN if earlier is None else str(earlier))
            cells.append(_change(value, earlier))
    return cells


def _change(value: int | None, was: int | None) -> str:
    """Write a change in percent, rounded to whole ones; of nothing there is none."""
    if value is None or was is None or was <= 0:
        return "-"
    return f"{(2 * (value - was) * 100 + was) // (2 * was):+d} %"


def _key(row: Row) -> _Key:
    return row.place, row.feature, row.line, row.code


def _moved(row: Row) -> Row:
    """Give the row of now for one that only the days before have."""
    return Row(row.place, f"({row.label})", row.feature, row.line, row.code, Sums())


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _console() -> Console:
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(markup=False, highlight=False, width=width)
