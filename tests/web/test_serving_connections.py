"""Connections: how many there are, who is told to leave and how, and that places are given back.

Places are told by a server that has few of them. Source: INTERFACE 2, RELIABILITY 3 (6), 4 row 16.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import h2.events
import pytest

from gateway.web import connections, refusing
from gateway.web.connections import HEAD_BYTES_MAX
from gateway.web.refusing import TELLING_MAX
from tests.served_by import under_both
from tests.web.places import ASK, Slow, answers, at, eventually_a_place, eventually_begun
from tests.web.servers import Http2, Standing

FEW = 3  # places: some may still be those of connections that are just being closed
TINY = 1  # byte of an answer that an HTTP/2 client lets us send


# One too many ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine that stands still for a second end no refusal, nor a request at a stop."""
    monkeypatch.setattr(refusing, "TELL_S", 50.0)
    monkeypatch.setattr(connections, "FINISH_S_MAX", 50.0)


def test_a_connection_too_many_is_told_to_come_again() -> None:
    async def story(server: Standing, app: Slow) -> None:
        reader, writer = await server.connect()
        writer.write(ASK)
        await reader.readuntil(b"{}")
        for start in (ASK, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789"):
            head, _, body = (await answers(server, start)).partition(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            assert lines[0] == "http/1.1 503 service unavailable"
            assert {"retry-after: 1", "connection: close", f"content-length: {len(body)}"} <= set(
                lines
            )
            assert json.loads(body) == {
                "key": "gateway.unavailable",
                "message": "Too many connections",
                "arguments": ["not_applied"],
            }
        assert app.begun == 1
        writer.write(ASK)  # who was there is served
        await reader.readuntil(b"{}")
        writer.close()
        await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS="1")


@pytest.mark.parametrize("start", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02", b"?"])
def test_who_does_not_speak_http1_is_dropped_without_a_word(start: bytes) -> None:
    async def story(server: Standing, app: Slow) -> None:
        _, writer = await server.connect()
        writer.write(ASK)
        await eventually_begun(app)
        assert await answers(server, start) == b""
        writer.close()

    at(story, LIMITS__CONNECTIONS="1")


def test_refusals_too_are_few_at_a_time() -> None:
    async def story(server: Standing, app: Slow) -> None:
        _, writer = await server.connect()
        writer.write(ASK)
        await eventually_begun(app)
        silent = [await server.connect() for _ in range(TELLING_MAX)]
        # All places for being told are taken: whoever comes now is dropped at once.
        assert await answers(server) == b""
        for _, other in silent:
            other.close()
        writer.close()

    at(story, LIMITS__CONNECTIONS="1")


# Places are given back ----------------------------------------------------------------------------


@under_both
@pytest.mark.parametrize("said", [b"", b"GET", ASK])
def test_a_client_that_leaves_gives_its_place_back_at_once(said: bytes) -> None:
    """Not when its next request would be overdue."""

    async def story(server: Standing, app: Slow) -> None:
        for _ in range(2 * FEW):
            reader, writer = await server.connect()
            writer.write(said)
            if said == ASK:
                await reader.readuntil(b"{}")
            writer.close()
            await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW), SERVER__HEADER_TIMEOUT_S="60")


def test_an_http2_client_that_leaves_before_it_took_its_answer_gives_its_place_back() -> None:
    async def story(server: Standing, app: Slow) -> None:
        for _ in range(2 * FEW):
            client = Http2(*await server.connect())
            client.take_at_most(TINY)
            await client.begin()
            await client.ask("GET", "/x")
            assert await client.heard(h2.events.DataReceived)
            client.leave()
            await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW), SERVER__HEADER_TIMEOUT_S="60")


@under_both
def test_a_body_that_nobody_reads_holds_nothing_up() -> None:
    async def story(server: Standing, app: Slow) -> None:
        for length in (b"Content-Length: 1073741824", b"Transfer-Encoding: chunked") * 2:
            app.go.clear()
            reader, writer = await server.connect()
            writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n")
            pouring = asyncio.create_task(pour(writer, chunked=b"chunked" in length))
            await eventually_begun(app)
            await asyncio.wait({pouring}, timeout=0.1)  # until nobody takes more of it
            assert not pouring.done()
            app.go.set()
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
            await asyncio.wait({pouring})
            await eventually_a_place(server)
            app.begun = 0

    at(story, LIMITS__CONNECTIONS=str(FEW), SERVER__HEADER_TIMEOUT_S="60")


