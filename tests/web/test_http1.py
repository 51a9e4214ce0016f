"""HTTP/1 on the wire: how answers are framed and when connections end. Law: RFC 9112."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.web.servers import READ_BYTES, Standing, run, standing

Story = Callable[[Standing], Awaitable[None]]
SENT_S_MAX = 10.0

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"


def answering(
    *pieces: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> ASGIApp:
    """Make an app that reads its request and says pieces of an answer; `%` becomes the path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for at, piece in enumerate(pieces, 1):
            body = piece.replace(b"%", scope["raw_path"])
            more = at < len(pieces)
            await send({"type": "http.response.body", "body": body, "more_body": more})

    return app


def at(app: ASGIApp, story: Story) -> None:
    async def told() -> None:
        async with asyncio.timeout(60), standing(app) as server:
            await story(server)

    run(told())


async def exchanged(server: Standing, sent: bytes, *, half_closed: bool = True) -> bytes:
    """Send something, and read until the server ends the connection."""
    reader, writer = await server.connect()
    writer.write(sent)
    if half_closed:
        writer.write_eof()
    text = await asyncio.wait_for(reader.read(-1), SENT_S_MAX)
    writer.close()
    return text


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_an_answer_of_known_length_is_one_piece_on_the_wire() -> None:
    async def story(server: Standing) -> None:
        reader, writer = await server.connect()
        for _ in range(20):
            writer.write(POST % (3, b"abc"))
            piece = await asyncio.wait_for(reader.read(READ_BYTES), SENT_S_MAX)
            assert piece.startswith(b"HTTP/1.1 200 ")
            assert piece.endswith(b"\r\n\r\nwhole")
        writer.close()

    at(answering(b"whole", headers=((b"content-length", b"5"),)), story)


def test_who_has_said_all_and_half_closes_hears_the_answer() -> None:
    async def story(server: Standing) -> None:
        assert body_of(await exchanged(server, POST % (3, b"abc"))) == b"whole"

    at(answering(b"whole", headers=((b"content-length", b"5"),)), story)


def test_requests_in_a_row_are_answered_in_their_order() -> None:
    async def story(server: Standing) -> None:
        reader, writer = await server.connect()
        writer.write(b"".join(GET % name for name in (b"a", b"b", b"c")))
        text = b""
        while text.count(b"HTTP/1.1 200 ") < 3 or not text.endswith(b"/c"):
            text += await asyncio.wait_for(reader.read(READ_BYTES), SENT_S_MAX)
        assert text.index(b"/a") < text.index(b"/b") < text.index(b"/c")
        writer.close()

    at(answering(b"%", headers=((b"content-length", b"2"),)), story)


def test_an_answer_of_unknown_length_has_chunks_or_ends_with_its_connection() -> None:
    async def story(server: Standing) -> None:
        chunked = await exchanged(server, GET % b"")
        assert b"transfer-encoding: chunked" in chunked.lower()
        assert body_of(chunked) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        plain = await exchanged(server, b"GET / HTTP/1.0\r\n\r\n", half_closed=False)
        assert body_of(plain) == b"onetwo"

    at(answering(b"one", b"two", b""), story)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_body_has_none_whatever_the_application_says(
    method: str, status: int
) -> None:
    async def story(server: Standing) -> None:
        answer = await exchanged(server, f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert body_of(answer) == b""

    at(answering(b"whole", status=status), story)


def test_who_waits_to_be_asked_for_a_body_is_asked() -> None:
    async def story(server: Standing) -> None:
        reader, writer = await server.connect()
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head)
        asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SENT_S_MAX)
        assert asked.startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        answer = await asyncio.wait_for(reader.readuntil(b"whole"), SENT_S_MAX)
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()

    at(answering(b"whole", headers=((b"content-length", b"5"),)), story)


@pytest.mark.parametrize("wanted", [b"websocket", b"h2c", b"TLS/1.3"])
def test_nobody_changes_the_protocol_and_the_request_is_answered_in_this_one(
    wanted: bytes,
) -> None:
    async def story(server: Standing) -> None:
        upgrade = b"Upgrade: %b\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" % wanted
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"/x"), SENT_S_MAX)
            assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()

    at(answering(b"%", headers=((b"content-length", b"2"),)), story)


@pytest.mark.parametrize(
    "header",
    [
        (b"x-name", b"a\r\nSet-Cookie: b=c"),
        (b"x-name", b"a\nb"),
        (b"x name", b"a"),
        (b"x-name\r\n", b"a"),
        (b"content-length", b"-1"),
    ],
)
def test_a_header_that_would_be_more_than_one_leaves_nothing_but_an_error(
    header: tuple[bytes, bytes],
) -> None:
    async def story(server: Standing) -> None:
        answer = await exchanged(server, GET % b"")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"Set-Cookie" not in answer
        assert body_of(answer) == b""

    at(answering(b"whole", headers=(header,)), story)


def test_an_answer_that_is_not_ended_is_seen_to_be_broken_off() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("it ends here")

    async def story(server: Standing) -> None:
        answer = await exchanged(server, GET % b"", half_closed=False)
        assert body_of(answer) == b"4\r\nhalf\r\n"  # and no last chunk

    at(app, story)


def test_who_says_nothing_is_answered_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    async def story(server: Standing) -> None:
        answer = await exchanged(server, GET % b"", half_closed=False)
        assert answer.startswith(b"HTTP/1.1 500 ")

    at(app, story)


def test_an_application_hears_that_its_client_left_however_often_it_asks() -> None:
    heard: list[Message] = []
    done = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while len(heard) < 4:
            heard.append(await receive())
        done.set()

    async def story(server: Standing) -> None:
        _, writer = await server.connect()
        writer.write(POST % (10, b"abc"))
        await writer.drain()
        writer.close()
        await asyncio.wait_for(done.wait(), SENT_S_MAX)
        assert [each["type"] for each in heard] == ["http.request", *["http.disconnect"] * 3]
        assert heard[0] == {"type": "http.request", "body": b"abc", "more_body": True}

    at(app, story)


@pytest.mark.parametrize("size", [1, 70_000])
def test_a_body_comes_whole_in_chunks_or_not(size: int) -> None:
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        bodies.append(body)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def story(server: Standing) -> None:
        sent = b"x" * size
        await exchanged(server, POST % (size, sent))
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await exchanged(server, head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, sent))
        assert bodies == [sent, sent]

    at(app, story)


def test_who_half_closed_is_answered_also_when_we_stop_meanwhile() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    answer = answering(b"whole", headers=((b"content-length", b"5"),))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go.wait()
        await answer(scope, receive, send)

    async def story(server: Standing) -> None:
        reader, writer = await server.connect()
        writer.write(POST % (3, b"abc"))
        writer.write_eof()
        await asyncio.wait_for(begun.wait(), SENT_S_MAX)
        server.stop.asked.set()
        with suppress(OSError):
            while True:  # until nobody new is let in: what is under way is waited for
                _, other = await server.connect()
                other.transport.abort()
                await asyncio.sleep(0.01)
        go.set()
        assert body_of(await asyncio.wait_for(reader.read(-1), SENT_S_MAX)) == b"whole"
        writer.close()
        await server.ended

    at(app, story)
