"""What is shown of a backup, of a restore, and of how far they are.

Decided here: how it looks; no more than one line a second tells of progress, on stderr. Not decided
here: what it comes to (service/backup.py, service/restoring.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from gateway.core.backups import Header
from gateway.core.moments import iso
from gateway.service.backup import Told
from gateway.service.restoring import Losses

LINE_EVERY_S: Final = 1.0
SENTENCES_MAX: Final = 50  # of what one instance would forget
PIPE_COLUMNS: Final = 120  # of a table that goes to no terminal


@dataclass
class Teller:
    """Tells how far something is, once a second at most."""

    _told_s: float = 0.0

    def __post_init__(self) -> None:
        self._told_s = time.monotonic()

    def tell(self, words: str) -> None:
        """Say it, unless something was said just now."""
        if time.monotonic() >= self._told_s + LINE_EVERY_S:
            self._told_s = time.monotonic()
            click.echo(words, err=True)


def show_contents(header: Header, told: Sequence[Told]) -> None:
    """Show what is in a file."""
    click.echo(
        f"backup of {iso(header.at_ms)}, by gateway {header.gateway}, layout {header.layout},"
        f" {header.partitions} partitions, {'whole' if header.whole else 'some instances'}"
    )
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    console = Console(markup=False, highlight=False, width=width)
    table = Table()
    table.add_column("instance", overflow="fold")
    table.add_column("as of", no_wrap=True)
    for name in ("version", "lines", "requests", "acked", "waiting", "hosts", "ids"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in told:
        numbers = (
            *(each.version, each.lines, each.requests),
            *(each.acked, each.waiting, each.hosts, each.ids),
        )
        table.add_row(each.instance, iso(each.at_ms), *map(str, numbers))
    console.print(table)


def show_losses(losses: Losses) -> None:
    """Show what a restore would forget, and what it leaves alone."""
    click.echo(f"backup of {iso(losses.header.at_ms)}: {len(losses.instances)} instances")
    if losses.new:
        click.echo(f"not in this store yet: {losses.new}")
    for name in losses.left_alone:
        click.echo(f"left alone, for the backup lacks it or it was not named: {name}")
    if not losses.of and not losses.own:
        click.echo("the store knows nothing that the backup lacks of these")
    for name, loss in losses.of.items():
        click.echo(f"instance {name} would forget, since the backup:")
        for sentence in loss.sentences[:SENTENCES_MAX]:
            click.echo(f"  {sentence}")
        if len(loss.sentences) > SENTENCES_MAX:
            click.echo(f"  and {len(loss.sentences) - SENTENCES_MAX} more")
    for each in losses.own:
        click.echo(f"the store would lose {each}, for that of the backup")
