"""The ten-column CSV of usage that was spooled: `report INSTANCE --raw UPSTREAM`.

Decided here: that it is written file by file, and that a file which is not what was written is
named after all others were. Not decided here: the columns (upstream/raw_usage.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.model import Catalogue
from gateway.core.periods import zone
from gateway.core.reports_periods import Days
from gateway.protocols.usage_report import csv_lines
from gateway.settings import SpoolUpstream
from gateway.upstream.raw_usage import COLUMNS, raw_rows
from gateway.upstream.spooling import batches


def spool_of(config: Config, upstream: str) -> Path:
    """Find the directory of a spool by its upstream's name. Raises InvalidInput."""
    for each in config.upstreams:
        if each.name == upstream and isinstance(each, SpoolUpstream):
            directory = config.path(each.dir)
            if not directory.is_dir():  # a stick that is not there has not "nothing" on it
                raise InvalidInput(f"The spool {directory} of upstream {upstream} is not there")
            return directory
    raise InvalidInput(
        f"{upstream[:64]!r} is no upstream of kind spool in this configuration; only what is"
        " spooled is kept batch by batch"
    )


def show(
    directory: Path, upstream: str, catalogue: Catalogue, features: tuple[str, ...], days: Days
) -> None:
    """Print the rows of an instance on these days; only the header when there was nothing.

    Raises InvalidInput that names every file which was changed or cannot be read.
    """
    problems: list[str] = []
    lines = {line.id: line for line in catalogue.lines}
    click.echo(csv_lines([COLUMNS]), nl=False)
    for events in batches(directory, upstream, problems):
        rows = raw_rows(
            events,
            instance=catalogue.id,
            account=catalogue.name or catalogue.id,
            lines=lines,
            features=features,
            days=days,
            tz=zone(catalogue.timezone),
        )
        click.echo(csv_lines(rows), nl=False)
    if problems:
        raise InvalidInput(*problems)