async def pour(writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    """Send a body without an end, until the server leaves."""
    data = bytes(2**16)
    if chunked:
        data = b"10000\r\n" + data + b"\r\n"
    try:
        for _ in range(2**14):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()


# Heads that are too much --------------------------------------------------------------------------


@under_both
def test_a_head_that_is_too_large_is_a_431() -> None:
    async def story(server: Standing, app: Slow) -> None:
        for part in (b"a" * 1_000, b"x: " + b"a" * 1_000 + b"\r\n"):
            start = b"GET /x HTTP/1.1\r\nx: " if b"x:" not in part else b"GET /x HTTP/1.1\r\n"
            reader, writer = await server.connect()
            writer.write(start + part * (4 * HEAD_BYTES_MAX // len(part)))
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 431")
            writer.transport.abort()
        assert app.begun == 0
        await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW))


def test_a_head_that_is_too_large_ends_an_http2_connection() -> None:
    async def story(server: Standing, app: Slow) -> None:
        client = Http2(*await server.connect())
        await client.begin()
        await client.ask("GET", "/x", **{f"h{n}": "a" * 1_000 for n in range(100)})
        gone = await client.heard(h2.events.ConnectionTerminated)
        assert gone is None or gone.error_code != 0
        assert app.begun == 0
        client.leave()
        await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW))


@under_both
@pytest.mark.slow
def test_a_head_that_drips_is_cut_off_in_time() -> None:
    async def story(server: Standing, app: Slow) -> None:
        reader, writer = await server.connect()

        async def drip() -> None:
            for byte in ASK * 100:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        begun_s = asyncio.get_running_loop().time()
        writer.write(b"GET /x HTTP/1.1\r\nx: ")
        with suppress(ConnectionResetError):  # what dripped in after the end was not read
            assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - begun_s < 20  # it would take 140
        dripping.cancel()
        writer.transport.abort()
        assert app.begun == 0
        await eventually_a_place(server)

    at(story, LIMITS__CONNECTIONS=str(FEW), SERVER__HEADER_TIMEOUT_S="0.5")


# Goodbye ------------------------------------------------------------------------------------------


def test_while_draining_an_http2_connection_is_told_goodbye_when_nothing_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "SWEEP_S", 0.05)

    async def story(server: Standing, app: Slow) -> None:
        idle, busy = [Http2(*await server.connect()) for _ in range(2)]
        for client in (idle, busy):
            await client.begin()
        await idle.ask("GET", "/x")
        assert await idle.heard(h2.events.StreamEnded)
        app.go.clear()
        under_way = await busy.ask("GET", "/x")
        await eventually_begun(app, 2)
        server.stop.asked.set()
        gone = await idle.heard(h2.events.ConnectionTerminated)
        assert (gone.error_code, gone.last_stream_id) == (0, 1)
        assert await idle.heard(h2.events.ConnectionTerminated) is None  # and is closed
        # New ones come still, each for one request.
        app.go.set()
        assert (await busy.heard(h2.events.StreamEnded)).stream_id == under_way
        gone = await busy.heard(h2.events.ConnectionTerminated)
        assert (gone.error_code, gone.last_stream_id) == (0, under_way)
        late = Http2(*await server.connect())
        await late.begin()
        await late.ask("GET", "/x")
        assert await late.heard(h2.events.StreamEnded)
        assert await late.heard(h2.events.ConnectionTerminated)
        for client in (idle, busy, late):
            client.leave()

    at(story, SERVER__DRAIN_S="30")


def test_idle_connections_do_not_hold_up_the_end() -> None:
    async def story(server: Standing, app: Slow) -> None:
        reader, writer = await server.connect()
        writer.write(ASK)
        await reader.readuntil(b"{}")
        silent_reader, silent = await server.connect()
        client = Http2(*await server.connect())
        await client.begin()
        await client.ask("GET", "/x")
        assert await client.heard(h2.events.StreamEnded)
        begun_s = asyncio.get_running_loop().time()
        server.stop.asked.set()
        await server.ended
        assert asyncio.get_running_loop().time() - begun_s < 20  # requests would have 50
        assert await reader.read() == await silent_reader.read() == b""
        assert await client.heard(h2.events.ConnectionTerminated)
        for each in (writer, silent):
            each.close()
        client.leave()

    at(story)


@pytest.mark.parametrize("turns", range(12))
def test_a_connection_that_is_just_over_does_not_disturb_the_stop(turns: int) -> None:
    """Its end is noted in one of the next turns of the loop; a stop may come before that."""

    async def story(server: Standing, app: Slow) -> None:
        for _ in range(3):
            _, writer = await server.connect()
            await eventually_a_place(server)
            writer.transport.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        server.stop.asked.set()
        await server.ended

    at(story)
