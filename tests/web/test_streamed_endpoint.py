"""A streamed answer that breaks off is never taken for a whole one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Message, Receive, Scope

from gateway.core.errors import Unavailable
from gateway.web.endpoints import JSON, Answered, Endpoint


async def _pieces(fail: bool) -> AsyncIterator[bytes]:
    yield b"[1,"
    if fail:
        raise Unavailable("The store went away", "not_applied")
    yield b"2]"


def _sent(fail: bool) -> tuple[list[Message], Exception | None]:
    async def answer(scope: Scope, receive: Receive, request_id: str) -> Answered:
        return 200, [JSON], _pieces(fail)

    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("a report has no body")

    try:
        asyncio.run(Endpoint("test", answer)({"type": "http"}, receive, send))
    except Unavailable as error:
        return messages, error
    return messages, None


def test_pieces_are_sent_as_they_come_and_an_end_after_them() -> None:
    (start, *bodies), error = _sent(fail=False)
    assert error is None
    assert dict(start["headers"]).keys() == {b"content-type", b"gateway-request-id"}
    assert [(each["body"], each.get("more_body", False)) for each in bodies] == [
        (b"[1,", True),
        (b"2]", True),
        (b"", False),
    ]


def test_what_fails_in_the_middle_has_no_end() -> None:
    """The server then closes the connection, since the application never finished."""
    messages, error = _sent(fail=True)
    assert isinstance(error, Unavailable)
    assert all(each.get("more_body", True) for each in messages[1:])
