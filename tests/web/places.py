"""Serving whose places are counted: an app that answers when it is let go, and what clients get.

Decided here: what it is to have a place, which is to be answered, and how long one is waited for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.web.app import make_app
from tests.web.doors import eventually
from tests.web.servers import Standing, run, standing

ASK = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Slow:
    """An app that looks at no body, and answers when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        await self.go.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


Story = Callable[[Standing, Slow], Awaitable[None]]


def at(story: Story, **settings: str) -> None:
    async def told() -> None:
        app = Slow()
        routes: list[BaseRoute] = [Route("/x", app)]
        async with asyncio.timeout(60), standing(make_app(routes), **settings) as server:
            await story(server, app)

    run(told())


async def answers(
    server: Standing, asked: bytes = LAST, tls: ssl.SSLContext | None = None
) -> bytes:
    """Ask on a connection of our own, and read what comes; nothing when it is dropped."""
    try:
        reader, writer = await server.connect(tls)
        writer.write(asked)
        answer = await reader.read()
        writer.close()
    except (ConnectionError, ssl.SSLError):
        return b""
    return answer


async def eventually_begun(app: Slow, many: int = 1) -> None:
    async def begun() -> bool:
        return app.begun >= many

    await eventually(begun)


async def eventually_a_place(server: Standing, tls: ssl.SSLContext | None = None) -> None:
    """Wait for one; for less long than a client that is silent keeps its place (servers.py)."""

    async def free() -> bool:
        return (await answers(server, tls=tls)).startswith(b"HTTP/1.1 200")

    await eventually(free)
