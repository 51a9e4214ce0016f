"""`forward synced`: what clouds last said of the lines they sell, and what of ours they lack.

Decided here: the columns. Members of JSON are only ever added. Not decided here: what is heard when
(upstream/licensespring_sync.py). Nothing is changed, and no cloud is asked.
Source: INTERFACE 1, protocols/licensespring.md 5 and 10.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click
from rich.table import Table

from gateway.cli.forwarding.shown import console, moment, show_json
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.service.aside_words import plain
from gateway.service.syncing import HeardLine, heard_of
from gateway.settings import LicensespringUpstream
from gateway.wiring_cloud import make_syncs
from gateway.wiring_store import open_store

_JSON: Final = """\b
JSON: {"lines": [{"instance", "upstream", "line", "at", "code", "text", "total", "period",
  "elsewhere", "unsynced", "late", "others"}]}
  code: ok, or what was wrong in the cloud's word; total: the cloud's, in period;
  elsewhere: what others consumed of it; unsynced: units that then waited here, blocked ones
  included; late: units of an earlier period that the cloud booked in this one;
  others: when the total was last seen to move by another's doing, or null.

"""
_COLUMNS: Final = (
    *("instance", "upstream", "line", "at", "code", "total"),
    *("elsewhere", "unsynced", "late", "others"),
)


@click.command(
    short_help="Show what clouds last said of their lines.",
    epilog=_JSON + example("forward synced"),
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@configured()
def synced(config: Config, form: str) -> None:
    """Show the last result of each line that a cloud sells, and what it does not have yet."""
    told = [_told(each) for each in asyncio.run(_heard(config))]
    if form == "json":
        show_json({"lines": told})
    elif not told:
        click.echo("nothing was synced")
    else:
        table = Table()
        for name in _COLUMNS:
            table.add_column(name, overflow="fold")
        for each in told:
            table.add_row(*("-" if each[name] is None else str(each[name]) for name in _COLUMNS))
        console().print(table)


async def _heard(config: Config) -> list[HeardLine]:
    clouds = {each.name for each in config.upstreams if isinstance(each, LicensespringUpstream)}
    async with open_store(config, allow_weaker=True) as store:
        return [each async for each in heard_of(store.catalogues, make_syncs(store), clouds)]


def _told(each: HeardLine) -> dict[str, Any]:
    known = each.known
    return {
        "instance": each.instance,
        "upstream": each.upstream,
        "line": each.line,
        "at": moment(known.at_ms),
        "code": plain(known.code),
        "text": plain(known.text),
        "total": known.total,
        "period": known.period,
        "elsewhere": known.elsewhere,
        "unsynced": known.unsynced,
        "late": known.late,
        "others": moment(known.others_ms or None),
    }
