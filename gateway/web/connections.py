"""The connections of this process: let in, watched, told goodbye, cut off.

Decided here: how many there are, those whose TLS handshake is under way included; what one hears
that is one too many; how often it is looked who is silent for too long. Hypercorn's own loop is not
used: a half-sent body hangs its shutdown, and a cleartext HTTP/2 preface followed by silence stays
open for ever. Not decided here: what is done with one (connection.py), and when we stop
(serving.py). Source: INTERFACE 2, RELIABILITY 3 (6) and 4 row 16.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from asyncio import StreamReader, StreamReaderProtocol, StreamWriter
from collections.abc import Iterable
from typing import Final

import structlog
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config as Hypercorn
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from gateway.settings import Server
from gateway.web.connection import Connection
from gateway.web.lifecycle import Lifecycle
from gateway.web.refusing import Refusing
from gateway.web.stopping import FINISH_S_MAX

HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers; a capability token is among them
ACCEPTS_MAX: Final = 64  # connections taken at one go, before others have their turn
ACCEPT_PAUSE_S: Final = 0.5  # when the system has no descriptor for one more
BODY_PARTS_MAX: Final = 4
SWEEP_S: Final = 0.5
CUT_S_MAX: Final = 0.5  # for a request to notice that its connection was cut

_log = structlog.get_logger("gateway.serving")


class Connections:
    """All connections of this process, `connections_max` of them at most."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Server,
        connections_max: int,
        tls: ssl.SSLContext | None,
        lifecycle: Lifecycle,
        refusing: Refusing,
    ) -> None:
        self._app = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]  # the same, less exactly
        self._config = _hypercorn(settings)
        self._connections_max = connections_max
        self._tls, self._lifecycle = tls, lifecycle
        self._context = WorkerContext(None)
        self._refusing = refusing
        # None: not established yet, or over
        self._open: dict[asyncio.Task[None], Connection | None] = {}
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    def listen(self, listener: socket.socket) -> None:
        """Begin to take the connections that come."""
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def refuse_new(self) -> None:
        """Take no more connections, for ever."""
        listener, self._listener = self._listener, None
        if self._pause is not None:
            self._pause.cancel()
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    async def sweep(self) -> None:
        """Cut off, for ever, whoever is silent for too long; say goodbye when we drain."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = asyncio.get_running_loop().time()
            for task, connection in list(self._open.items()):
                if connection is None:
                    continue
                if connection.is_cut:  # and still here: its client is gone, but something hangs
                    task.cancel()
                elif connection.overdue(now_s):
                    connection.end()
                elif self._lifecycle.draining:
                    connection.say_goodbye()

    async def finish(self) -> None:
        """Let requests in flight end, idle connections at once; cut off what is left."""
        self._refusing.end()
        for task, connection in list(self._open.items()):
            if connection is None:
                task.cancel()
            else:
                connection.leave()
        await self._context.terminated.set()
        await _all_done(self._open, FINISH_S_MAX)
        if self._open:
            _log.warning("requests cut off", connections=len(self._open))
            for connection in filter(None, list(self._open.values())):
                connection.cut()
            await _all_done(self._open, CUT_S_MAX)

    def _accept(self) -> None:
        """Take what waits. Not left to asyncio, which counts nobody before the handshake is over,
        so that handshakes alone could take every descriptor there is.
        """
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_MAX):
            if self._listener is None:
                return
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("no connection can be taken", error=error.strerror)
                loop.remove_reader(self._listener)
                self._pause = loop.call_later(ACCEPT_PAUSE_S, self.listen, self._listener)
                return
            accepted.setblocking(False)
            if len(self._open) >= self._connections_max:
                self._refusing.refuse(accepted, told=self._tls is None)
                continue
            task = loop.create_task(self._serve(accepted))
            self._open[task] = None
            task.add_done_callback(self._open.pop)

    async def _serve(self, accepted: socket.socket) -> None:
        """Serve one connection to its end."""
        loop = asyncio.get_running_loop()
        reader = StreamReader(loop=loop)
        protocol = StreamReaderProtocol(reader, loop=loop)
        try:
            # Of a TLS connection uvloop gives its own protocol back, not ours.
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._config.ssl_handshake_timeout if self._tls else None,
                ssl_shutdown_timeout=CUT_S_MAX if self._tls else None,
            )
        except OSError:  # a handshake that failed, or took too long
            return
        connection = Connection(
            self._app,
            loop,
            self._config,
            self._context,
            ConnectionState({}),
            reader,
            StreamWriter(transport, protocol, reader, loop),
        )
        connection.lifecycle = self._lifecycle
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine is driven by a task here
        self._open[task] = connection
        try:
            await connection
        except Exception as error:
            # The codecs stumble over some of what a client may send; the client is at fault.
            _log.info("connection failed", error=_innermost(error))
        finally:
            self._open[task] = None  # until the loop has taken note that this is over
            connection.let_go()


def _hypercorn(settings: Server) -> Hypercorn:
    config = Hypercorn()
    config.keep_alive_timeout = settings.header_timeout_s
    config.ssl_handshake_timeout = max(settings.header_timeout_s, SWEEP_S)
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.h2_max_header_list_size = HEAD_BYTES_MAX
    # Past its default of 1,000 requests Hypercorn says goodbye on HTTP/2 before it has answered.
    config.keep_alive_max_requests = 2**62
    # Parts of a body, 64 KiB at most, that wait for an app which does not look at it.
    config.max_app_queue_size = BODY_PARTS_MAX
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


async def _all_done(tasks: Iterable[asyncio.Task[None]], within_s: float) -> None:
    if waiting := list(tasks):
        await asyncio.wait(waiting, timeout=within_s)


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
