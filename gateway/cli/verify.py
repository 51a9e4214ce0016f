"""`verify`: show that every acknowledged unit is somewhere, once, per line and upstream.

Decided here: how the books look on a terminal and as JSON, and how long one keeps looking. Not
decided here: what must agree (service/balance.py). Source: INTERFACE 1, DESIGN 5.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gateway.cli.options import EXIT_FAILURE, configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.model import is_instance_id
from gateway.service.balance import Books, Entry, audit, conservation
from gateway.store.opening import Store
from gateway.wiring import open_store

WATCH_S: Final = 1.0
PIPE_COLUMNS: Final = 200  # of a table that goes to no terminal
DEFAULT_INSTANCE: Final = "~"
_SUMS: Final = ("acked", "forwarded", "dead", "parked", "open", "sealed", "used", "held")


@click.command(epilog=example("verify", "verify DEMO00000001 --format json --deep"))
@click.argument("instance", required=False)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option("--deep", is_flag=True, help="Add up the rows too, not only the running sums.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@configured()
@click.pass_context
def verify(
    ctx: click.Context, config: Config, instance: str | None, form: str, deep: bool, watch: bool
) -> None:
    """Check that acked = forwarded + dead + parked + open + sealed, for INSTANCE or for all.

    Per metered line and upstream, at one moment, also under load; and that acked is the sum of the
    line's days. "acked" counts since the upstream was attached. Exit code 0 says that all of it
    holds, 1 that something does not.
    """
    if instance not in (None, DEFAULT_INSTANCE) and not is_instance_id(instance):
        raise InvalidInput(
            f"{instance[:64]!r} names no instance; expected 1 to 64 of A-Z a-z 0-9 . _ -, or ~"
        )
    show = _show_json if form == "json" else _show_table
    looks = _Looks()
    try:
        asyncio.run(looks.take(config, instance, deep, show, watch))
    except KeyboardInterrupt:
        # That is how a watch ends; what counts is how the books stood at the last look.
        if not watch:
            raise
    ctx.exit(0 if looks.verdict == "OK" else EXIT_FAILURE)


class _Looks:
    """One look at the books after another; `verdict` is that of the last one."""

    verdict: str = "The books were not looked at"

    async def take(
        self,
        config: Config,
        instance: str | None,
        deep: bool,
        show: Callable[[list[Books], str], None],
        watch: bool,
    ) -> None:
        # To read nothing need be durable, so a store weaker than `ack` will do.
        async with open_store(config, allow_weaker=True) as store:
            while True:
                books = await _books(store, instance, deep)
                self.verdict = conservation(books)
                show(books, self.verdict)
                if not watch:
                    return
                await asyncio.sleep(WATCH_S)


async def _books(store: Store, instance: str | None, deep: bool) -> list[Books]:
    if instance == DEFAULT_INSTANCE:
        instance = await store.catalogues.default()
        if instance is None:
            raise InvalidInput("There is no default instance; name the one to verify")
    names = await store.catalogues.instances() if instance is None else [instance]
    return [await audit(store.catalogues, name, deep=deep) for name in names]


def _show_json(books: list[Books], verdict: str) -> None:
    shown = [{"id": each.id, "lines": each.lines} for each in books]
    click.echo(msgspec.json.encode({"instances": shown, "conservation": verdict}))


def _show_table(books: list[Books], verdict: str) -> None:
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    console = Console(markup=False, highlight=False, width=width)
    for each in books:
        table = Table(title=each.id, title_justify="left")
        for name in ("line", "feature", "upstream"):
            table.add_column(name, overflow="fold")
        for name in _SUMS:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("balanced")
        for entry in each.lines:
            table.add_row(*_cells(entry))
        console.print(table)
    # Not by rich, which would break a long sentence into lines.
    click.echo(f"conservation: {verdict}")


def _cells(entry: Entry) -> list[str]:
    sums = [str(getattr(entry, name)) for name in _SUMS]
    return [
        entry.id,
        entry.feature,
        "-" if entry.upstream is None else entry.upstream,
        *sums,
        "yes" if entry.balanced else "NO",
    ]
