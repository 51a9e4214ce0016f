"""Reading a request's body within its bounds of size and time, and what of its headers matters.

Decided here: 413 as soon as too much is announced or has come, 408 when it does not come in time,
415 for an encoded body, 503 when what is under way of large bodies is too much together. Written
against plain ASGI, so that it is the same under every server. Not decided here: how many requests
there may be (shedding.py).
Source: SEMANTICS 2 and 10.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Message, Receive, Scope

from gateway.core.errors import RequestTimeout, TooLarge, Unavailable, UnsupportedMediaType

JSON = "application/json"
JOSE = "application/jose"
NDJSON = "application/x-ndjson"
OCTETS = "application/octet-stream"

SMALL_BYTES_MAX: Final = 64 * 2**10  # of a body that counts against nothing
LARGE_BYTES_MAX: Final = 64 * 2**20  # of large bodies under way in a process, beyond the small part
DRAIN_BYTES_MAX: Final = 16 * 2**20  # of a body that was refused, read so that its client hears why
DRAIN_S: Final = 1.0


class Crowded(Unavailable):
    """Too many requests are under way for this one."""

    def __init__(self) -> None:
        super().__init__("Too many requests are under way", "not_applied")


class ClientGone(Exception):
    """The client disconnected before its request was whole: nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request body."""

    body_bytes_max: int = 65_536
    body_timeout_s: float = 5.0


class Headers:
    """The request headers that requests look at; of a repeated one the last counts."""

    __slots__ = ("_found",)

    def __init__(self, scope: Scope) -> None:
        self._found: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def authorization(self) -> str | None:
        return self._text(b"authorization")

    @property
    def idempotency_key(self) -> str | None:
        return self._text(b"idempotency-key")

    @property
    def content_length(self) -> int:
        """The body's bytes as announced; 0 when nothing is."""
        value = self._found.get(b"content-length", b"")
        return int(value) if value.isdigit() else 0

    def is_jose(self, plain: str = JSON) -> bool:
        """Say whether the body is a JWS. Raises UnsupportedMediaType for anything but JOSE and the
        `plain` type.

        A client that names no type is taken to send the plain one: CMAPI knows JSON only.
        """
        media_type = self._media_type()
        if media_type == JOSE:
            return True
        if media_type in (plain, ""):
            return False
        raise UnsupportedMediaType(
            f"Content-Type must be {plain}, or {JOSE} for a signed payload", "content-type"
        )

    def require(self, media_type: str) -> None:
        """Raise UnsupportedMediaType for a body of any other type than this; none named is taken
        to be this one.
        """
        if self._media_type() not in (media_type, ""):
            raise UnsupportedMediaType(f"Content-Type must be {media_type}", "content-type")

    def _media_type(self) -> str:
        if b"content-encoding" in self._found:
            raise UnsupportedMediaType("Send the body without Content-Encoding", "content-encoding")
        return (self._text(b"content-type") or "").partition(";")[0].strip().lower()

    def _text(self, name: bytes) -> str | None:
        value = self._found.get(name)
        return None if value is None else value.decode("latin-1")


async def read_body(receive: Receive, announced_bytes: int, limits: Limits) -> bytes:
    """Read the whole body. Raises TooLarge, RequestTimeout or ClientGone."""
    if announced_bytes > limits.body_bytes_max:
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    waited: Waited | None = None
    try:
        while True:
            # Nearly every body is here before it is read. A timer for it would be a twentieth of
            # the price of an access request.
            receiving = receive().__await__()
            try:
                waits_for = next(receiving)
            except StopIteration as ended:
                message: Message = ended.value
            else:
                waited = waited or Waited(limits.body_timeout_s)
                message = await _go_on(receiving, waits_for)
            if message["type"] != "http.request":
                raise ClientGone
            part = message.get("body", b"")
            if part:
                parts.append(part)
                size += len(part)
                if size > limits.body_bytes_max:
                    raise _too_large(limits)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
    except asyncio.CancelledError:
        if waited is None or not waited.is_over():
            raise  # somebody else cancels, or somebody else as well
        raise RequestTimeout(
            f"The body was not complete after {limits.body_timeout_s:g} s"
        ) from None
    finally:
        if waited is not None:
            waited.end()


class Waited:
    """A bound on how long the task that made it waits; it is cancelled then.

    What asyncio.timeout does, at half its price.
    """

    __slots__ = ("_overdue", "_task", "_timer")

    def __init__(self, timeout_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine is driven by a task here
        self._task, self._overdue = task, False
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._give_up)

    def is_over(self) -> bool:
        """Say whether the task was cancelled by this and by nobody else; it goes on then."""
        return self._overdue and not self._task.uncancel()

    def end(self) -> None:
        """Wait no more."""
        self._timer.cancel()

    def _give_up(self) -> None:
        self._overdue = True
        self._task.cancel()


@types.coroutine
def _go_on(begun: Generator[Any, None, Message], waits_for: Any) -> Generator[Any, None, Message]:
    """Await something that was begun by hand and waits for a future."""
    # An error is kept in no variable: it would hold this frame, and this frame would hold it.
    while True:
        try:
            try:
                yield waits_for
            except BaseException as error:
                waits_for = begun.throw(error)
            else:
                waits_for = next(begun)
        except StopIteration as ended:
            message: Message = ended.value
            return message


class LargeBodies:
    """Reads the bodies of a route that may be large, within a bound on what is under way of all.

    Whoever sends may be anybody: a credential is judged only when its body is whole. The first
    SMALL_BYTES_MAX of each body are free, as they are everywhere.
    """

    __slots__ = ("left",)

    def __init__(self, bytes_max: int = LARGE_BYTES_MAX) -> None:
        self.left = bytes_max

    async def read(self, receive: Receive, announced_bytes: int, limits: Limits) -> bytes:
        """Read the whole body. Raises what `read_body` raises; Unavailable when there is no place
        for the next part: a retry helps when others are done.
        """
        size = held = 0

        async def counted() -> Message:
            nonlocal size, held
            message = await receive()
            size += len(message.get("body", b""))
            more = max(0, size - SMALL_BYTES_MAX) - held
            if more > self.left:
                raise _NoPlace(message.get("more_body", False))
            self.left -= more
            held += more
            return message

        try:
            return await read_body(counted, announced_bytes, limits)
        except _NoPlace as refused:
            unread = refused.unread
        finally:
            self.left += held
        # What had come is gone by now. The rest is let in first, or the answer would not be heard.
        if unread:
            await drain(receive)
        raise Unavailable("Too many large bodies are being sent", "not_applied")


class _NoPlace(Exception):
    """There is no place for a part of a body; `unread` when more of it is to come."""

    def __init__(self, unread: bool) -> None:
        super().__init__()
        self.unread = unread


async def drain(receive: Receive) -> None:
    """Let the rest of a refused body come in, bounded in bytes and time.

    A connection that is closed while its client still sends is reset, and the reset overtakes the
    answer that is on its way.
    """
    size = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            while size <= DRAIN_BYTES_MAX:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The body may have {limits.body_bytes_max} bytes", str(limits.body_bytes_max))
