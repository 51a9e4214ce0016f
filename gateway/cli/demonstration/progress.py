"""What is seen while the fleet works: a bar on a terminal, a plain line every second elsewhere.

Decided here: how it looks. Not decided here: what happens (demo.py) and what it comes to
(report.py). Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.demonstration.fleet import Tally

LINE_EVERY_S: Final = 1.0
BAR_EVERY_S: Final = 0.1
PIPE_COLUMNS: Final = 120  # of a table that goes to no terminal


def console() -> Console:
    """Give a console for stdout that breaks no table where nobody sees the width."""
    return Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS
    )


@contextmanager
def shown(tally: Tally, seconds: int) -> Iterator[Callable[[str], None]]:
    """Show the tally until the end of the block; gives a way to say something in between."""
    began_s = time.monotonic()
    if sys.stdout.isatty():
        with _bar(seconds) as bar:
            task_id = bar.add_task("", total=seconds)

            def show() -> None:
                bar.update(task_id, completed=time.monotonic() - began_s, description=_words(tally))

            with _repeated(show, BAR_EVERY_S):
                yield bar.console.print
        return

    def tell() -> None:
        click.echo(f"{time.monotonic() - began_s:5.1f} s  {_words(tally)}")

    with _repeated(tell, LINE_EVERY_S):
        yield click.echo


@contextmanager
def _repeated(show: Callable[[], None], every_s: float) -> Iterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(every_s)
            show()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        show()


def _bar(seconds: int) -> Progress:
    columns = BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    return Progress(*columns, console=console(), auto_refresh=True)


def _words(tally: Tally) -> str:
    return (
        f"{tally.answered:,} answered  {tally.denied:,} denied  {tally.retries:,} retries"
        f"  {tally.resets:,} resets  {tally.replays:,} replays"
    )
