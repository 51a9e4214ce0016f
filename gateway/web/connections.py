"""The connections of this process: let in, watched, told goodbye, cut off.

Decided here: how many there are, those whose TLS handshake is under way included; what one hears
that is one too many; how long one may be silent; that an HTTP/2 connection is told goodbye once we
drain and nothing is under way on it. Hypercorn's own loop is not used: a half-sent body hangs its
shutdown, and a cleartext HTTP/2 preface followed by silence stays open for ever. Not decided here:
when that is (serving.py). Source: INTERFACE 2, RELIABILITY 3 (6) and 4 row 16.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from asyncio import StreamReader, StreamReaderProtocol, StreamWriter
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import structlog
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config as Hypercorn
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr, wrap_app
from starlette.types import ASGIApp

from gateway.settings import Server
from gateway.web.codecs import Codecs
from gateway.web.lifecycle import Lifecycle
from gateway.web.refusing import Refusing
from gateway.web.resets import reset_broken_off
from gateway.web.stopping import FINISH_S_MAX

HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers; a capability token is among them
REQUEST_S_MAX: Final = 60.0  # the slowest one may be: a client that takes its answer drop by drop
ACCEPTS_MAX: Final = 64  # connections taken at one go, before others have their turn
ACCEPT_PAUSE_S: Final = 0.5  # when the system has no descriptor for one more
READ_BYTES_MAX: Final = 8 * 1024  # at one go; of HTTP/2 it may be hundreds of frames
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
        self._open: dict[asyncio.Task[None], _Connection | None] = {}  # None: not established yet
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
                    connection.cut()
                elif self._lifecycle.draining:
                    connection.say_goodbye()

    async def finish(self) -> None:
        """Let requests in flight end, idle connections at once; cut off what is left."""
        self._refusing.end()
        for task, connection in list(self._open.items()):
            if connection is None:
                task.cancel()
            else:
                connection.say_goodbye()
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
        connection = _Connection(
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
            connection.let_go()


class _Connection(TCPServer):
    """One connection, which tells whether its client is too slow."""

    lifecycle: Lifecycle
    is_cut = False
    _has_left = False
    _seen: tuple[int, int | None] | None = None
    _seen_at_s: float = 0.0
    _head: bytes = b""

    async def run(self) -> None:
        """Speak with the client until either leaves. As Hypercorn does, but by our codecs."""
        peer = self.writer.get_extra_info("socket")
        tls = self.writer.get_extra_info("ssl_object")
        try:
            async with TaskGroup(self.loop) as task_group:
                self._task_group = task_group
                self.protocol = Codecs(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state),
                    tls is not None,
                    parse_socket_addr(peer.family, peer.getpeername()),
                    parse_socket_addr(peer.family, peer.getsockname()),
                    self.protocol_send,
                    tls.selected_alpn_protocol() if tls else None,
                )
                await self.protocol.initiate()
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
        except OSError:  # it is gone
            pass
        finally:
            await self._close()

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
        elif isinstance(event, Updated) and isinstance(self._spoken, H2Protocol):
            reset = await reset_broken_off(self._spoken)
            if reset:
                await super().protocol_send(RawData(reset))
        if self._has_left and isinstance(event, Updated):
            return  # no next request to wait for
        await super().protocol_send(event)
        if self.lifecycle.draining and isinstance(event, Updated) and event.idle:
            self.say_goodbye()

    async def _read_data(self) -> None:
        """Read until the client is gone, and end what would wait for it all the same: Hypercorn's
        timer of its next request, and answers of HTTP/2 that it has not let us send.
        """
        while not self.reader.at_eof():
            try:
                data = await self.reader.read(READ_BYTES_MAX)
            except OSError:
                break
            await self.protocol.handle(RawData(data))
            if isinstance(self._spoken, H2Protocol):
                await asyncio.sleep(0)  # what has come is read without waiting: others first
        await self.protocol.handle(Closed())
        self._has_left = True
        await self.idle_task.stop()
        protocol = self._spoken
        if isinstance(protocol, H2Protocol):
            for buffer in list(protocol.stream_buffers.values()):
                await buffer.close()

    async def _close(self) -> None:
        with suppress(TimeoutError):  # a TLS client that does not say goodbye
            await super()._close()

    def overdue(self, now_s: float) -> bool:
        """Say whether its oldest request, or none, is under way for longer than a client may take.

        Hypercorn's own timer covers what this covers, but for HTTP/2 before its first request and
        for answers that nobody takes.
        """
        protocol = self._spoken
        oldest: int | None = None
        if isinstance(protocol, H2Protocol):
            oldest = next(iter(protocol.streams), None)
        elif protocol is not None and protocol.stream is not None:
            oldest = 0
        # Not by what begins beside it: with one new request after the other any number of answers
        # could be left untaken, each in the place of somebody else's.
        begun = protocol.keep_alive_requests if protocol and not oldest else 0
        if (begun, oldest) != self._seen:
            self._seen, self._seen_at_s = (begun, oldest), now_s
        bound_s = self.config.keep_alive_timeout if oldest is None else REQUEST_S_MAX
        return now_s - self._seen_at_s > bound_s

    def say_goodbye(self) -> None:
        """End an HTTP/2 connection on which nothing is under way; leave any other as it is.

        The last request that we took is named (GOAWAY): what came after it was not looked at, and
        its client may send it elsewhere. HTTP/1 has `Connection: close` in answers instead.
        """
        protocol = self._spoken
        if not isinstance(protocol, H2Protocol) or protocol.streams or protocol.stream_buffers:
            return
        if not self.writer.is_closing():
            protocol.connection.close_connection()
            # Nobody waits until it is taken: a client that takes nothing must not hold up others.
            self.writer.write(protocol.connection.data_to_send())
            self.writer.close()

    def cut(self) -> None:
        """Drop it, unsent bytes included; to the app it is a client that went away."""
        self.is_cut = True
        self.writer.transport.abort()

    def let_go(self) -> None:
        """Forget everything, when it is over. It and its codec hold each other, and the collector
        comes so seldom (cli/worker.py) that by then they would have filled the memory."""
        spoken = self._spoken
        held = (spoken.connection, spoken, self.protocol) if spoken is not None else ()
        for each in (*held, self):
            vars(each).clear()

    @property
    def _spoken(self) -> H11Protocol | H2Protocol | None:
        # Its peer may be gone before any protocol is chosen.
        wrapper = getattr(self, "protocol", None)
        return None if wrapper is None else wrapper.protocol


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
