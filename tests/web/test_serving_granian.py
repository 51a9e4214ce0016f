"""What is ours where Granian takes the connections: bodies, answers that break off, an end in time.

What both servers do alike is tested under both, where it is tested. Source: INTERFACE 1 and 2,
RELIABILITY 3 (6), 4 row 16.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send

from gateway.web import serving_granian
from gateway.web.bodies import Headers, Limits, read_body
from gateway.web.endpoints import JSON, Answered, Endpoint
from gateway.web.granian_requests import GranianRequest
from tests.served_by import under
from tests.web.doors import eventually
from tests.web.places import ASK, LAST, Slow, answers, at, eventually_a_place, eventually_begun
from tests.web.servers import Standing, run, standing

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("served_by")]
under_granian = under("granian")

POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
LARGE_BYTES = 2**26  # more than systems keep for who does not take it
Story = Callable[[Standing], Awaitable[None]]


def serving(app: Callable[[Scope, Receive, Send], Awaitable[None]], story: Story) -> None:
    async def told() -> None:
        async with asyncio.timeout(60), standing(app, LIMITS__CONNECTIONS="3") as server:
            await story(server)

    run(told())


class Echo:
    """An app that answers with the body it read, in parentheses."""

    def __init__(self, body_timeout_s: float = 50.0) -> None:
        self.begun = 0
        self._limits = Limits(2**20, body_timeout_s)
        self._endpoint = Endpoint("echo", self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        self.begun += 1
        body = await read_body(receive, Headers(scope).content_length, self._limits)
        return 200, [JSON], b"(" + body + b")"


# Bodies -------------------------------------------------------------------------------------------


@under_granian
def test_a_body_is_whole_however_it_comes() -> None:
    body = bytes(b"abcdefgh"[at % 8] for at in range(60_000))
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    ways = (
        (b"Content-Length: %d\r\n\r\n" % len(body), (body,)),
        (b"Content-Length: %d\r\n\r\n" % len(body), (body[:1], body[1:half], body[half:])),
        (b"Transfer-Encoding: chunked\r\n\r\n", (chunks, b"0\r\n\r\n")),
        (b"Transfer-Encoding: Chunked\r\n\r\n", (chunks[:70], chunks[70:] + b"0\r\n\r\n")),
        (b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body), (body,)),
    )

    async def story(server: Standing) -> None:
        for head, parts in ways:
            reader, writer = await server.connect()
            for part in (POST + head, *parts):
                writer.write(part)
                await writer.drain()
            *_, length = (await reader.readuntil(b"\r\n\r\n(")).split(b"\r\ncontent-length: ")
            assert int(length.split()[0]) == len(body) + 2
            assert await reader.readexactly(len(body) + 1) == body + b")"
            writer.write(POST + b"Content-Length: 0\r\n\r\n")  # and the next request is the next
            assert (await reader.readuntil(b")")).endswith(b"()")
            writer.close()

    serving(Echo(), story)


@under_granian
def test_who_asks_whether_to_send_is_not_told_to_before_the_app_wants_it() -> None:
    async def story(server: Standing) -> None:
        reader, writer = await server.connect()
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
        writer.close()

    serving(Echo(), story)


@under_granian
@pytest.mark.parametrize("begun", [b"", b"abc"])
def test_a_body_that_does_not_come_is_a_408_and_ends_its_connection(begun: bytes) -> None:
    """Granian itself would wait for it for ever."""

    async def story(server: Standing) -> None:
        for length in (b"Content-Length: 9", b"Transfer-Encoding: chunked"):
            reader, writer = await server.connect()
            chunk = b"%x\r\n%s\r\n" % (len(begun), begun) if b"chunked" in length else begun
            writer.write(POST + length + b"\r\n\r\n" + (chunk if begun else b""))
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()

    serving(Echo(body_timeout_s=0.2), story)


@under_granian
def test_a_client_that_leaves_within_its_body_is_not_answered_and_leaves_its_place() -> None:
    app = Echo()

    async def story(server: Standing) -> None:
        for number in range(1, 7):
            _, writer = await server.connect()
            writer.write(POST + b"Content-Length: 9\r\n\r\nabc")

            async def begun(number: int = number) -> bool:
                return app.begun == number

            await eventually(begun)
            writer.transport.abort()

    serving(app, story)


@under_granian
def test_of_a_request_with_two_lengths_one_is_answered_and_nothing_after_it_is_heard() -> None:
    """RFC 9112 6.1 leaves it to us to read it as chunks, and then has us close."""
    two = b"Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

    async def story(server: Standing, app: Slow) -> None:
        answer = await answers(server, POST + two + LAST)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in answer
        assert app.begun == 1

    at(story)


# Connections --------------------------------------------------------------------------------------


@under_granian
def test_a_connection_too_many_waits_until_another_one_ends() -> None:
    async def story(server: Standing, app: Slow) -> None:
        reader, writer = await server.connect()
        writer.write(ASK)
        await reader.readuntil(b"{}")
        waiting = asyncio.create_task(answers(server))
        writer.write(ASK)  # who was there is served
        await reader.readuntil(b"{}")
        assert app.begun == 2
        assert not waiting.done()
        writer.close()
        assert (await waiting).startswith(b"HTTP/1.1 200 ")

    at(story, LIMITS__CONNECTIONS="1")


@under_granian
def test_an_answer_that_nobody_takes_does_not_keep_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_granian, "REQUEST_S_MAX", 1.0)

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        size = LARGE_BYTES if scope["path"] == "/large" else 2
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def story(server: Standing) -> None:
        for _ in range(3):
            _, writer = await server.connect()
            writer.transport.pause_reading()
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually_a_place(server)

    serving(large, story)


@under_granian
def test_requests_that_hang_are_cut_off_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_granian, "FINISH_S_MAX", 0.2)

    async def story(server: Standing, app: Slow) -> None:
        app.go.clear()
        reader, writer = await server.connect()
        writer.write(ASK)
        await eventually_begun(app)
        server.stop.asked.set()
        await server.ended
        with suppress(ConnectionError):  # it is reset, or ended
            assert await reader.read() == b""
        writer.close()

    at(story)


@under_granian
def test_an_app_that_fails_is_a_500_and_its_connection_goes_on() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/silent":
            return
        raise RuntimeError("a defect")

    async def story(server: Standing) -> None:
        reader, writer = await server.connect()
        for path in (b"/x", b"/silent", b"/x"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
            await reader.readuntil(b"Internal server error")
        writer.close()

    serving(failing, story)


# What is left -------------------------------------------------------------------------------------


@under_granian
def test_a_request_that_is_over_leaves_nothing_behind() -> None:
    """Nothing that the collector would find, and nothing that it would not."""
    said = (
        ASK,
        POST + b"Content-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 9\r\n\r\nabc",
        POST + b"Content-Length: 9\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
    )

    def kept() -> int:
        return sum(isinstance(each, GranianRequest) for each in gc.get_objects())

    async def story(server: Standing) -> None:
        for each in said * 3:
            reader, writer = await server.connect()
            writer.write(each)
            await asyncio.wait({asyncio.create_task(reader.read(1))}, timeout=0.1)
            writer.transport.abort()

        async def gone() -> bool:
            return kept() == 0

        await eventually(gone)

    gc.collect()
    gc.disable()
    try:
        serving(Echo(), story)
    finally:
        gc.enable()
