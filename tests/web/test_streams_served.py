"""Streamed answers by the real server: broken off for good, and made only for who is there.

Law: RFC 9113 8.1: an HTTP/2 answer that is not whole is reset; without that its client waits for as
long as the connection is in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from h2.connection import H2Connection
from h2.events import DataReceived
from starlette.types import Receive, Scope, Send

from gateway.config import load_config
from gateway.core.errors import Unavailable
from gateway.web.endpoints import JSON, Answered, StreamedEndpoint
from gateway.web.lifecycle import Lifecycle
from gateway.web.serving import address_of, bind, serve
from gateway.web.streams import PIECE_BYTES, Pieces
from tests.served_by import chosen, spoken, under_both
from tests.web.doors import eventually
from tests.web.servers import EndlessStop

LARGE = b"x" * PIECE_BYTES
HOST = "127.0.0.1"


class Site:
    """An app with a whole answer, one that breaks off, and one that goes on for ever."""

    def __init__(self) -> None:
        self.working = 0
        self.rest = asyncio.Event()
        self._paths = {
            "/whole": self._whole,
            "/broken": self._broken,
            "/endless": self._endless,
            "/waiting": self._waiting,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await StreamedEndpoint("site", self._answer)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        return 200, [JSON], await Pieces.begun(self._worked(self._paths[scope["path"]]()))

    async def _worked(self, texts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self.working += 1
        try:
            async for text in texts:
                yield text
        finally:
            await texts.aclose()
            self.working -= 1

    async def _whole(self) -> AsyncGenerator[bytes, None]:
        yield b"whole"

    async def _broken(self) -> AsyncGenerator[bytes, None]:
        yield LARGE
        raise Unavailable("The store went away", "not_applied")

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        while True:
            yield LARGE

    async def _waiting(self) -> AsyncGenerator[bytes, None]:
        yield LARGE
        await self.rest.wait()
        yield b"rest"


@asynccontextmanager
async def served(directory: Path, site: Site) -> AsyncIterator[str]:
    config = load_config(None, {"GATEWAY_SERVER__DRAIN_S": "0"}, {"data_dir": directory})
    listener, stop, announced = bind(HOST, 0), EndlessStop(), asyncio.Event()
    url = address_of(listener, HOST, tls=False)
    server = asyncio.create_task(
        serve(
            site,
            listener,
            config,
            tls=None,
            lifecycle=Lifecycle(),
            stop=stop,
            announce=announced.set,
            server=chosen(),
        )
    )
    await announced.wait()
    try:
        yield url
    finally:
        stop.asked.set()
        await server


def at(
    directory: Path,
    http2: bool,
    story: Callable[[Site, httpx.AsyncClient], Awaitable[None]],
) -> None:
    async def told() -> None:
        site = Site()
        async with (
            served(directory, site) as url,
            httpx.AsyncClient(base_url=url, http1=not http2, http2=http2, timeout=60) as client,
        ):
            await story(site, client)

    asyncio.run(told())


async def idle(site: Site) -> None:
    async def nothing_is_made() -> bool:
        return site.working == 0

    await eventually(nothing_is_made)


def test_an_answer_that_breaks_off_over_http2_is_reset(tmp_path: Path) -> None:
    """Also when another one is under way on the connection, which goes on."""

    async def story(site: Site, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/waiting") as other:
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError, match="StreamReset"):
                    await client.get("/broken")
            whole = await client.get("/whole")
            assert (whole.http_version, whole.content) == ("HTTP/2", b"whole")
            site.rest.set()
            assert await other.aread() == LARGE + b"rest"
            streams = {id(each.extensions["network_stream"]) for each in (whole, other)}
            assert len(streams) == 1
        await idle(site)

    at(tmp_path, True, story)


@under_both
def test_an_answer_that_breaks_off_over_http1_closes_its_connection(tmp_path: Path) -> None:
    async def story(site: Site, client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/broken")
        assert (await client.get("/whole")).content == b"whole"
        await idle(site)

    at(tmp_path, False, story)


@pytest.mark.parametrize("path", ["/waiting", "/endless"], ids=["while making", "while sending"])
@pytest.mark.usefixtures("served_by")
@spoken
def test_a_client_that_leaves_leaves_no_work_behind(tmp_path: Path, http2: bool, path: str) -> None:
    async def story(site: Site, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", path) as answer:
            assert (answer.status_code, site.working) == (200, 1)
            await client.aclose()
            await idle(site)

    at(tmp_path, http2, story)


@pytest.mark.parametrize("path", ["/waiting", "/endless"], ids=["while making", "while sending"])
def test_a_client_that_resets_its_stream_leaves_no_work_behind(tmp_path: Path, path: str) -> None:
    """And its connection goes on."""

    async def story(site: Site, client: httpx.AsyncClient) -> None:
        url = client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        connection = H2Connection()
        connection.initiate_connection()
        for stream_id, asked in ((1, path), (3, "/whole")):
            head = {":method": "GET", ":path": asked, ":scheme": "http", ":authority": "x"}
            connection.send_headers(stream_id, list(head.items()), end_stream=True)
            writer.write(connection.data_to_send())
            async with asyncio.timeout(60):
                seen = 0
                while seen != stream_id:  # answered, or begun to be
                    for event in connection.receive_data(await reader.read(65_536)):
                        if isinstance(event, DataReceived):
                            seen = event.stream_id or 0
            if stream_id == 1:
                assert site.working == 1
                connection.reset_stream(stream_id)
                connection.increment_flow_control_window(2 * PIECE_BYTES)
                writer.write(connection.data_to_send())
                await idle(site)
        writer.close()

    at(tmp_path, True, story)
