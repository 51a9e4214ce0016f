"""`forward list` and `forward show`: what was set aside, what is known of it, what was decided.

Decided here: the arguments. Not decided here: how it looks (shown.py). Nothing is changed.
Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import click
from rich.console import Console

from gateway.cli.forwarding import shown
from gateway.cli.forwarding.desk import command_line, open_desk
from gateway.cli.names import Named
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.service.asides import Item, Recorded
from gateway.service.decisions import meanings

_LIST_JSON: Final = """\b
JSON: {"aside": [{"address", "instance", "upstream", "kind", "standing", "known",
  "units": {LINE: UNITS}, "since", "attempts", "why", "retry"}]}
  standing: parked, dead or blocked; known: in_doubt, handed_over, dead or blocked;
  kind: the upstream's, "" when it is not configured; since, retry: moments or null;
  attempts: null for what is blocked.
With --decisions: {"decisions": [{"when", "who", "what", "instance", "upstream",
  "subject", "units": {LINE: UNITS}, "why"}]}, the newest first.
  subject: the id of a batch or a line, the host of a client that was dropped, or "".

"""
_SHOW_JSON: Final = """\b
JSON: the members of forward list, and {"rows": [{"hour", "line", "host", "units"}],
  "body", "body_bytes", "sentence", "look_for",
  "decisions": [{"what", "means", "command"}]}; body: its first 4096 bytes, or null.

"""


@click.command(
    "list",
    short_help="List what was set aside, or what was decided.",
    epilog=_LIST_JSON + example("forward list", "forward list --decisions"),
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option("--decisions", is_flag=True, help="What was decided, instead; the newest first.")
@configured()
def list_items(config: Config, form: str, decisions: bool) -> None:
    """List batches that were set aside, and usage that an upstream refuses for now.

    Over all instances and the upstreams they are attached to. An address names one of them to the
    other commands: the id of a batch, or INSTANCE/UPSTREAM/LINE.
    """
    if decisions:
        record = asyncio.run(_record(config))
        if form == "json":
            shown.show_json({"decisions": [shown.decision_json(each) for each in record]})
        else:
            shown.show_decisions(record)
        return
    items = asyncio.run(_items(config))
    if form == "json":
        shown.show_json({"aside": [shown.item_json(item) for item in items]})
    else:
        shown.show_items(items)


@click.command(
    cls=Named,
    short_help="Show one thing set aside, and what can be decided.",
    epilog=_SHOW_JSON + example("forward show 5f0c2d9be0a94cfcb7f5a1d0c6a7e312"),
)
@click.argument("address")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@configured()
@click.pass_context
def show(ctx: click.Context, config: Config, address: str, form: str) -> None:
    """Show all that is known of one thing set aside, and what can be decided about it."""
    item = asyncio.run(_item(config, address))
    commands = {action: command_line(ctx, action, item.address) for action in meanings(item.known)}
    if form == "json":
        shown.show_json(shown.details_json(item, commands))
    else:
        shown.show_details(item, commands)


async def _items(config: Config) -> list[Item]:
    async with open_desk(config, only_look=True) as desk:
        with Console(stderr=True, quiet=not sys.stderr.isatty()).status("looking") as status:
            items = []
            async for item in desk.items():
                items.append(item)
                status.update(f"looking: {len(items)} set aside")
        return items


async def _item(config: Config, address: str) -> Item:
    async with open_desk(config, only_look=True) as desk:
        return await desk.find(address)


async def _record(config: Config) -> list[Recorded]:
    async with open_desk(config, only_look=True) as desk:
        return await desk.record()
