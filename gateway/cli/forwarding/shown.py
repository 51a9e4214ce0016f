"""How things set aside, and what was decided about them, look on a terminal and as JSON.

Decided here: members, columns, and how much of something long is shown. Members of JSON are only
ever added. Not decided here: what is listed (service/asides.py). What upstreams or people have
written goes to a terminal without control characters.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gateway.core.decisions import Decision
from gateway.core.moments import iso
from gateway.core.usage import Row
from gateway.service.aside_words import body_text, by_hour, in_question, plain
from gateway.service.asides import Item, Recorded
from gateway.service.decisions import SENTENCES, Action, meanings

PIPE_COLUMNS: Final = 200  # of a table that goes to no terminal
LINES_SHOWN_MAX: Final = 5  # of one thing's units, in a table
ROWS_SHOWN_MAX: Final = 100
HOUR_MS: Final = 3_600_000


def show_json(document: Mapping[str, Any]) -> None:
    """Print a document as one line."""
    click.echo(msgspec.json.encode(document))


def item_json(item: Item) -> dict[str, Any]:
    """Give what `list` tells of one thing."""
    return {
        "address": item.address,
        "instance": item.instance,
        "upstream": item.upstream,
        "kind": item.kind,
        "standing": item.standing,
        "known": item.known,
        "units": dict(item.units),
        "since": moment(item.since_ms),
        "attempts": item.attempts,
        "why": item.why,
        "retry": moment(item.retry_ms),
    }


def details_json(item: Item, commands: Mapping[Action, str]) -> dict[str, Any]:
    """Give what `show` tells; `commands` has the command line of each decision that fits."""
    return item_json(item) | {
        "rows": [
            {"hour": _hour(row), "line": row.line, "host": row.host, "units": row.units}
            for row in sorted(item.rows, key=by_hour)
        ],
        "body": body_text(item),
        "body_bytes": len(item.body),
        "sentence": SENTENCES[item.known],
        "look_for": item.look_for if in_question(item) else None,
        "decisions": [
            {"what": action, "means": said, "command": commands[action]}
            for action, said in meanings(item.known).items()
        ],
    }


def decision_json(each: Recorded) -> dict[str, Any]:
    """Give what `list --decisions` tells of one."""
    decision = each.decision
    return {
        "when": iso(decision.at_ms),
        "who": decision.who,
        "what": decision.what,
        "instance": each.instance,
        "upstream": decision.upstream,
        "subject": decision.subject,
        "units": _units_of(decision),
        "why": decision.why,
    }


def show_items(items: Sequence[Item]) -> None:
    """Print one row for each thing."""
    if not items:
        click.echo("nothing is set aside")
        return
    names = ("address", "instance", "upstream", "standing", "units", "since", "attempts", "why")
    table = _table(names)
    for item in items:
        table.add_row(
            item.address,
            item.instance,
            item.upstream,
            item.standing,
            units_text(item.units),
            moment(item.since_ms) or "-",
            "-" if item.attempts is None else str(item.attempts),
            plain(item.why),
        )
    console().print(table)
    click.echo("forward show ADDRESS tells what is known of one and what can be decided")


def show_decisions(record: Sequence[Recorded]) -> None:
    """Print one row for each decision."""
    if not record:
        click.echo("nothing was decided")
        return
    names = ("when", "who", "what", "instance", "upstream", "subject", "units", "why")
    table = _table(names)
    for each in record:
        told = decision_json(each) | {"units": units_text(_units_of(each.decision))}
        table.add_row(*(plain(told[name]) or "-" for name in names))
    console().print(table)


def show_details(item: Item, commands: Mapping[Action, str]) -> None:
    """Print all that is known of one thing, and what can be decided."""
    facts = {
        "address": item.address,
        "instance": item.instance,
        "upstream": f"{item.upstream} ({item.kind or 'not in this configuration'})",
        "standing": item.standing,
        "since": moment(item.since_ms) or "-",
        "attempts": "-" if item.attempts is None else str(item.attempts),
        "tried again": _tried_again(item),
        "why": plain(item.why) or "-",
        "units": units_text(item.units),
    }
    for name, value in facts.items():
        click.echo(f"{name:<12} {value}")
    click.echo(f"\nWhat is known: {SENTENCES[item.known]}")
    if in_question(item):
        click.echo(f"To find out more: {item.look_for}")
    click.echo()
    _show_rows(item.rows)
    if item.body:
        click.echo(f"\nThe body, {len(item.body)} bytes:")
        click.echo(plain(body_text(item) or "", keep="\n\t"))
    click.echo("\nWhat you can decide:")
    for action, said in meanings(item.known).items():
        click.echo(f"  {action}: {said}\n    {commands[action]}")


def units_text(units: Mapping[str, int]) -> str:
    """Write units by line, the first few."""
    told = [f"{line}={each}" for line, each in sorted(units.items())]
    more = len(told) - LINES_SHOWN_MAX
    return " ".join(told[:LINES_SHOWN_MAX]) + (f" and {more} more lines" if more > 0 else "")


def _show_rows(rows: Iterable[Row]) -> None:
    ordered = sorted(rows, key=by_hour)
    table = _table(("hour", "line", "host", "units"))
    table.columns[-1].justify = "right"
    for row in ordered[:ROWS_SHOWN_MAX]:
        table.add_row(_hour(row), row.line, plain(row.host) or "-", str(row.units))
    console().print(table)
    if len(ordered) > ROWS_SHOWN_MAX:
        click.echo(f"and {len(ordered) - ROWS_SHOWN_MAX} more rows (--format json has all)")


def _tried_again(item: Item) -> str:
    if item.blocked is None:
        return "not by itself"
    return moment(item.retry_ms) or "with the next round"


def _units_of(decision: Decision) -> dict[str, int]:
    pairs = (word.rpartition("=") for word in decision.units.split(" ") if word)
    return {line: int(units) for line, _, units in pairs}


def moment(at_ms: int | None) -> str | None:
    """Write a moment; None stays none."""
    return None if at_ms is None else iso(at_ms)


def _hour(row: Row) -> str:
    return iso(row.hour * HOUR_MS)


def _table(names: Iterable[str]) -> Table:
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def console() -> Console:
    """Give where tables go: as wide as the terminal, or wide enough for a pipe."""
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(markup=False, highlight=False, width=width)
