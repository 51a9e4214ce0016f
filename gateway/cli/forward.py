"""`forward`: only the forwarder, until told to stop or until nothing is left; what is set aside.

Decided here: what is said at the end and the exit code, and that the common options may stand
before a further command as well as after it. Not decided here: how usage is forwarded (upstream/),
what is decided about things set aside (forwarding/). Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import click

from gateway import logs
from gateway.cli.forwarding.deciding import discard, reconcile, retry
from gateway.cli.forwarding.looking import list_items, show
from gateway.cli.forwarding.receipts import settle_receipt
from gateway.cli.forwarding.synced import synced
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.upstream.forwarder import Leftover
from gateway.web.stopping import Stop
from gateway.wiring import open_forwarder
from gateway.wiring_forwarding import desk_over
from gateway.wiring_seeing import open_traces
from gateway.wiring_store import open_store

GRACE_S: Final = 8.0  # for a batch under way, when told to stop


@click.group(
    invoke_without_command=True,
    epilog=example(
        "forward --once",
        "forward --config gateway.toml",
        "forward --receipt receipt.ndjson",
        "forward list",
    ),
)
@click.option(
    "--once", is_flag=True, help="Forward what is there and exit; 1 if something is left."
)
@click.option(
    "--receipt", type=Path, metavar="FILE", help="Settle what was carried over by hand, and exit."
)
@configured()
@click.pass_context
def forward(ctx: click.Context, config: Config, once: bool, receipt: Path | None) -> int:
    """Forward usage to the configured upstreams, and decide about what was set aside.

    With --once: until nothing is left (exit 0) or what is left cannot go now (exit 1).
    Several forwarders may run over one store: a lease per partition keeps them apart.

    With --receipt: settle the batches whose files were taken over from a spool; FILE has the last
    line of each file (tail -qn1 *.ndjson). Exit 1 when one is not waiting, 2 when a line is damaged
    or not ours; then nothing is settled.
    """
    if once + (receipt is not None) + (ctx.invoked_subcommand is not None) > 1:
        raise InvalidInput("--once, --receipt and a further command exclude one another")
    if ctx.invoked_subcommand is not None:
        shared = {name: ctx.params[name] for name in ("config_file", "redis_url", "data_dir")}
        ctx.default_map = {ctx.invoked_subcommand: shared}
        return 0
    if receipt is not None:
        return settle_receipt(config, receipt)
    logs.set_up(config.log.level, config.log.format)
    return asyncio.run(_once(config) if once else _until_stopped(config))


for _command in (list_items, show, retry, discard, reconcile, synced):
    forward.add_command(_command)


async def _once(config: Config) -> int:
    async with (
        open_traces(os.environ) as traces,
        open_store(config) as store,
        open_forwarder(config, store, traces=traces) as forwarder,
    ):
        left = await forwarder.drain()
        waiting = [place async for place in desk_over(config, store).places()]
    for each in left:
        click.echo(_sentence(each), err=True)
    click.echo("nothing is left" if not left else f"{len(left)} outboxes are not empty")
    if waiting:
        click.echo(
            f"set aside: {len(waiting)}; cmapi-gateway forward list tells what can be decided"
        )
    return 1 if left else 0


async def _until_stopped(config: Config) -> int:
    stop = Stop()
    try:
        async with (
            open_traces(os.environ) as traces,
            open_store(config) as store,
            open_forwarder(config, store, GRACE_S, traces=traces) as forwarder,
        ):
            forwarder.start()
            stop.started()
            await stop.asked.wait()
    except asyncio.CancelledError:
        # Told to stop before it had started: there was nothing to finish.
        if not stop.asked.is_set():
            raise
    return 0


def _sentence(left: Leftover) -> str:
    parts = []
    if left.open_rows:
        parts.append(f"{left.open_rows} open rows")
    if left.sealed:
        parts.append(f"sealed batch {left.sealed}")
    why = f": {left.reason}" if left.reason else ""
    return f"{left.instance} -> {left.upstream}: {' and '.join(parts)}{why}"
