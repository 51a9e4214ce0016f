"""Expiries that come nearer: holds are cut to them, once, whatever is broken off or crosses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import msgspec
from msgspec.structs import replace

from gateway.core.calls import INCREMENTAL
from gateway.core.model import AccessRequest, Catalogue, Held, Host, Line, Model, Want
from gateway.service.balance import audit
from gateway.store.calls import Job
from gateway.store.opening import Store
from tests.stores.homes import Home

HOUR_MS = 3_600_000
HOSTS = 600  # three steps of a walk


def line(id_: str, expires_ms: int | None, model: Model = Model.CONCURRENT) -> Line:
    return Line(
        id=id_, feature=id_, version="1.0", model=model, count=9999, capacity=9999,
        expires_ms=expires_ms,
    )  # fmt: skip


class Scene:
    """One instance, whose administrator may be killed in the middle of a walk."""

    def __init__(self, store: Store) -> None:
        self.store, self.catalogues = store, store.catalogues
        self.now_ms = int(time.time() * 1000)
        self.catalogue = Catalogue(id="CUTS")

    async def put(self, *lines: Line, killed: bool = False) -> None:
        new = replace(self.catalogue, lines=lines)
        if killed:
            with mock.patch.object(self.catalogues, "finish_cut", mock.AsyncMock()):
                self.catalogue = await self.catalogues.put(new)
        else:
            self.catalogue = await self.catalogues.put(new)

    async def hold(self, feature: str, host: str, days: int = 30) -> list[Held]:
        index = await self.catalogues.get("CUTS")
        assert index is not None
        request = AccessRequest(
            host=Host("string", host), wants=(Want(feature, "0", 1),), interval_s=days * 86_400
        )
        wants, name = index.resolve(request), f"{feature}-{host}-{self.catalogue.version}"
        job = Job(index, wants, name, 60_000, "", "", request.host.canonical, INCREMENTAL)
        reply = await self.store.lane.submit(job)
        assert reply.outcome is not None
        return reply.outcome.held

    async def step(self, cursor: bytes, version: bytes) -> tuple[bytes, bytes]:
        keys = self.catalogues.keys("CUTS")
        four = [keys.cat, keys.holds, keys.lapse, keys.due]
        found = await self.store.scripts.cut.run(self.store.client, four, ["CUTS", cursor, version])
        return found[0], found[1]

    async def lapses(self) -> set[int]:
        held: Any = await self.store.client.hvals(self.catalogues.keys("CUTS").holds)
        return {hold[2] for text in held for hold in msgspec.msgpack.decode(text)}


def play(home: Home, story: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with home.open(partitions=2) as store:
            await story(Scene(store))

    asyncio.run(whole())


def test_a_cut_that_was_taken_back_reaches_nobody(home: Home) -> None:
    """A seat promised for long is not cut by a change that a later one has overtaken."""

    async def story(scene: Scene) -> None:
        far_ms, near_ms = scene.now_ms + 9000 * HOUR_MS, scene.now_ms + HOUR_MS
        await scene.put(line("A", far_ms))
        await scene.put(line("A", near_ms), killed=True)
        await scene.put(line("A", far_ms), killed=True)
        promised = await scene.hold("A", "h1")
        await scene.put(line("A", far_ms), line("B", None))
        assert await scene.lapses() == {promised[0].lapses_ms}

    play(home, story)


def test_walks_that_cross_cut_for_both(home: Home) -> None:
    """The end of one walk does not forget the lines of another change."""

    async def story(scene: Scene) -> None:
        far_ms, near_ms = scene.now_ms + 9000 * HOUR_MS, scene.now_ms + HOUR_MS
        await scene.put(line("A", far_ms), line("B", far_ms))
        await asyncio.gather(
            *(scene.hold(name, f"h{number}") for number in range(HOSTS) for name in "AB")
        )
        await scene.put(line("A", near_ms), line("B", far_ms), killed=True)
        cursor, version = await scene.step(b"0", b"")
        assert cursor != b"0"
        await scene.put(line("A", near_ms), line("B", near_ms), killed=True)
        while cursor != b"0":
            cursor, version = await scene.step(cursor, version)
        assert await scene.lapses() == {near_ms}

    play(home, story)


def test_a_walk_that_was_broken_off_is_made_by_the_next_reader(home: Home) -> None:
    """Nobody has to know that an administrator's process was killed."""

    async def story(scene: Scene) -> None:
        near_ms = scene.now_ms + HOUR_MS
        await scene.put(line("A", None))
        await scene.hold("A", "h1")
        await scene.put(line("A", near_ms), killed=True)
        assert await scene.lapses() != {near_ms}
        await scene.catalogues.read("CUTS")
        deadline_s = time.monotonic() + 60
        while await scene.lapses() != {near_ms}:
            assert time.monotonic() < deadline_s
        cut = await scene.store.client.hget(scene.catalogues.keys("CUTS").cat, "cut")
        assert cut is None

    play(home, story)


def test_an_expiry_in_the_past_lapses_now_and_not_then(home: Home) -> None:
    """What is past is recorded: no day before the change is written to."""

    async def story(scene: Scene) -> None:
        await scene.put(line("P", None, Model.METERED_REUSABLE))
        await scene.hold("P", "h1", days=1)
        await scene.put(line("P", 631_152_000_000, Model.METERED_REUSABLE))
        assert await scene.hold("P", "h2") == []
        books = await audit(scene.catalogues, "CUTS", deep=True)
        assert books.differences == []
        assert [(entry.acked, entry.balanced) for entry in books.lines] == [(0, True)]

    play(home, story)
