"""The yardsticks: a POST that does nothing, in Starlette, on the server that the gateway runs on.

Decided here: nothing but an empty answer after the body was read. One is on Hypercorn as it comes,
as whoever writes a service has it. The other is behind the gateway's own connections (`serve`), so
that the difference is what the gateway does with a request; the shorter their way, the harder it is
to come close to it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

import hypercorn.asyncio
import uvloop
from hypercorn.config import Config as Hypercorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.config import Config
from gateway.settings import Server
from gateway.web.lifecycle import Lifecycle
from gateway.web.serving import address_of, bind, serve
from gateway.web.stopping import Stop

PATH: Final = "/empty"
PLAIN: Final = "plain"


async def _empty(request: Request) -> Response:
    await request.body()
    return Response()


_APP: Final = Starlette(routes=[Route(PATH, _empty, methods=["POST"])])


async def _behind_ours(listener: socket.socket, announce: Callable[[], None], server: str) -> None:
    await serve(
        _APP,
        listener,
        Config(server=Server(drain_s=0)),
        tls=None,
        lifecycle=Lifecycle(),
        stop=Stop(),
        announce=announce,
        server=server,
    )


async def _plain(listener: socket.socket, announce: Callable[[], None]) -> None:
    settings = Hypercorn()
    settings.bind = [f"fd://{listener.fileno()}"]
    settings.keep_alive_max_requests = 2**62  # it would close connections under load
    settings.errorlog = None
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    announce()
    await hypercorn.asyncio.serve(_APP, settings, shutdown_trigger=asked.wait)  # type: ignore[arg-type]


async def _main(server: str) -> None:
    host = "127.0.0.1"
    with bind(host, 0) as listener:
        url = address_of(listener, host, tls=False)

        def announce() -> None:
            print(f"ready {url}", flush=True)

        if server == PLAIN:
            await _plain(listener, announce)
        else:
            await _behind_ours(listener, announce, server)


def main() -> None:
    """Serve until told to stop: on Hypercorn as it comes (`PLAIN`), or behind the gateway's
    connections on the server that the first argument names.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(sys.argv[1]))
