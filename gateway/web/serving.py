"""Serving an ASGI app in this process, by one of the servers, until it is told to stop.

Decided here: how we listen, what stands between the connections and the app, and the order of a
stop: not ready, drain, no new connections, finish, cut off. All of it is the same under every
server. Not decided here: the app, nor what is opened for it, nor which servers there are
(servers.py) and what becomes of a connection there. Source: RELIABILITY 3 (6).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from hypercorn.config import Config as Hypercorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.meters import Meters
from gateway.web.lifecycle import Lifecycle
from gateway.web.proxies import behind_proxies, trusted_networks
from gateway.web.refusing import Refusing
from gateway.web.servers import HYPERCORN, check_server, make_server
from gateway.web.shedding import Shedding
from gateway.web.stopping import CLOSE_S_MAX, FINISH_S_MAX, Stop

BACKLOG: Final = 1024

_log = structlog.get_logger("gateway.serving")


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address; connections wait until somebody serves them.

    Raises InvalidInput, a sentence that tells why not: in use, not ours, not allowed, not known.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidInput(f"The host {host} to listen on is not known: {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once: of two that are bound and not listening yet, both would believe to have the port.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidInput(f"Cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def address_of(listener: socket.socket, host: str, *, tls: bool) -> str:
    """Give the base URL under which `listener`, bound to `host`, is reached; its port is real."""
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{listener.getsockname()[1]}"


def check(config: Config, server: str = HYPERCORN) -> None:
    """Raise InvalidInput for what nothing could be served with, whatever is opened."""
    check_server(server)
    tls_context(config)
    trusted_networks(config.server.trusted_proxies)


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Load the certificate and the key of `server.tls_cert` and `tls_key`; None without them.

    Raises InvalidInput when only one is given, or they cannot be read, or do not belong together.
    """
    names = (config.server.tls_cert, config.server.tls_key)
    if not any(names):
        return None
    if not all(names):
        raise InvalidInput("server.tls_cert and server.tls_key are given together or not at all")
    certificate, key = (str(config.path(name)) for name in names)
    settings = Hypercorn()
    settings.certfile, settings.keyfile = certificate, key
    # Without one, the password of a key that needs it would be asked for on the terminal.
    settings.keyfile_password = ""
    try:
        return settings.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInput(
            f"server.tls_cert {certificate} and server.tls_key {key} do not serve: {error.strerror}"
        ) from None


def layered(
    app: ASGIApp, config: Config, lifecycle: Lifecycle, meters: Meters | None = None
) -> ASGIApp:
    """Put before an app what stands there under every server.

    Raises InvalidInput for trusted proxies that are none.
    """
    limits = config.limits
    app = behind_proxies(app, trusted_networks(config.server.trusted_proxies))
    # Who could not find a place in the lane is refused before anything is done for it.
    app = Shedding(app, busy_max=limits.lane_queue, present_max=limits.connections, meters=meters)
    return _closing_when_draining(app, lifecycle)


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    config: Config,
    *,
    tls: ssl.SSLContext | None,
    lifecycle: Lifecycle,
    stop: Stop,
    announce: Callable[[], None],
    meters: Meters | None = None,
    server: str = HYPERCORN,
) -> None:
    """Serve until `stop` is asked for and its order is gone through; `announce` when it answers.
    What is refused is counted in `meters`. The listener is closed with it.

    Requests in flight are answered, bounded by FINISH_S_MAX after the drain. From the end of the
    drain on the process ends within FINISH_S_MAX + CLOSE_S_MAX, whatever hangs. Raises InvalidInput
    for trusted proxies that are none, and for a server that is not there.
    """
    app = layered(app, config, lifecycle, meters)
    connections = make_server(server, app, config, tls, lifecycle, Refusing(meters))
    connections.listen(listener)
    sweeper = asyncio.create_task(connections.sweep())
    stop.started()
    announce()
    try:
        await stop.asked.wait()
        lifecycle.draining = True
        _log.info("draining", drain_s=config.server.drain_s)
        await stop.wait_out(config.server.drain_s)
    finally:
        stop.exit_within(FINISH_S_MAX + CLOSE_S_MAX)
        connections.refuse_new()
        sweeper.cancel()
        await connections.finish()


def _closing_when_draining(app: ASGIApp, lifecycle: Lifecycle) -> ASGIApp:
    """Make answers given while draining the last of their HTTP/1 connection: clients move on."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if not lifecycle.draining or scope["type"] != "http" or scope["http_version"] == "2":
            await app(scope, receive, send)
            return

        async def send_last(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_last)

    return wrapped
