"""A streamed answer that breaks off is never taken for a whole one, and nobody works for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope
from structlog.testing import capture_logs

from gateway.core.errors import Unavailable
from gateway.web import streams
from gateway.web.endpoints import JSON, Answered, Endpoint, StreamedEndpoint
from gateway.web.streams import PIECE_BYTES, Pieces
from tests.web.doors import eventually

Texts = AsyncGenerator[bytes, None]
LARGE = b"x" * PIECE_BYTES


async def _whole() -> Texts:
    yield LARGE
    yield b"1"
    yield b"2"


async def _failing(error: Exception) -> Texts:
    yield LARGE
    raise error


def answering(texts: Callable[[], Texts], kind: type[Endpoint] = Endpoint) -> Endpoint:
    async def answer(scope: Scope, receive: Receive, request_id: str) -> Answered:
        return 200, [JSON], await Pieces.begun(texts())

    return kind("test", answer)


def sent_of(texts: Callable[[], Texts]) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("a report has no body")

    asyncio.run(answering(texts)({"type": "http"}, receive, send))
    return messages


class Client:
    """A client that leaves when it is told to, and may not take what it is sent."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.takes = asyncio.Event()
        self.sent: list[str] = []
        self.cut = 0  # sends that were cancelled

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        try:
            await self.takes.wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        self.sent.append(message["type"])


class Work:
    """Texts that wait in the middle, and note that they were closed.

    They are kept, so that it was no garbage collector that closed them.
    """

    def __init__(self, texts: int = 0) -> None:
        self.texts, self.begun, self.closed = texts, asyncio.Event(), asyncio.Event()
        self.made: list[Texts] = []

    def __call__(self) -> Texts:
        self.made.append(self._made())
        return self.made[-1]

    async def _made(self) -> Texts:
        try:
            self.begun.set()
            for _ in range(self.texts):
                yield LARGE
            await asyncio.Event().wait()
        finally:
            self.closed.set()


def test_texts_are_sent_in_pieces_and_an_end_after_them() -> None:
    start, *bodies = sent_of(_whole)
    assert dict(start["headers"]).keys() == {b"content-type", b"gateway-request-id"}
    assert [(each["body"], each.get("more_body", False)) for each in bodies] == [
        (LARGE, True),
        (b"12", True),
        (b"", False),
    ]


def test_what_fails_in_the_middle_has_no_end_and_is_told_of_once() -> None:
    """The server then breaks off: the application is done, and its answer is not."""
    with capture_logs() as logs:
        away = Unavailable("The store went away", "not_applied")
        messages = sent_of(lambda: _failing(away))
    assert [each["type"] for each in messages] == ["http.response.start", "http.response.body"]
    assert all(each.get("more_body", False) for each in messages[1:])
    (told,) = logs
    assert (told["event"], told["reason"]) == ("broken_off", "The store went away")
    assert "exc_info" not in told
    with capture_logs() as logs:
        messages = sent_of(lambda: _failing(ValueError("a bug")))
    assert all(each.get("more_body", False) for each in messages[1:])
    assert [(each["event"], each["exc_info"]) for each in logs] == [("broken_off", True)]


def test_what_fails_at_the_start_is_an_error_of_its_own() -> None:
    async def failing() -> Texts:
        raise Unavailable("The store went away", "not_applied")
        yield b""

    start, body = sent_of(failing)
    assert (start["status"], body.get("more_body", False)) == (503, False)


@pytest.mark.parametrize("texts", [0, 1, 9], ids=["at the first piece", "later", "while sending"])
def test_work_ends_at_once_when_its_client_leaves(texts: int) -> None:
    async def story() -> None:
        work, client = Work(texts), Client()
        if texts < 9:
            client.takes.set()
        app = answering(work, StreamedEndpoint)
        serving = asyncio.ensure_future(app({"type": "http"}, client.receive, client.send))
        await work.begun.wait()
        for _ in range(9):  # as far as it gets
            await asyncio.sleep(0)
        assert not work.closed.is_set()
        client.leaves.set()
        await asyncio.wait_for(serving, 20)
        assert work.closed.is_set()
        client.takes.set()
        await asyncio.sleep(0)
        # The head of an answer goes whole or not at all: others on its connection depend on it.
        assert client.cut == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_pieces_that_are_closed_close_what_they_are_made_of() -> None:
    """Begun or not: also when no piece of them was taken."""

    async def story() -> None:
        for taken in (0, 1):
            work = Work(3)
            pieces = await Pieces.begun(work())
            for _ in range(taken):
                await anext(pieces)
            await pieces.aclose()
            assert work.closed.is_set()

    asyncio.run(story())


def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TAKE_S_MAX", 0.02)

    async def story() -> None:
        work, client = Work(9), Client()
        client.takes.set()
        real = client.send

        async def stalling(message: Message) -> None:
            if message["type"] == "http.response.body":
                client.takes.clear()
            await real(message)

        with capture_logs() as logs:
            app = answering(work, StreamedEndpoint)
            await asyncio.wait_for(app({"type": "http"}, client.receive, stalling), 20)
        assert [each["event"] for each in logs] == ["not_taken"]
        assert (client.sent, client.cut) == (["http.response.start"], 1)
        assert work.closed.is_set()

    asyncio.run(story())


def test_a_server_that_ends_a_request_ends_its_work() -> None:
    async def story() -> None:
        work, client = Work(), Client()
        app = answering(work, StreamedEndpoint)
        serving = asyncio.ensure_future(app({"type": "http"}, client.receive, client.send))
        await work.begun.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert work.closed.is_set()

        async def alone() -> bool:
            return asyncio.all_tasks() == {asyncio.current_task()}

        await eventually(alone)

    asyncio.run(story())
