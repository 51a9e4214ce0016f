"""An embedded store is looked for while it is open, and that ends with it, whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.store import opening
from gateway.store.opening import Store, open_store

CLOSED_S_MAX = 60.0


def test_closing_ends_a_look_that_swallows_its_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncio.wait_for does before Python 3.12, when what it waited for is just done."""
    looks: list[str] = []
    begun = asyncio.Event()

    async def reachable(self: Store) -> bool:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if looks:
                raise
            looks.append("swallowed")
        return True

    monkeypatch.setattr(opening, "LOOK_S", 0.001)
    monkeypatch.setattr(Store, "reachable", reachable)

    async def story() -> None:
        async with asyncio.timeout(CLOSED_S_MAX):
            async with open_store("embedded", tmp_path, partitions=1):
                await begun.wait()

    asyncio.run(story())
    assert looks == ["swallowed"]
