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
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from gateway.cli.names import Named
from gateway.cli.options import EXIT_FAILURE, configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.model import is_instance_id
from gateway.service.balance import Books, Entry, audit_any, conservation
from gateway.store.opening import Store
from gateway.wiring_store import Totals, open_store, read_totals

WATCH_S: Final = 1.0
PIPE_COLUMNS: Final = 200  # of a table that goes to no terminal
DEFAULT_INSTANCE: Final = "~"
_SUMS: Final = ("acked", "forwarded", "dead", "parked", "open", "sealed", "used", "held")


@click.command(cls=Named, epilog=example("verify", "verify DEMO00000001 --format json --deep"))
@click.argument("instance", required=False)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option("--deep", is_flag=True, help="Add up rows and files too, not only sums.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@configured()
@click.pass_context
def verify(
    ctx: click.Context, config: Config, instance: str | None, form: str, deep: bool, watch: bool
) -> None:
    """Check that acked = forwarded + dead + parked + open + sealed, for INSTANCE or for all.

    Per metered line and upstream, at one moment, also under load; and that acked is the sum of the
    line's days. "acked" counts since the upstream was attached; "carried" of open was undone, is
    not taken back upstream and waits to be netted. Exit code 0 says that all of it holds, 1 that
    something does not, or cannot be read: the other instances are shown all the same.
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
                if deep:
                    try:
                        books = _with_reported(books, await read_totals(config))
                    except InvalidInput as error:  # a file that is not what was written
                        self.verdict = "; ".join(error.problems)
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
    return [await audit_any(store.catalogues, name, deep=deep) for name in names]


def _with_reported(books: list[Books], totals: Totals) -> list[Books]:
    """Put what upstreams tell beside what we know; one that tells of a line not at all has 0."""

    def with_it(instance: str, entry: Entry) -> Entry:
        told = totals.get(entry.upstream or "")
        return entry if told is None else replace(entry, reported=told.get((instance, entry.id), 0))

    return [
        replace(each, lines=[with_it(each.id, entry) for entry in each.lines]) for each in books
    ]


class _Shown(msgspec.Struct, frozen=True):
    """The books of an instance as JSON has them; `unreadable` only of one that is."""

    id: str
    lines: list[Entry]
    unreadable: str | msgspec.UnsetType


def _show_json(books: list[Books], verdict: str) -> None:
    shown = [_Shown(each.id, each.lines, each.unreadable) for each in books]
    click.echo(msgspec.json.encode({"instances": shown, "conservation": verdict}))


def _show_table(books: list[Books], verdict: str) -> None:
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    console = Console(markup=False, highlight=False, width=width)
    for each in books:
        if each.unreadable is not msgspec.UNSET:
            click.echo(each.unreadable)
            continue
        table = Table(title=each.id, title_justify="left")
        for name in ("line", "feature", "upstream"):
            table.add_column(name, overflow="fold")
        for name in _SUMS:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("balanced")
        if reported := any(entry.reported is not msgspec.UNSET for entry in each.lines):
            table.add_column("reported", justify="right", no_wrap=True)
        for entry in each.lines:
            told = "-" if entry.reported is msgspec.UNSET else str(entry.reported)
            table.add_row(*_cells(entry), *([told] if reported else []))
        console.print(table)
    if any(entry.parked or entry.dead for each in books for entry in each.lines):
        click.echo("parked or dead: cmapi-gateway forward list tells what a person can decide")
    # Not by rich, which would break a long sentence into lines.
    click.echo(f"conservation: {verdict}")


def _cells(entry: Entry) -> list[str]:
    sums = [_sum(entry, name) for name in _SUMS]
    return [
        entry.id,
        entry.feature,
        "-" if entry.upstream is None else entry.upstream,
        *sums,
        "yes" if entry.balanced else "NO",
    ]


def _sum(entry: Entry, name: str) -> str:
    units = getattr(entry, name)
    if name != "open" or not entry.carried:
        return str(units)
    return f"{units} (carried)" if units == entry.carried else f"{units} ({entry.carried} carried)"
