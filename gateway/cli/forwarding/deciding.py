"""`forward retry`, `discard` and `reconcile`: a person's decision about one thing set aside.

Decided here: the arguments and what is said afterwards. Not decided here: which decisions fit
(service/decisions.py). Every one is in the record, with a reason. Source: INTERFACE 1, DESIGN 5.
"""

from __future__ import annotations

import asyncio

import click

from gateway.cli.forwarding.desk import check_signature, open_desk, signed
from gateway.cli.forwarding.shown import units_text
from gateway.cli.names import Named
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.service.decisions import MEANINGS, Action, judge


@click.command(
    cls=Named,
    epilog=example(
        "forward retry 5f0c2d9be0a94cfcb7f5a1d0c6a7e312 --reason 'the feature exists there now'"
    ),
)
@click.argument("address")
@signed
@configured()
def retry(config: Config, address: str, reason: str, by: str | None) -> None:
    """Let the units go again, in a batch of another id.

    For what is parked, dead or blocked. Of a parked batch only when the upstream did not apply it,
    or its file will not be taken over: else its units count twice there.
    """
    asyncio.run(_decide(config, address, Action.RETRY, by, reason))


@click.command(
    cls=Named,
    epilog=example("forward discard DEMO00000001/parent/L1 --reason 'agreed with the vendor'"),
)
@click.argument("address")
@signed
@configured()
def discard(config: Config, address: str, reason: str, by: str | None) -> None:
    """Give the units up: they count as dead.

    For what is parked or blocked. A dead batch is taken off the list, its units stay dead.
    """
    asyncio.run(_decide(config, address, Action.DISCARD, by, reason))


@click.command(
    cls=Named,
    short_help="Say whether the upstream applied a parked batch.",
    epilog=example(
        "forward reconcile 5f0c2d9be0a94cfcb7f5a1d0c6a7e312 --applied --reason 'seen in their log'"
    ),
)
@click.argument("address")
@click.option(
    "--applied/--not-applied", "applied", default=None, help="What the upstream has, as you found."
)
@signed
@configured()
def reconcile(
    config: Config, address: str, applied: bool | None, reason: str, by: str | None
) -> None:
    """Say what you found out about a parked batch: whether the upstream applied it.

    Applied, its units count as forwarded; not applied, they go again in a batch of another id.
    """
    if applied is None:
        asyncio.run(_ask(config, address))
    else:
        action = Action.APPLIED if applied else Action.NOT_APPLIED
        asyncio.run(_decide(config, address, action, by, reason))


async def _decide(
    config: Config, address: str, action: Action, by: str | None, reason: str
) -> None:
    who, why = check_signature(by, reason)
    async with open_desk(config) as desk:
        item = await desk.find(address)
        await desk.decide(item, action, who, why)
    click.echo(f"{action} {item.address}: {MEANINGS[item.known, action]}")
    click.echo(f"units: {units_text(item.units)} ({item.instance} -> {item.upstream})")
    click.echo(f"recorded: {who}: {why}")


async def _ask(config: Config, address: str) -> None:
    """Tell what to find out first. Raises InvalidInput, whatever is found."""
    async with open_desk(config, only_look=True) as desk:
        item = await desk.find(address)
    judge(item.known, Action.APPLIED)
    raise InvalidInput(
        f"Batch {item.address} cannot be reconciled by itself. {item.look_for} Then say"
        " --applied or --not-applied"
    )
