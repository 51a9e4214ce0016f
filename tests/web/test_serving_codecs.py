"""What clients may not say in HTTP/1 and HTTP/2, and that who says it harms himself alone.

Law: RFC 9112 6.1 (two lengths), RFC 9113 3.1 (no upgrade), 8.1 (an answer before the body's end),
10.5 (denial of service). Source: RELIABILITY 3 (6) and 4 row 16.
"""

from __future__ import annotations

import asyncio

import h2.events
import pytest
from h2.errors import ErrorCodes

from gateway.web import bodies, codecs, connection, connections
from tests.served_by import under_both
from tests.web.places import LAST, Slow, answers, at, eventually_a_place, eventually_begun
from tests.web.servers import Http2, Standing

FEW = 3  # places: some may still be those of connections that are just being closed
NOISE = 20
TINY = 1  # byte of an answer that an HTTP/2 client lets us send
LENGTHS = b"Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


def test_a_request_with_two_lengths_is_refused_and_what_follows_it_is_not_heard() -> None:
    """Who stands before us may have read the other one: it would be another client's request."""

    async def story(server: Standing, app: Slow) -> None:
        answer = await answers(server, b"POST /x HTTP/1.1\r\nHost: x\r\n" + LENGTHS + LAST)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert app.begun == 0
        await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW))


@under_both
@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"chunked, chunked"])
def test_a_transfer_coding_that_nobody_knows_is_the_clients_fault(coding: bytes) -> None:
    """Not a 501, which h11 proposes: clients could have a balancer take us for broken."""

    async def story(server: Standing, app: Slow) -> None:
        head = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
        answer = await answers(server, head + b"0\r\n\r\n" + LAST)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert app.begun == 0

    at(story)


@under_both
def test_nobody_changes_to_http2_within_http1() -> None:
    """A proxy that lets it pass would let all that follows pass, in the proxy's own name."""
    upgrade = (
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
    )

    async def story(server: Standing, app: Slow) -> None:
        for start in (b"GET /x HTTP/1.1\r\nHost: x\r\n", b"PRI /x HTTP/1.1\r\nHost: x\r\n"):
            assert b" 101 " not in await answers(server, start + upgrade)
        assert (await answers(server)).startswith(b"HTTP/1.1 200 ")

    at(story)


def test_a_body_that_goes_on_after_its_answer_ends_its_stream_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "DRAIN_S", 0.05)

    async def story(server: Standing, app: Slow) -> None:
        client = Http2(*await server.connect())
        await client.begin()
        late = await client.ask("POST", "/x", end=False)
        assert (await client.heard(h2.events.StreamEnded)).stream_id == late
        app.go.clear()
        beside = await client.ask("GET", "/x")
        await eventually_begun(app, 2)
        await client.send(late, b"x" * 100, end=False)
        reset = await client.heard(h2.events.StreamReset)
        assert (reset.stream_id, reset.error_code) == (late, ErrorCodes.NO_ERROR)
        app.go.set()
        assert (await client.heard(h2.events.StreamEnded)).stream_id == beside
        client.leave()

    at(story)


@pytest.mark.parametrize("noise", ["ping", "priority", "reset"])
def test_who_sends_frames_that_ask_for_nothing_is_sent_away(
    monkeypatch: pytest.MonkeyPatch, noise: str
) -> None:
    monkeypatch.setattr(codecs, "NOISE_MAX", NOISE)

    async def story(server: Standing, app: Slow) -> None:
        app.go.clear()
        client = Http2(*await server.connect())
        await client.begin()
        for _ in range(2 * NOISE):
            await client.make_noise(noise)
        gone = await client.heard(h2.events.ConnectionTerminated)
        assert gone.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        client.leave()
        app.go.set()
        await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW))


def test_noise_is_made_good_by_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "NOISE_MAX", NOISE)

    async def story(server: Standing, app: Slow) -> None:
        client = Http2(*await server.connect())
        await client.begin()
        for _ in range(NOISE):
            for _ in range(codecs.CALM):
                await client.make_noise("ping")
            await client.ask("GET", "/x")
            assert await client.heard(h2.events.StreamEnded)
        client.leave()

    at(story)


def test_an_answer_that_nobody_takes_is_not_kept_by_requests_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would be in the place of somebody else's request, a hundred to a connection."""
    monkeypatch.setattr(connections, "SWEEP_S", 0.02)

    async def story(server: Standing, app: Slow) -> None:
        client = Http2(*await server.connect())
        client.take_at_most(TINY)
        await client.begin()
        left = await client.ask("GET", "/x")
        assert (await client.heard(h2.events.DataReceived)).stream_id == left
        monkeypatch.setattr(connection, "REQUEST_S_MAX", 0.3)

        async def ask_on() -> None:
            while True:
                await client.ask("GET", "/none")
                await asyncio.sleep(0.05)

        asking = asyncio.create_task(ask_on())
        await asyncio.wait_for(client.heard(h2.events.ConnectionTerminated), 20)
        asking.cancel()
        await asyncio.wait({asking})

    at(story)
