"""`explain`: why a request was granted or not, line by line, as the counters stood before it.

Decided here: how it looks on a terminal. Not decided here: what is told
(protocols/cmapi_explain.py) and for how long it can be (`explain.retention`). Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gateway.cli.instances import resolved
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.protocols.cmapi_explain import Explained, ExplainedFeature, SeenLine
from gateway.service.explain import Explain
from gateway.store.rewriting import current_catalogue
from gateway.wiring import open_store

PIPE_COLUMNS = 160  # of a table that goes to no terminal


@click.command(
    epilog=example("explain DEMO00000001 order-4711", "explain ~ order-4711 --format json")
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
    flags += [f"{key}={value}" for key, value in sorted(asked.selectors_dictionary.items())]
    click.echo(f"{asked.host_id.type}:{asked.host_id.value} at {told.transaction_time}")
    click.echo(f"catalogue version {told.catalogue_version}; {', '.join(flags)}")
    console = Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS
    )
    for feature in told.features:
        click.echo(f"\n{_headline(feature)}")
        if feature.lines:
            console.print(_table(feature.lines))
    if not told.features:
        held = ", ".join(f"{line} {count}" for line, count in sorted(told.held_after.items()))
        click.echo(f"No feature was listed; held afterwards: {held or 'nothing'}")


def _headline(feature: ExplainedFeature) -> str:
    code = f" {feature.code}:" if feature.code else ""
    return (
        f"{feature.name} {feature.version} ({feature.model}): asked {feature.asked}, granted"
        f" {feature.granted}.{code} {feature.why}"
    )


def _table(lines: list[SeenLine]) -> Table:
    table = Table()
    table.add_column("line", overflow="fold")
    table.add_column("version")
    for name in ("capacity", "used before", "held before", "available", "granted"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("not a candidate")
    for line in lines:
        counts = (line.capacity, line.used, line.held, line.available, line.granted)
        table.add_row(line.feature_id, line.version, *map(str, counts), line.excluded_by or "")
    return table
