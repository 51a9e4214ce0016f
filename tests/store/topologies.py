"""Topologies for tests: opened over a URL, looked at once, closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.service import health
from gateway.store import opening
from gateway.store.opening import make_topology
from gateway.store.scripts import Script
from gateway.store.topology import Topology
from tests.stores.servers import Server

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")

Story = Callable[[Any], Awaitable[None]]


def examine_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every question whether a store is fit examined anew, and answered by what is found.

    In service the last finding stands for a while, and while a new one is slow to come.
    """
    monkeypatch.setattr(opening, "EXAMINE_S", 0.0)
    monkeypatch.setattr(opening, "EXAMINED_S_MAX", 30.0)
    monkeypatch.setattr(health, "LOOK_S_MAX", 40.0)


def over(url: str, story: Story) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Topology]:
        topology = make_topology(url)
        try:
            yield topology
        finally:
            await topology.aclose()

    async def run() -> None:
        async with opened() as topology:
            await topology.refresh()
            await story(topology)

    asyncio.run(run())


async def eventually(
    attempt: Callable[[], Awaitable[Any]], within_s: float = 60.0
) -> tuple[Any, list[Exception]]:
    """Try until it works; give what it gave, and what was in the way."""
    deadline_s, errors = time.monotonic() + within_s, list[Exception]()
    while True:
        try:
            return await attempt(), errors
        except Exception as error:
            errors.append(error)
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""

    async def met() -> None:
        assert await condition(), "it did not come true in time"

    await eventually(met, within_s)


async def until_refused(server: Server, word: str) -> None:
    """Wait until a server has refused a command with an error of this word."""

    async def has_refused() -> bool:
        return f"errorstat_{word}" in await asyncio.to_thread(server.info, "errorstats")

    await until(has_refused)
