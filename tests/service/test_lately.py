"""What was found lately: one look at a time, kept for as long as it was dear, told with why not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue
from gateway.service import lately
from gateway.service.lately import Lately, Seen


def _index(name: str = "A", version: int = 1) -> CatalogueIndex:
    return CatalogueIndex(Catalogue(id=name, version=version))


class Looks:
    """Counts looks; each waits for the gate and then finds its number, or raises `error`."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.lately = Lately(self.look)

    async def look(self, index: CatalogueIndex) -> int:
        self.count += 1
        number = self.count
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number

    async def found(self, index: CatalogueIndex | None = None) -> int | None:
        return (await self.lately.at(index or _index())).found


@pytest.fixture(autouse=True)
def _patient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lately, "PATIENCE_S", 60.0)
        patch.setattr(lately, "KEPT_S", 600.0)
        patch.setattr(lately, "KEPT_S_MAX", 600.0)
        yield


def test_what_was_found_is_kept_by_instance_and_version() -> None:
    async def story() -> None:
        looks = Looks()
        assert [await looks.found(), await looks.found()] == [1, 1]
        assert await looks.found(_index("B")) == 2
        assert await looks.found(_index(version=2)) == 3
        assert [await looks.found(_index("B")), await looks.found(_index(version=2))] == [2, 3]

    asyncio.run(story())


def test_many_who_ask_at_once_share_one_look() -> None:
    async def story() -> None:
        looks = Looks()
        looks.gate.clear()
        asked = [asyncio.create_task(looks.found()) for _ in range(9)]
        await asyncio.sleep(0)
        looks.gate.set()
        assert await asyncio.gather(*asked) == [1] * 9

    asyncio.run(story())


def test_nobody_waits_for_long_and_what_was_found_before_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        looks = Looks()
        monkeypatch.setattr(lately, "PATIENCE_S", 0.0)
        looks.gate.clear()
        assert await looks.lately.at(_index()) == Seen()
        looks.gate.set()
        monkeypatch.setattr(lately, "PATIENCE_S", 60.0)
        assert await looks.found() == 1
        looks.gate.clear()
        monkeypatch.setattr(lately, "PATIENCE_S", 0.0)
        assert await looks.found(_index(version=2)) == 1
        looks.gate.set()
        monkeypatch.setattr(lately, "PATIENCE_S", 60.0)
        assert await looks.found(_index(version=2)) == 2

    asyncio.run(story())


def test_what_took_long_is_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(lately, "KEPT_S", 0.0)
        monkeypatch.setattr(lately, "PRICE", 0)
        looks = Looks()
        assert [await looks.found(), await looks.found()] == [1, 2]
        monkeypatch.setattr(lately, "PRICE", 1e9)  # any time at all is long
        assert [await looks.found(), await looks.found()] == [3, 3]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Unavailable("Too many reports are open", "not_applied"), "Too many reports are open"),
        (ConnectionError("secret"), "The store cannot be reached"),
        (TimeoutError("secret"), "It took too long to read"),
        (ZeroDivisionError("secret"), "It cannot be read; the log says why"),
        (KeyError("secret"), "It cannot be read: what is kept is not what was written (KeyError)"),
    ],
)
def test_a_look_that_fails_says_why_and_is_made_again(error: Exception, why: str) -> None:
    async def story() -> None:
        looks = Looks()
        looks.error = error
        seen = await looks.lately.at(_index())
        assert (seen.found, seen.why) == (None, why)
        looks.error = None
        assert await looks.found(_index(version=2)) == 2

    asyncio.run(story())


def test_what_was_asked_for_longest_ago_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        monkeypatch.setattr(lately, "INSTANCES_MAX", 2)
        looks = Looks()
        for name in ("A", "B", "A", "C"):
            await looks.found(_index(name))
        assert looks.count == 3
        await looks.found(_index("A"))
        assert looks.count == 3
        await looks.found(_index("B"))
        assert looks.count == 4

    asyncio.run(story())
