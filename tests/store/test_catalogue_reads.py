"""A catalogue that is read for many at once, when those who wait for it go away."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as Gone

from gateway.core.errors import Unavailable
from gateway.store.catalogues import Catalogues


class _Client:
    """A store that says that it is gone, when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0

    async def hmget(self, *_: Any) -> Any:
        self.asked += 1
        await self.go.wait()
        raise Gone("gone")


def test_a_read_that_fails_when_nobody_waits_any_more_is_nobody_s_trouble() -> None:
    troubles: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
        store = _Client()
        topology: Any = type("One", (), {"client": store})()
        catalogues = Catalogues(topology, cast(Any, None), 4)
        waiting = [asyncio.create_task(catalogues.read("I")) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        waiting.clear()
        del task  # what they were told holds on to what they waited for
        store.go.set()
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        assert store.asked == 1
        with pytest.raises(Unavailable):
            await catalogues.read("I")
        assert store.asked == 2

    asyncio.run(story())
    assert troubles == []
