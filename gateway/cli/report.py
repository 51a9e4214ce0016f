"""`report`: what was used, denied and held, and what is near capacity, from the store itself.

Decided here: the options, and what goes together. Not decided here: what may be asked
(core/reports_asked.py), what is told (service/reports.py), how a table looks (reporting/).
Source: INTERFACE 1, protocols/cmapi.md 11 and Q21.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import click
import msgspec

from gateway.cli.instances import resolved
from gateway.cli.names import Named
from gateway.cli.options import configured, example
from gateway.cli.reporting import raw, tables
from gateway.config import Config
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import InvalidInput
from gateway.core.reports_asked import UNITS, Asked, Thing, View, read_asked
from gateway.core.reports_capacity import LEVELS
from gateway.core.reports_periods import Period
from gateway.protocols.usage_report import Capacity, capacity_csv
from gateway.service.reports import Reports
from gateway.wiring_store import make_reports, open_store

_JSON: Final = f"""\b
Periods: {", ".join([*Period][:4])},
  {", ".join([*Period][4:8])},
  {", ".join([*Period][8:])}.
By: one of {", ".join(UNITS)}; or one of {", ".join(Thing)}; or code
  (of denials); or several of these, with commas between, such as month,feature.
JSON: {{"instance", "timezone", "from", "to", "by", "rows": [{{"label", "feature", "line",
  "units", "undone", "peak", "denied"}}], "total"}}, with --compare "previous" too; columns
  that the grouping leaves open are absent. units: net of undone; denied: answers;
  peak: the most seats held at one moment, null where several lines held some at once.
With --near-capacity: {{"instance", "lines": [{{"feature", "line", "model", "used", "capacity",
  "percent", "level", "peak", "per_day", "until", "forecast", "full_on", "why"}}]}}; level: 80,
  95, 100, or 0 where only the forecast is over; why: why there is no forecast, else "".
--raw is a CSV of what was sent hour by hour; an hour belongs to the local day in which it begins.
  A report counts each request in its own day: in a zone of half hours the two may differ by what
  came in the hour of a midnight.

"""


@click.command(
    cls=Named,
    epilog=_JSON
    + example(
        "report DEMO00000001 --period last-quarter",
        "report ~ --feature sessions --feature users --period year-to-date --compare",
        "report ~ --from 2026-01-01 --to 2026-06-30 --by month,feature --format csv",
        "report ~ --denials --period last-week",
        "report ~ --near-capacity",
        "report ~ --raw usb --period last-month > extract.csv",
    ),
)
@click.argument("instance")
@click.option("--feature", "features", multiple=True, metavar="F", help="Only this; repeatable.")
@click.option("--period", metavar="P", help="A named period; default month-to-date.")
@click.option("--from", "start", metavar="DAY", help="First local day, such as 2026-11-01.")
@click.option("--to", "end", metavar="DAY", help="Last local day, included.")
@click.option("--by", metavar="GROUPING", help="Default feature.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    help=f"Default table, of at most {tables.ROWS_MAX:,} rows; with --raw always csv.",
)
@click.option("--compare", is_flag=True, help="With the period of the same kind before it.")
@click.option("--denials", is_flag=True, help="Denials by day, feature and code.")
@click.option("--peaks", is_flag=True, help="Seats held at most, by day and concurrent line.")
@click.option(
    "--near-capacity", is_flag=True, help=f"Lines at {LEVELS[0]} % and more, with a forecast."
)
@click.option("--raw", "upstream", metavar="UPSTREAM", help="The ten-column CSV of a spool.")
@configured()
def report(config: Config, **given: Any) -> None:
    """Tell what was used of INSTANCE (~ is the default one), by local days of its time zone.

    Without further options: this month so far, by feature. What is told is what was counted, with
    the counts themselves: there is nothing to wait for.
    """
    view = _view(given)
    members = _members(given)
    asked = read_asked(view, members)
    form = given["form"] or "table"
    if given["near_capacity"]:
        _refuse(given, "--near-capacity", "period", "start", "end", "by", "compare", "upstream")
        asyncio.run(_near_capacity(config, given["instance"], asked.features, form))
    elif given["upstream"] is not None:
        _refuse(given, "--raw", "by", "compare")
        if given["form"] not in (None, "csv"):
            raise InvalidInput("--raw is a csv")
        asyncio.run(_raw(config, given["instance"], asked, given["upstream"]))
    else:
        if asked.compare and form == "csv":
            raise InvalidInput("--compare is for table and json")
        asyncio.run(_report(config, given["instance"], asked, form))


def _view(given: Mapping[str, Any]) -> View:
    chosen = [name for name in ("denials", "peaks", "near_capacity", "upstream") if given[name]]
    if len(chosen) > 1:
        raise InvalidInput("Choose one of --denials, --peaks, --near-capacity and --raw")
    return View(chosen[0]) if chosen and chosen[0] in [*View] else View.USAGE


def _members(given: Mapping[str, Any]) -> dict[str, list[str]]:
    """Spell the options as the API spells a question, so that both are read by one rule."""
    once = {"period": "period", "start": "from", "end": "to", "by": "by"}
    members = {name: [given[option]] for option, name in once.items() if given[option] is not None}
    members["feature"] = [*given["features"]]
    members["compare"] = ["true" if given["compare"] else "false"]
    return members


def _refuse(given: Mapping[str, Any], to: str, *options: str) -> None:
    names = {"start": "from", "end": "to", "upstream": "raw"}
    for option in options:
        if given[option]:
            raise InvalidInput(f"--{names.get(option, option)} does not go with {to}")


async def _report(config: Config, instance: str, asked: Asked, form: str) -> None:
    async with _opened(config, instance) as (reports, index):
        made = await reports.open(index, asked)
        if form == "table":
            tables.show_report(asked, await tables.rows_of(made))
            return
        async with aclosing(made.json() if form == "json" else made.csv()) as pieces:
            async for piece in pieces:
                click.echo(piece, nl=False)
        if form == "json":
            click.echo()


async def _near_capacity(
    config: Config, instance: str, features: tuple[str, ...], form: str
) -> None:
    async with _opened(config, instance) as (reports, index):
        lines = await reports.near_capacity(index, features)
    if form == "json":
        click.echo(msgspec.json.encode(Capacity(index.catalogue.id, lines)))
    elif form == "csv":
        for text in capacity_csv(lines):
            click.echo(text, nl=False)
    else:
        tables.show_capacity(lines)


async def _raw(config: Config, instance: str, asked: Asked, upstream: str) -> None:
    spool = raw.spool_of(config, upstream)
    async with _opened(config, instance) as (reports, index):
        days = await reports.days(index, asked)
    raw.show(spool, upstream, index.catalogue, asked.features, days)


@asynccontextmanager
async def _opened(config: Config, instance: str) -> AsyncIterator[tuple[Reports, CatalogueIndex]]:
    """Open the store and find the instance; one weaker than `ack` will do to only look."""
    async with open_store(config, allow_weaker=True) as store:
        index = await store.catalogues.read(await resolved(store.catalogues, instance))
        assert index is not None  # noqa: S101  it was resolved
        yield make_reports(store), index
