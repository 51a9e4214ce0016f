"""`serve`: the gateway, as this process or as several workers under it.

Decided here: the order of a start (address, store, gateway, the ready line) and which of the two
ways it goes. Not decided here: serving (web/serving.py), keeping workers (supervisor.py).
Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import click

from gateway import logs
from gateway.cli.options import configured, example
from gateway.cli.supervisor import Supervisor, WorkersFailed
from gateway.cli.worker import work
from gateway.config import Config
from gateway.web.servers import HYPERCORN, NAMES
from gateway.web.serving import address_of, bind, check
from gateway.web.stopping import Stop, leave_when_told
from gateway.wiring_store import open_store


@click.command(epilog=example("serve", "serve --bind 0.0.0.0:7070 --workers 4"))
@click.option("--bind", metavar="HOST:PORT", help="Where to listen; port 0 is any that is free.")
@click.option("--workers", type=int, metavar="N", help="How many processes serve.")
@click.option("--server", type=click.Choice(NAMES), default=HYPERCORN, help="What speaks HTTP.")
@click.option("--no-forward", is_flag=True, help="Leave forwarding to others.")
@click.option(
    "--allow-weaker-store", is_flag=True, help="Serve all the same if redis.ack is not met."
)
@configured(bind="server.bind", workers="server.workers")
def serve(config: Config, server: str, no_forward: bool, allow_weaker_store: bool) -> int:
    """Serve until SIGTERM or Ctrl-C; a second one skips the drain.

    Prints `ready http://HOST:PORT` once it answers. Logs go to stderr.
    """
    leave_when_told()
    logs.set_up(config.log.level, config.log.format)
    check(config, server)
    host, port = config.server.address
    with bind(host, port) as listener:
        url = address_of(listener, host, tls=bool(config.server.tls_cert))

        def announce() -> None:
            click.echo(f"ready {url}")  # flushes

        if config.server.workers == 1:
            work(
                config,
                listener,
                forward=not no_forward,
                allow_weaker=allow_weaker_store,
                announce=announce,
                server=server,
            )
            return 0
        supervisor = Supervisor(
            config, listener, forward=not no_forward, allow_weaker=allow_weaker_store, server=server
        )
        return asyncio.run(_supervise(config, supervisor, allow_weaker_store, announce))


async def _supervise(
    config: Config, supervisor: Supervisor, allow_weaker: bool, announce: Callable[[], None]
) -> int:
    """Keep workers until told to stop; an embedded store is ours, so that it outlives each."""
    stop = Stop()
    try:
        async with open_store(config, allow_weaker=allow_weaker):
            await supervisor.run(stop, announce)
    except WorkersFailed as error:
        if not error.code:
            raise
        return error.code
    except asyncio.CancelledError:
        if not stop.asked.is_set():
            raise
    finally:
        stop.disarm()
    stop.hear_no_more()
    return 0
