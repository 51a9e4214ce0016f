"""One request that Granian has read the head of, as an ASGI app is to see it.

Decided here: that a body is whole when as much of it is there as its head announced, so that nobody
waits to be told; that the first part of it can be asked for before the app is; and that an answer
which breaks off cuts its connection, since Granian would end it as if it were whole. A body is in
chunks or as it is: Granian would take other codings for chunks of something. Not decided here: how
long anything may take. Source: RFC 9112 6.3 and 8, RELIABILITY 4 row 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.web.peers import Cutter

_UNKNOWN: Final = -1  # how many bytes are left of a body in chunks
_UNANSWERED, _BEGUN, _ANSWERED = range(3)

_log = structlog.get_logger("gateway.serving")


class GranianRequest:
    """A request and its answer. `awaits_body`: it has a body, and its client does not wait to be
    told that it is wanted.
    """

    __slots__ = (
        *("_app", "_asked", "_came", "_cutter", "_first", "_left_bytes", "_more"),
        *("_proto", "_scope", "_state", "_watcher", "awaits_body"),
    )

    def __init__(self, app: ASGIApp, watcher: Any, cutter: Cutter) -> None:
        self._app, self._watcher, self._cutter = app, watcher, cutter
        self._scope, self._proto = watcher.scope, watcher.proto
        self._state = _UNANSWERED
        self._more = True  # of the body, its end included, is to be received by the app
        self._asked: Any = None  # for the first part, which has not come
        self._first: Message | None = None
        self._came: asyncio.Future[None] | None = None
        found: dict[bytes, bytes] = dict(self._scope["headers"])
        if b"transfer-encoding" in found:
            self._left_bytes = _UNKNOWN
            if not _is_chunked(self._scope["headers"]):
                self._app = _refuse
        else:
            self._left_bytes = int(found.get(b"content-length", 0))
        self.awaits_body = self._left_bytes != 0 and b"expect" not in found

    def ask_first_part(self) -> Any:
        """Ask for the first part of the body; gives the future that is handed to `hear` then."""
        self._asked = self._proto.receive()
        return self._asked

    def hear(self, first: Any) -> None:
        """Take the first part of the body, which has come."""
        self._asked = None  # it holds us, and Granian's own objects are in no collector's sight
        try:
            self._first = first.result()
        except asyncio.CancelledError:  # nobody wanted it any more
            return
        if self._came is not None and not self._came.done():
            self._came.set_result(None)

    async def serve(self) -> None:
        """Have the app answer it."""
        try:
            await self._app(self._scope, self.receive, self.send)
        except Exception:
            _log.exception("unexpected", kind="app")
        finally:
            if self._asked is not None:
                self._asked.cancel()  # or Granian would read on, for a body that may never come
                self._asked = None
            if self._state == _BEGUN:
                host, port = self._scope["client"]
                await self._cutter.cut((host, int(port)))
            elif self._state == _UNANSWERED:
                self._watcher.done()
            # Whoever holds us is not to hold what there is of a body, and with it the connection.
            self._proto = self._watcher = None

    async def receive(self) -> Message:
        """Receive the next part of the body; once that was whole, that the client left."""
        message: Message
        if not self._more:
            while (message := await self._proto.receive())["type"] == "http.request":
                pass  # the end of the body, which is known already
            return message
        if self._left_bytes == 0:
            self._more = False
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._asked is not None or self._first is not None:
            message = await self._first_part()
        else:
            message = await self._proto.receive()
        if message["type"] != "http.request":
            self._more = False
            return message
        if self._left_bytes != _UNKNOWN:
            self._left_bytes -= len(message["body"])
            message["more_body"] = self._left_bytes > 0
        self._more = message["more_body"]
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a part of the answer; done when Granian has a place for the next one."""
        if message["type"] == "http.response.body":
            self._state = _BEGUN if message.get("more_body", False) else _ANSWERED
        sent: Awaitable[None] = self._proto.send(message)
        return sent

    async def _first_part(self) -> Message:
        if self._first is None:
            self._came = asyncio.get_running_loop().create_future()
            try:
                await self._came
            finally:
                self._came = None
        first, self._first = self._first, None
        assert first is not None  # noqa: S101 - it has come
        return first


def _is_chunked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether chunks are all that is done to a body."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    return len(codings) == 1 and codings[0].strip().lower() == b"chunked"


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as Granian answers what it refuses by itself."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
