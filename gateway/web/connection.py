"""One connection: what is read from it goes to the codec, what the codec says goes out.

Decided here: when a connection has been silent for too long, which the sweep asks: Hypercorn's own
timer is a task for each request, a tenth of the price of an empty one. Also how a connection is
left, told goodbye and cut off. Not decided here: when that is done (connections.py), and what is
spoken (codecs.py). Source: RELIABILITY 3 (6) and 4 row 16.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from gateway.web.codecs import Codecs
from gateway.web.http1 import Http1
from gateway.web.lifecycle import Lifecycle
from gateway.web.resets import reset_broken_off

REQUEST_S_MAX: Final = 60.0  # the slowest one may be: a client that takes its answer drop by drop
READ_BYTES_MAX: Final = 8 * 1024  # at one go; of HTTP/2 it may be hundreds of frames


class _Untimed(AsyncioSingleTask):
    """Stands where Hypercorn has a timer of each connection's next request."""

    async def restart(self, *_: Any) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


class Connection(TCPServer):
    """One connection, which tells whether its client is too slow."""

    lifecycle: Lifecycle
    is_cut = False
    _seen: tuple[int, int | None] | None = None
    _seen_at_s: float = 0.0
    _since_s: float = 0.0  # when a request began or ended last, or the connection

    async def run(self) -> None:
        """Speak with the client until either leaves. As Hypercorn does, but by our codecs."""
        self.idle_task = _Untimed()
        self._since_s = self.loop.time()
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
                await self._read_data()
        except OSError:  # it is gone
            pass
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Send what the codec says; who takes it slowly is waited for."""
        if isinstance(event, RawData):
            if event.data:
                try:
                    self.writer.write(event.data)
                    await self.writer.drain()
                except (OSError, RuntimeError):  # its client left
                    await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._since_s = self.loop.time()
            if isinstance(self._spoken, H2Protocol):
                reset = await reset_broken_off(self._spoken)
                if reset:
                    await self.protocol_send(RawData(reset))
            if self.lifecycle.draining and event.idle:
                self.say_goodbye()
        else:
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        """Read until the client is gone, and end what would wait for it all the same: answers of
        HTTP/2 that it has not let us send.
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
        protocol = self._spoken
        if isinstance(protocol, H2Protocol):
            for buffer in list(protocol.stream_buffers.values()):
                await buffer.close()

    async def _close(self) -> None:
        with suppress(TimeoutError):  # a TLS client that does not say goodbye
            await super()._close()

    def overdue(self, now_s: float) -> bool:
        """Say whether its oldest request, or none, is under way for longer than a client may take.
        Asked now and then; what was seen when it was asked last is remembered.
        """
        protocol = self._spoken
        oldest: int | None = None
        if isinstance(protocol, H2Protocol):
            oldest = next(iter(protocol.streams), None)
        elif protocol is not None and protocol.answering:
            oldest = 0
        # Not by what begins beside it: with one new request after the other any number of answers
        # could be left untaken, each in the place of somebody else's.
        begun = protocol.keep_alive_requests if protocol and not oldest else 0
        if (begun, oldest) != self._seen:
            # From when nothing was under way is known to the moment; else from now on.
            since_s = self._since_s if oldest is None else now_s
            self._seen, self._seen_at_s = (begun, oldest), since_s
        bound_s = self.config.keep_alive_timeout if oldest is None else REQUEST_S_MAX
        return now_s - self._seen_at_s > bound_s

    def leave(self) -> None:
        """End it, if nothing is under way on it; a head that was begun is nothing yet."""
        protocol = self._spoken
        if isinstance(protocol, H2Protocol):
            self.say_goodbye()
        elif protocol is None or not protocol.answering:
            self.writer.close()

    def end(self) -> None:
        """End it whatever is under way: as `leave` does, or where that does not help, by a cut."""
        if not self.writer.is_closing():
            self.leave()
            if self.writer.is_closing():
                return
        self.cut()

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
    def _spoken(self) -> Http1 | H2Protocol | None:
        # Its peer may be gone before any protocol is chosen.
        wrapper = getattr(self, "protocol", None)
        return None if wrapper is None else wrapper.protocol
