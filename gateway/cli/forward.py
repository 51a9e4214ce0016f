"""`forward`: only the forwarder, until told to stop or until nothing is left.

Decided here: what is said at the end and the exit code. Not decided here: how usage is forwarded
(upstream/). Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
from typing import Final

import click

from gateway import logs
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.upstream.forwarder import Leftover
from gateway.web.stopping import Stop
from gateway.wiring import open_forwarder, open_store

GRACE_S: Final = 8.0  # for a batch under way, when told to stop


@click.command(epilog=example("forward --once", "forward --config gateway.toml"))
@click.option(
    "--once", is_flag=True, help="Forward what is there and exit; 1 if something is left."
)
@configured()
def forward(config: Config, once: bool) -> int:
    """Forward usage to the configured upstreams.

    With --once: until nothing is left (exit 0) or what is left cannot go now (exit 1).
    Several forwarders may run over one store: a lease per partition keeps them apart.
    """
    logs.set_up(config.log.level, config.log.format)
    return asyncio.run(_once(config) if once else _until_stopped(config))


async def _once(config: Config) -> int:
    async with open_store(config) as store, open_forwarder(config, store) as forwarder:
        left = await forwarder.drain()
    for each in left:
        click.echo(_sentence(each), err=True)
    click.echo("nothing is left" if not left else f"{len(left)} outboxes are not empty")
    return 1 if left else 0


async def _until_stopped(config: Config) -> int:
    stop = Stop()
    async with open_store(config) as store, open_forwarder(config, store, GRACE_S) as forwarder:
        forwarder.start()
        stop.started()
        await stop.asked.wait()
    return 0


def _sentence(left: Leftover) -> str:
    parts = []
    if left.open_rows:
        parts.append(f"{left.open_rows} open rows")
    if left.sealed:
        parts.append(f"sealed batch {left.sealed}")
    why = f": {left.reason}" if left.reason else ""
    return f"{left.instance} -> {left.upstream}: {' and '.join(parts)}{why}"
