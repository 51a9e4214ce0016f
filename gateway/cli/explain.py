"""`explain`: why a request was granted or not, line by line, as the counters stood before it.

Decided here: how it looks on a terminal. Not decided here: what is told
(protocols/cmapi_explain.py) and for how long it can be (`explain.retention`). Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gateway.cli.instances import resolved
from gateway.cli.names import Named
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.protocols.cmapi_explain import Explained, ExplainedWant, SeenLine
from gateway.service.explain import Explain
from gateway.store.rewriting import current_catalogue
from gateway.wiring_store import open_store

PIPE_COLUMNS = 160  # of a table that goes to no terminal


@click.command(
    cls=Named,
    epilog=example("explain DEMO00000001 order-4711", "explain ~ order-4711 --format json"),
)
@click.argument("instance")
@click.argument("request_id", metavar="ID")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@configured()
def explain(config: Config, instance: str, request_id: str, form: str) -> None:
    """Tell why the request that was sent to INSTANCE under ID was granted or not.

    ID is the idempotency id, or the Gateway-Request-Id of a request that had none. It is kept for
    `explain.retention` of the gateway that answered; by default, 0, not at all.
    """
    told = asyncio.run(_told(config, instance, request_id))
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(told)))
    else:
        _show(told)


async def _told(config: Config, instance: str, request_id: str) -> Explained:
    # To read nothing need be durable, so a store weaker than `ack` will do.
    async with open_store(config, allow_weaker=True) as store:
        name = await resolved(store.catalogues, instance)
        catalogue = await current_catalogue(store.catalogues, name)
        return await Explain(store.catalogues).explain(catalogue, request_id)


def _show(told: Explained) -> None:
    asked = told.request
    flags = [
        "incremental" if asked.incremental else "the list is the new total",
        "partial" if asked.partial else "all or nothing",
    ]
    if asked.borrow_interval_seconds:
        flags.append(f"borrow interval {asked.borrow_interval_seconds} s")
    selectors = sorted(asked.selectors_dictionary.items())
    flags += [f"{_shown(key)}={_shown(value)}" for key, value in selectors]
    host = f"{asked.host_id.type}:{_shown(asked.host_id.value)}"
    click.echo(f"{host} at {told.transaction_time}")
    click.echo(f"catalogue version {told.catalogue_version}; {', '.join(flags)}")
    console = Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS
    )
    for feature in told.features:
        click.echo(f"\n{feature.name} ({feature.model}):")
        for want in feature.wants:
            click.echo(_sentence(want))
        if feature.lines:
            console.print(_table(feature.lines))
        if feature.lines_omitted:
            click.echo(f"and {feature.lines_omitted} more lines, of which nothing was kept")
    click.echo(f"\nheld before: {_counts(told.held_before)}")
    click.echo(f"held after:  {_counts(told.held_after)}")
    if told.released:
        click.echo(
            f"released, because the list is the new total and leaves them out:"
            f" {_counts(told.released)}"
        )


def _shown(text: str) -> str:
    """Give a text of a client as it is safe on a terminal."""
    return text if text.isprintable() else ascii(text)


def _sentence(want: ExplainedWant) -> str:
    code = f" {want.code}:" if want.code else ""
    return f"version {want.version}: asked {want.asked}, granted {want.granted}.{code} {want.why}"


def _counts(units: Mapping[str, int]) -> str:
    return ", ".join(f"{line} {count}" for line, count in sorted(units.items())) or "nothing"


def _table(lines: list[SeenLine]) -> Table:
    table = Table()
    table.add_column("line", overflow="fold")
    table.add_column("version")
    for name in ("capacity", "used before", "held before", "available", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    undoes = any(line.undoable is not None for line in lines)
    if undoes:
        table.add_column("undoable", justify="right", no_wrap=True)
    shared = any(line.elsewhere for line in lines)
    if shared:
        table.add_column("used elsewhere", justify="right", no_wrap=True)
    table.add_column("not a candidate")
    for line in lines:
        available = "-" if line.available is None else line.available
        counts: list[object] = [line.capacity, line.used, line.held, available, line.change]
        counts += [line.undoable] if undoes else []
        counts += [line.elsewhere] if shared else []
        table.add_row(line.feature_id, line.version, *map(str, counts), line.excluded_by or "")
    return table
