"""The yardstick: a POST that does nothing, in Starlette, on the server that the gateway runs on.

Decided here: nothing but an empty answer after the body was read. Everything else, sockets, loop
and server, is the gateway's own, so that the difference is what the gateway does.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.config import Config
from gateway.settings import Server
from gateway.web.lifecycle import Lifecycle
from gateway.web.serving import address_of, bind, serve
from gateway.web.stopping import Stop

PATH = "/empty"


async def _empty(request: Request) -> Response:
    await request.body()
    return Response()


async def _main(server: str) -> None:
    host = "127.0.0.1"
    with bind(host, 0) as listener:
        url = address_of(listener, host, tls=False)
        await serve(
            Starlette(routes=[Route(PATH, _empty, methods=["POST"])]),
            listener,
            Config(server=Server(drain_s=0)),
            tls=None,
            lifecycle=Lifecycle(),
            stop=Stop(),
            announce=lambda: print(f"ready {url}", flush=True),
            server=server,
        )


def main() -> None:
    """Serve until told to stop, on the server that the first argument names."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(sys.argv[1]))
