"""TLS: what is agreed in a handshake, and that handshakes are connections like any other.

Source: INTERFACE 2, RELIABILITY 3 (6).
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import h2.events
import pytest

from gateway.web.servers import HYPERCORN
from tests.served_by import under_both
from tests.web.places import ASK, Slow, answers, at, eventually_a_place
from tests.web.servers import Http2, Standing, self_signed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


def tls_of(certificate: tuple[Path, Path], *alpn: str) -> tuple[dict[str, str], ssl.SSLContext]:
    """Give a server's settings, and what its clients trust."""
    settings = {
        "SERVER__TLS_CERT": str(certificate[0]),
        "SERVER__TLS_KEY": str(certificate[1]),
    }
    trusting = ssl.create_default_context(cafile=certificate[0])
    if alpn:
        trusting.set_alpn_protocols(alpn)
    return settings, trusting


@pytest.mark.parametrize("offered", [[], ["http/1.1"], ["h2", "http/1.1"]])
@under_both
def test_what_is_spoken_under_tls_is_agreed_in_the_handshake(
    certificate: tuple[Path, Path], offered: list[str], served_by: str
) -> None:
    """The first of what is offered that the server speaks."""
    settings, trusting = tls_of(certificate, *offered)
    speaks = ("h2", "http/1.1") if served_by == HYPERCORN else ("http/1.1",)
    chosen = next((each for each in offered if each in speaks), None)

    async def story(server: Standing, app: Slow) -> None:
        reader, writer = await server.connect(trusting)
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert agreed == chosen
        if chosen == "h2":
            client = Http2(reader, writer)
            await client.begin()
            await client.ask("GET", "/x")
            answer = await client.heard(h2.events.ResponseReceived)
            assert (b":status", b"200") in answer.headers
        else:
            writer.write(ASK)
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
        writer.close()

    at(story, **settings)


@pytest.mark.slow
def test_handshakes_take_places_and_slow_ones_give_them_back(
    certificate: tuple[Path, Path],
) -> None:
    settings, trusting = tls_of(certificate)
    settings["LIMITS__CONNECTIONS"] = "2"

    async def begun(server: Standing) -> list[asyncio.StreamReader]:
        silent = [await server.connect() for _ in range(2)]
        silent[1][1].write(b"\x16\x03\x01")  # the beginning of a handshake
        return [reader for reader, _ in silent]

    async def taken(server: Standing, app: Slow) -> None:
        await begun(server)
        assert await answers(server, tls=trusting) == b""  # dropped: there is no place

    async def given_back(server: Standing, app: Slow) -> None:
        for reader in await begun(server):
            assert await reader.read() == b""
        await eventually_a_place(server, trusting)

    at(taken, **settings)
    at(given_back, SERVER__HEADER_TIMEOUT_S="0.6", **settings)


@under_both
def test_who_speaks_cleartext_to_tls_is_dropped(certificate: tuple[Path, Path]) -> None:
    settings, trusting = tls_of(certificate)

    async def story(server: Standing, app: Slow) -> None:
        for _ in range(5):
            assert not (await answers(server)).startswith(b"HTTP")
        assert app.begun == 0
        await eventually_a_place(server, trusting)

    at(story, LIMITS__CONNECTIONS="1", **settings)
