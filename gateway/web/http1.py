"""HTTP/1 as Hypercorn speaks it, with the shortest way between h11 and the application.

Decided here: that a request with two lengths is refused, since who stands before us may have read
the other one; that nobody changes to another protocol within HTTP/1 (`Upgrade`), since a proxy that
lets it pass would pass on what follows unread, `X-Forwarded-For` included; that a body which is
here whole is handed over whole, and that an answer leaves with its head, in one piece where it is
one: each part would be a turn of the event loop, or a system call and a packet. h11 reads, and
judges what is sent. Not decided here: how long one may be silent (connection.py).
Source: RFC 9112 6.1, RFC 9110 7.8.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import h11
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from starlette.types import Message, Scope

HEADER_NAMES_MAX: Final = 256  # of answers, that are remembered as good

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\n"
_ASGI: Final = {"spec_version": "2.1", "version": "3.0"}
_GONE: Final = {"type": "http.disconnect"}
_BODILESS: Final = frozenset((204, 304))
_BROKEN: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # not in a header's value
_Headers: Final = type(h11.Response(status_code=200, headers=[]).headers)


class Http1(H11Protocol):
    """HTTP/1 in which one length is said, or none."""

    stream: Any  # a Stream
    answering = False  # also a client that has said all, and is heard no more

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection: Any = _Parser(
            h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
        )

    async def recycle(self) -> None:
        """Make ready for the next request, or close where none can follow."""
        self.stream, self.answering = None, False
        connection = self.connection
        done = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        if done and not self.context.terminated.is_set():
            connection.start_next_cycle()
            await self.can_read.set()
            await self.send(Updated(idle=True))
        else:
            await self.can_read.set()
            await self.send(Closed())

    def written(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> bytes:
        """Write a part of an answer; nothing where the request itself was none. Raises
        LocalProtocolError for what must not be said now.
        """
        try:
            text: bytes = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return b""
        return text

    def refusal(self, status: int) -> bytes:
        """Write a whole answer that says nothing but its status, the last one of a connection."""
        headers = _headers([(b"content-length", b"0"), (b"connection", b"close")])
        head = self.written(h11.Response(status_code=status, headers=headers))
        return head + self.written(h11.EndOfMessage())

    async def _create_stream(self, request: h11.Request) -> None:
        length: int | None = None
        chunked = False
        for name, value in request.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = True
        if chunked and length is not None:
            await self._send_error_response(400)
            await self.send(Closed())
            return
        stream = self.stream = Stream(self, request, None if chunked else length or 0)
        self.answering = True
        self.keep_alive_requests += 1
        self.task_group.spawn(stream.run)

    async def _send_error_response(self, status_code: int) -> None:
        # h11 would say 501 to a transfer coding that it does not know: it is the client's all the
        # same, and a 5xx is what balancers count against us.
        await self.send(RawData(self.refusal(status_code if status_code < 500 else 400)))

    async def _check_protocol(self, event: h11.Request) -> None:
        if (event.method, event.target, event.http_version) == (b"PRI", b"*", b"2.0"):
            raise H2ProtocolAssumedError(_PREFACE + self.connection.trailing_data[0])


class Stream:
    """One request and its answer: what h11 read goes to the application, what that says to h11.

    `length`: of the body, in bytes; None where its end will be told. As many parts of a body wait
    here as the server's settings say, then its client does.
    """

    __slots__ = (
        "_bodiless",
        "_came",
        "_codec",
        "_coming",
        "_ended",
        "_gone",
        "_head",
        "_left",
        "_room",
        "_started",
        "_whole",
        "scope",
    )

    def __init__(self, codec: Http1, request: h11.Request, length: int | None) -> None:
        self._codec, self._left = codec, length
        self._coming: deque[Message] = deque()
        self._came: asyncio.Future[None] | None = None  # the application waits for a part
        self._room: asyncio.Future[None] | None = None  # a part waits for room
        self._whole = False  # the end of the body is here
        self._gone = False  # nothing more will come
        self._started = self._ended = False  # the answer
        self._head = b""  # of the answer; it leaves with what follows it
        self._bodiless = request.method == b"HEAD"
        path, _, query = request.target.partition(b"?")
        text = path.decode("ascii")
        self.scope: Scope = {
            "type": "http",
            "http_version": request.http_version.decode("ascii"),
            "asgi": _ASGI,
            "method": request.method.decode("ascii").upper(),
            "scheme": "https" if codec.ssl else "http",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": codec.config.root_path,
            "headers": list(request.headers),
            "client": codec.client,
            "server": codec.server,
            "state": codec.connection_state.copy(),
            "extensions": {},
        }

    async def run(self) -> None:
        """Have the application answer; an answer that it does not end is broken off."""
        codec = self._codec
        try:
            await codec.app(self.scope, self.receive, self.send, _unused, _unused)  # type: ignore[arg-type]
        except Exception:
            await codec.config.log.exception("Error in ASGI Framework")
        finally:
            if not self._ended:
                data = self._head if self._started else codec.refusal(500)
                self._end()
                if data:
                    await codec.send(RawData(data))
                await codec.recycle()

    async def handle(self, event: StreamEvent) -> None:
        """Take what was read, or that nothing more will be."""
        if isinstance(event, Body):
            data = bytes(event.data)
            if self._left is not None:
                self._left -= len(data)
                self._whole = not self._left
            await self._put({"type": "http.request", "body": data, "more_body": not self._whole})
        elif isinstance(event, EndBody):
            if not self._whole:
                self._whole = True
                await self._put({"type": "http.request", "body": b"", "more_body": False})
        elif isinstance(event, StreamClosed):
            self._gone = True
            _wake(self._came)

    async def receive(self) -> Message:
        """Give the next part of the request, or tell that its client has left."""
        while not self._coming:
            if self._gone:
                return _GONE
            self._came = asyncio.get_running_loop().create_future()
            await self._came
        _wake(self._room)
        return self._coming.popleft()

    async def send(self, message: Message) -> None:
        """Send a part of the answer. Raises RuntimeError for one out of order, and
        LocalProtocolError for one that is not HTTP.
        """
        kind = message["type"]
        codec = self._codec
        if kind == "http.response.start" and not self._started:
            status = message["status"]
            headers = _headers(message.get("headers", ()))
            self._head = codec.written(h11.Response(status_code=status, headers=headers))
            self._bodiless = self._bodiless or status in _BODILESS
            self._started = True
            return
        if kind != "http.response.body" or not self._started or self._ended:
            raise RuntimeError(f"An answer does not go on with {kind}")
        data, self._head = self._head, b""
        body = message.get("body", b"")
        if body and not self._bodiless:
            data += codec.written(h11.Data(data=body))
        more = message.get("more_body", False)
        if not more:
            data += codec.written(h11.EndOfMessage())
        if data:
            await codec.send(RawData(data))
        if not more:
            self._end()
            await codec.recycle()

    async def _put(self, message: Message) -> None:
        self._coming.append(message)
        _wake(self._came)
        parts_max = self._codec.config.max_app_queue_size
        while len(self._coming) >= parts_max and not (self._whole or self._ended):
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _end(self) -> None:
        self._ended = self._gone = True
        _wake(self._came)
        _wake(self._room)


class _Parser(h11.Connection):
    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # h11's frames hold it, and it holds them, and us
            raise


def _headers(given: Iterable[tuple[bytes, bytes]]) -> Any:
    """Give the headers of an answer, and its date, as h11 keeps them. Raises LocalProtocolError.

    h11 looks at each with two expressions; of ours the names are always the same few.
    """
    items = []
    for name, value in given:
        raw, lower = _name(name)
        if _BROKEN.search(value) or (lower == b"content-length" and not value.isdigit()):
            raise h11.LocalProtocolError(f"Not a value of the header {lower!r}")
        items.append((raw, lower, value.strip()))
    items.append((b"date", b"date", _date(int(time.time()))))
    return _Headers(items)


@lru_cache(HEADER_NAMES_MAX)
def _name(name: bytes) -> tuple[bytes, bytes]:
    """Have h11 look at a header's name. How a body is framed is its own affair."""
    ((raw, _),) = h11.Response(status_code=200, headers=[(name, b"0")]).headers.raw_items()
    return raw, raw.lower()


@lru_cache(1)
def _date(now_s: int) -> bytes:
    return formatdate(now_s, usegmt=True).encode("ascii")


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _unused(*_: Any) -> None:
    """Stand where Hypercorn has what only WSGI applications need."""
