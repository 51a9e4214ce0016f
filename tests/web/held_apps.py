"""An app that is held back, to tell what happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from gateway.web.bodies import Headers, Limits, read_body
from gateway.web.endpoints import JSON, Answered, Endpoint
from tests.web.doors import eventually
from tests.web.servers import run


class Held:
    """An app that answers when it is let go, and notes what it did."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.read = self.answered = 0
        self.endpoint = Endpoint("held", self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.endpoint(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        self.begun += 1
        await read_body(receive, Headers(scope).content_length, Limits(2**20, 20.0))
        self.read += 1
        await self.go.wait()
        self.answered += 1
        return 200, [JSON], b"{}"


def story(told: Callable[[Held], Awaitable[None]]) -> None:
    async def begun() -> None:
        await asyncio.wait_for(told(Held()), 60)

    run(begun())


async def until(condition: Callable[[], object]) -> None:
    async def come_true() -> bool:
        return bool(condition())

    await eventually(come_true)
