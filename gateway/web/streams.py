"""Answers in pieces: made while they are taken, and only as long as somebody takes them.

Decided here: how large a piece is and how long its client may take for it, that the first one is
made before there is a status, and that all work ends when the client leaves: whatever was begun for
it is closed in order, and gives back what it holds. Not decided here: what is streamed. Written
against plain ASGI. Source: INTERFACE 4, RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PIECE_BYTES: Final = 65_536  # of a streamed answer, but for its last piece
TAKE_S_MAX: Final = 30.0  # for a client to take one piece


class NotTaken(Exception):
    """The client is there and does not take its answer."""


class Pieces:
    """A body that is streamed, and closed by whoever streams it."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._first: bytes | None = first
        self._rest = rest

    @classmethod
    async def begun(cls, texts: AsyncGenerator[bytes, None]) -> Self:
        """Make the first piece, so that what fails at the start is an error and no broken answer.

        Raises what `texts` raises; it is closed then.
        """
        joined = _joined(texts)
        return cls(await anext(joined), joined)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first

    async def aclose(self) -> None:
        """End what makes the pieces; it lets go of all that it holds."""
        await self._rest.aclose()


async def send_pieces(pieces: Pieces, send: Send) -> None:
    """Send the pieces of a body, and its end. Raises NotTaken, and what fails while making them."""
    async for piece in pieces:
        await _send_in_time(send, {"type": "http.response.body", "body": piece, "more_body": True})
        # To a connection that is gone all is sent at once; nobody would ever hear of it.
        await asyncio.sleep(0)
    await _send_in_time(send, {"type": "http.response.body", "body": b""})


async def while_wanted(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an app until it is done or its client has left; then it is cancelled.

    The app reads no body: what comes of one is thrown away here.
    """

    async def send_whole(message: Message) -> None:
        if message["type"] == "http.response.start":
            # Cut off inside, the head of an HTTP/2 answer could be lost after it was encoded; then
            # no other answer on its connection could be decoded any more.
            await asyncio.shield(send(message))
        else:
            await send(message)

    work = asyncio.ensure_future(app(scope, receive, send_whole))
    watch = asyncio.ensure_future(_until_left(receive))
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        watch.cancel()
        await asyncio.wait((work, watch))
    if not work.cancelled():
        work.result()


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] == "http.request":
        pass


async def _send_in_time(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(TAKE_S_MAX):
            await send(message)
    except TimeoutError:
        raise NotTaken from None


async def _joined(texts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Join texts to pieces of PIECE_BYTES; there is at least one."""
    waiting: list[bytes] = []
    size = 0
    async with aclosing(texts):
        async for text in texts:
            waiting.append(text)
            size += len(text)
            if size >= PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    yield b"".join(waiting)
