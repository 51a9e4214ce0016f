"""`forward --receipt FILE`: what was carried over by hand is settled.

Decided here: what is said of each line and the exit code. A receipt that is damaged or not ours
settles nothing. Not decided here: what a receipt is (upstream/spool.py) and which batch it settles
(service/asides.py). Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from gateway.cli.forwarding.desk import operator
from gateway.cli.options import EXIT_FAILURE, read_bounded
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.service.asides import Receipt, Told
from gateway.service.decisions import REASON_CHARS_MAX, check_text
from gateway.store.signing import signing_key
from gateway.upstream.spool import RECEIPT_BYTES_MAX, Trailer, read_receipt
from gateway.wiring_forwarding import desk_over
from gateway.wiring_store import open_store


def settle_receipt(config: Config, file: Path) -> int:
    """Settle the batches that a receipt names; 0 when each is settled, now or before.

    Raises InvalidInput, and settles nothing, when a line is no trailer or its signature not ours.
    """
    trailers = read_receipt(read_bounded(file, "The receipt", RECEIPT_BYTES_MAX))
    if not trailers:
        raise InvalidInput(f"The receipt {file} is empty; it has the last line of each file")
    why = check_text(file.name, "The receipt's name", REASON_CHARS_MAX)
    told = asyncio.run(_settle(config, trailers, why))
    for each in told:
        where = f"batch {each.trailer.batch} ({each.trailer.instance} -> {each.trailer.upstream})"
        if each.told is Told.NOT_WAITING:
            click.echo(f"{where} is not waiting: {each.why}", err=True)
        else:
            click.echo(f"{each.told}: {where}, {each.trailer.rows} rows")
    sums = Counter(each.told for each in told)
    click.echo(", ".join(f"{sums[word]} {word}" for word in Told))
    return EXIT_FAILURE if sums[Told.NOT_WAITING] else 0


async def _settle(config: Config, trailers: list[Trailer], why: str) -> list[Receipt]:
    console = Console(stderr=True)
    async with open_store(config) as store:
        named = config.path(config.signing.key_file) if config.signing.key_file else None
        private = await signing_key(store, config.signing.alg, named, config.data_dir)
        desk = desk_over(config, store)
        told = []
        with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task("settling", total=len(trailers))
            async for each in desk.settle(trailers, private.public_key(), operator(), why):
                told.append(each)
                bar.advance(task)
        return told
