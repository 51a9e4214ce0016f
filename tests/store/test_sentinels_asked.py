"""Whom of the sentinels is asked for the primary, and what follows when they name another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.store.sentinels import _Finder


class Told:
    """A sentinel that tells of a primary "main", or of nothing; None keeps silent."""

    def __init__(self, *states: dict[str, Any] | None) -> None:
        self.states = list(states)

    async def sentinel_masters(self) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            await asyncio.sleep(60)
        return {"main": state} if state else {}


class Pool:
    cut = 0

    async def disconnect(self, *, inuse_connections: bool) -> None:
        assert not inuse_connections
        self.cut += 1


def primary(port: int, **more: bool) -> dict[str, Any]:
    down = {"is_master": True, "is_sdown": False, "is_odown": False, "num-other-sentinels": 1}
    return {"ip": "h", "port": port, **down, **more}


def asking(*sentinels: Told) -> _Finder:
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = list(sentinels)
    return _Finder(sentinel, "main", "a:1, b:1")


def test_who_keeps_silent_is_asked_last_the_next_time() -> None:
    """Also when whoever asks gives up first: else those behind them would never be asked."""

    async def story() -> None:
        knowing = Told(primary(7))
        finder = asking(Told(None), Told(None), knowing)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await finder.locate()
        assert await finder.locate() == ("h", 7)
        assert finder.sentinel.sentinels[0] is knowing

    asyncio.run(story())


def test_who_knows_of_none_or_sees_it_down_is_passed_over() -> None:
    async def story() -> None:
        down = primary(6, is_sdown=True)
        assert await asking(Told({}), Told(down), Told(primary(7))).locate() == ("h", 7)
        with pytest.raises(StoreConnectionError, match=r"no sentinel of a:1, b:1 .* h:6 is down"):
            await asking(Told({}), Told(down)).locate()
        with pytest.raises(StoreConnectionError, match="they know of none"):
            await asking(Told({})).locate()

    asyncio.run(story())


def test_connections_that_lie_idle_go_when_another_is_named() -> None:
    async def story() -> None:
        finder = asking(Told(primary(7), primary(7), primary(8)))
        assert await finder.locate() == ("h", 7)
        pool: Any = Pool()
        finder.pool = pool
        assert await finder.locate() == ("h", 7)
        assert pool.cut == 0
        assert await finder.locate() == ("h", 8)
        assert pool.cut == 1

    asyncio.run(story())
