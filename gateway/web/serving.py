"""Serving an ASGI app in this process with Hypercorn's protocols, until it is told to stop.

Decided here: how we listen, how many connections there are at most, how long one may be silent, and
the order of a stop: not ready, drain, no new connections, finish, cut off. Hypercorn's own loop is
not used: a half-sent body hangs its shutdown, and a cleartext HTTP/2 preface followed by silence
stays open for ever. Not decided: the app, nor what is opened for it. Source: RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Final

import structlog
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config as Hypercorn
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.settings import Server
from gateway.web.lifecycle import Lifecycle
from gateway.web.resets import reset_broken_off
from gateway.web.stopping import CLOSE_S_MAX, FINISH_S_MAX, Stop

BACKLOG: Final = 1024
HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers; a capability token is among them
REQUEST_S_MAX: Final = 60.0  # the slowest one may be: a client that takes its answer drop by drop
SWEEP_S: Final = 0.5
CUT_S_MAX: Final = 0.5  # for a request to notice that its connection was cut

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


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    config: Config,
    *,
    tls: ssl.SSLContext | None,
    lifecycle: Lifecycle,
    stop: Stop,
    announce: Callable[[], None],
) -> None:
    """Serve until `stop` is asked for and its order is gone through; `announce` when it answers.

    Requests in flight are answered, bounded by FINISH_S_MAX after the drain. From the end of the
    drain on the process ends within FINISH_S_MAX + CLOSE_S_MAX, whatever hangs.
    """
    settings = config.server
    crowd = _Crowd(_closing_when_draining(app, lifecycle), settings, config.limits.connections)
    tls_bounds: dict[str, Any] = {}
    if tls is not None:
        tls_bounds = {
            "ssl": tls,
            "ssl_handshake_timeout": max(settings.header_timeout_s, SWEEP_S),
            "ssl_shutdown_timeout": CUT_S_MAX,
        }
    listening = await asyncio.start_server(
        crowd.welcome, sock=listener, backlog=BACKLOG, **tls_bounds
    )
    sweeper = asyncio.create_task(crowd.sweep())
    stop.started()
    announce()
    try:
        await stop.asked.wait()
        lifecycle.draining = True
        _log.info("draining", drain_s=settings.drain_s)
        await stop.wait_out(settings.drain_s)
    finally:
        stop.exit_within(FINISH_S_MAX + CLOSE_S_MAX)
        # No wait_closed: from Python 3.12 on it waits for connections, silent ones too.
        listening.close()
        sweeper.cancel()
        await crowd.finish()


class _Connection(TCPServer):
    """One connection, which tells whether its client is too slow."""

    _seen: tuple[int, int] | None = None
    _seen_at_s: float = 0.0
    _head: bytes = b""

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol says; the head of an HTTP/1 answer goes with what follows it.

        Hypercorn hands over head and body one after the other, and each would be a system call and
        a packet of its own. An interim answer (1xx) is what the client waits for: it goes at once.
        """
        if isinstance(event, RawData):
            data = event.data
            if not self._head and data[:9] == b"HTTP/1.1 " and data[9:10] != b"1":
                self._head = data
                return
            if self._head:
                event, self._head = RawData(self._head + data), b""
            elif not data:
                return  # the end of an answer of known length has no bytes
        elif self._head:
            head, self._head = RawData(self._head), b""
            await super().protocol_send(head)
        elif isinstance(event, Updated) and isinstance(self.protocol.protocol, H2Protocol):
            reset = await reset_broken_off(self.protocol.protocol)
            if reset:
                await super().protocol_send(RawData(reset))
        await super().protocol_send(event)

    def overdue(self, now_s: float) -> bool:
        """Say whether nothing began or ended on it for longer than a client may take.

        Hypercorn's own timer covers what this covers, but for HTTP/2 before its first request and
        for answers that nobody takes.
        """
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            requests = len(protocol.streams)
        else:
            requests = int(protocol.stream is not None)
        seen = (protocol.keep_alive_requests, requests)
        if seen != self._seen:
            self._seen, self._seen_at_s = seen, now_s
        bound_s = REQUEST_S_MAX if requests else self.config.keep_alive_timeout
        return now_s - self._seen_at_s > bound_s

    def cut(self) -> None:
        """Drop it, unsent bytes included; to the app it is a client that went away."""
        self.writer.transport.abort()


class _Crowd:
    """All connections of this process."""

    def __init__(self, app: ASGIApp, settings: Server, connections_max: int) -> None:
        self._app = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]  # the same, less exactly
        self._config = _hypercorn(settings)
        self._connections_max = connections_max
        self._context = WorkerContext(None)
        self._tasks: dict[_Connection, asyncio.Task[None] | None] = {}

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end, or drop it at once when there are too many."""
        if len(self._tasks) >= self._connections_max:
            writer.transport.abort()
            return
        connection = _Connection(
            self._app,
            asyncio.get_running_loop(),
            self._config,
            self._context,
            ConnectionState({}),
            reader,
            writer,
        )
        self._tasks[connection] = asyncio.current_task()
        try:
            await connection
        except Exception as error:
            # The codecs stumble over some of what a client may send; the client is at fault.
            _log.info("connection failed", error=_innermost(error))
        finally:
            del self._tasks[connection]

    async def sweep(self) -> None:
        """Cut off, for ever, whoever is silent for too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = asyncio.get_running_loop().time()
            for connection in [each for each in self._tasks if each.overdue(now_s)]:
                connection.cut()

    async def finish(self) -> None:
        """Let requests in flight end, idle connections at once; cut off what is left."""
        await self._context.terminated.set()
        await _all_done(self._tasks.values(), FINISH_S_MAX)
        if self._tasks:
            _log.warning("requests cut off", connections=len(self._tasks))
            for connection in list(self._tasks):
                connection.cut()
            await _all_done(self._tasks.values(), CUT_S_MAX)


def _hypercorn(settings: Server) -> Hypercorn:
    config = Hypercorn()
    config.keep_alive_timeout = settings.header_timeout_s
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    # Past its default of 1,000 requests Hypercorn says goodbye on HTTP/2 before it has answered.
    config.keep_alive_max_requests = 2**62
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


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


async def _all_done(tasks: Iterable[asyncio.Task[None] | None], within_s: float) -> None:
    waiting = [task for task in tasks if task is not None]
    if waiting:
        await asyncio.wait(waiting, timeout=within_s)


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
