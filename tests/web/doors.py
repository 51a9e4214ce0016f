"""An instance of a test's own at a real gateway: knocked at by HTTP, changed from behind.

Decided here: what an honest knock is, and how a test speaks on a connection of its own. The gateway
is tests/vectors/served.py's, in real time: credentials live by no other clock.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from gateway.core.model import Catalogue
from tests.vectors.credentials import attach, keys_of, token
from tests.vectors.loader import applied
from tests.vectors.served import Served, serving

BODY_BYTES_MAX = 65_536
BODY_TIMEOUT_S = 0.5
ACCESS = "access_request"
GOOD = {"hostId": {"type": "string", "value": "h1"}, "features": [{"name": "sessions"}]}
RELEASE = {"hostId": {"type": "string", "value": "h1"}}

_numbers = itertools.count(1)


@contextmanager
def door_serving(data_dir: Path, **settings: str) -> Iterator[Served]:
    """Open a gateway in real time that grants tokens no skew."""
    with serving(data_dir, prelude=None, TOKEN__CLOCK_SKEW_S="0", **settings) as opened:
        yield opened


@contextmanager
def impatient_serving(data_dir: Path) -> Iterator[Served]:
    """Open one that waits little for bodies: for those that are to come late, and no others."""
    with door_serving(data_dir, SERVER__BODY_TIMEOUT_S=str(BODY_TIMEOUT_S)) as opened:
        yield opened


@contextmanager
def clock_serving(data_dir: Path) -> Iterator[tuple[Served, Ahead]]:
    """Open one whose credentials live by a clock that a test can put ahead."""
    ahead = Ahead()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.wiring.time", SimpleNamespace(**vars(time) | {"time": ahead}))
        with door_serving(data_dir) as opened:
            yield opened, ahead


class Ahead:
    """The time of day, and how far it is ahead."""

    s = 0.0

    def __call__(self) -> float:
        return time.time() + self.s


class Door:
    """An instance of a test's own, knocked at by HTTP and changed from behind."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.instance = f"DOOR-{next(_numbers)}"

    async def put(self, **changes: Any) -> Catalogue:
        """Write the next catalogue without telling the gateway; at first DEMO with our keys."""
        found = await self.served.catalogues.read(self.instance)
        if found is None:
            current = replace(applied("DEMO", self.instance), keys=keys_of("own"))
        else:
            current = found.catalogue
        return await self.served.catalogues.put(replace(current, **changes))

    async def knock(
        self,
        body: Any = GOOD,
        headers: dict[str, str] | None = None,
        *,
        endpoint: str = ACCESS,
        instance: str | None = None,
        credential: str = "token",
        claims: dict[str, Any] | None = None,
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent, content = attach(credential, claims or {}, self.instance, content)
        path = self.path(endpoint, instance)
        return await self.served.http.post(path, headers=sent | (headers or {}), content=content)

    def path(self, endpoint: str = ACCESS, instance: str | None = None) -> str:
        return f"/api/1.0/instances/{instance or self.instance}/{endpoint}"

    def head(self, *lines: str) -> bytes:
        """Give a request's head for a connection of our own."""
        said = (
            f"POST {self.path()} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {token()}",
            "Content-Type: application/json",
            *lines,
        )
        return "\r\n".join(said).encode() + b"\r\n\r\n"

    async def used(self) -> dict[str, int]:
        keys = self.served.catalogues.keys(self.instance)
        found = await self.served.store.hgetall(keys.used)
        return {name.decode(): int(units) for name, units in found.items() if int(units)}


def at(served: Served, story: Callable[[Door], Awaitable[None]]) -> None:
    """Run a story at a door that is provisioned."""

    async def told() -> None:
        door = Door(served)
        await door.put()
        await story(door)

    served.run(told())


async def speak(served: Served, parts: AsyncIterator[bytes]) -> tuple[int, dict[str, Any]]:
    """Say something on a connection of our own; give status and JSON of the first answer."""
    reader, writer = await asyncio.open_connection(*served.address)

    async def say() -> None:
        async for part in parts:
            writer.write(part)
            await writer.drain()

    saying = asyncio.create_task(say())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        body = await reader.readexactly(int(length[1]))
        return int(head.split()[1]), json.loads(body)
    finally:
        saying.cancel()
        writer.transport.abort()


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        await asyncio.sleep(0.02)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
