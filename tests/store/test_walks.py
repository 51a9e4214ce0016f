"""What is too large for one reply is read whole, or it is said that it was not.

A cursor of one process means nothing to another: neither to the same server started again, nor to
the node that a slot has moved to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.crc import key_slot

from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue, Line, Model
from gateway.store import walks
from gateway.store.keys import InstanceKeys
from gateway.store.opening import Store
from gateway.store.walks import members, scan, steps, watched_steps
from tests.stores.clusters import Cluster
from tests.stores.homes import Home
from tests.stores.servers import Server
from tests.stores.slot_moves import move_slot

HOUR_MS = 3_600_000
FIELDS = {f"field-{number}".encode(): b"%d" % number for number in range(3_000)}


def keys_of(store: Store) -> InstanceKeys:
    return store.catalogues.keys("WALKED")


async def fill(store: Store) -> str:
    key = keys_of(store).holds
    await store.client.hset(key, mapping=dict(FIELDS))  # type: ignore[arg-type]
    return key


def test_every_field_and_every_member_comes_in_steps(home: Home) -> None:
    async def story() -> None:
        async with home.open(partitions=4) as store:
            key = await fill(store)
            assert await scan(store.client, key) == FIELDS
            assert await scan(store.client, keys_of(store).used) == {}
            sizes = [len(each) async for each in steps(store.client, key, count=100)]
            assert len(sizes) > 20
            some = [each async for each in steps(store.client, key, match="*-77*", count=100)]
            assert {name for each in some for name in each} == {x for x in FIELDS if b"-77" in x}
            scores = {f"host-{number}": number for number in range(500)}
            await store.client.zadd(keys_of(store).seen, scores)
            found = [x async for each in members(store.client, keys_of(store).seen) for x in each]
            assert {host.decode(): score for host, score in found} == scores
            async with store.client.pipeline(transaction=True) as pipeline:
                await pipeline.watch(key)
                pages = [each async for each in watched_steps(pipeline, key, count=100)]
            assert {name: value for each in pages for name, value in each.items()} == FIELDS

    asyncio.run(story())


def test_a_walk_that_is_never_done_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "STEPS_MAX", 3)

    async def story() -> None:
        async with home.open(partitions=4) as store:
            key = await fill(store)
            with pytest.raises(Unavailable) as refused:
                [each async for each in steps(store.client, key, count=100)]
            assert refused.value.outcome == "not_applied"

    asyncio.run(story())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server") as running:
        yield running


def test_a_server_that_was_started_again_ends_the_walk(server: Server, tmp_path: Path) -> None:
    """Its table has everything in other places, which a cursor from before knows nothing of."""

    async def story() -> None:
        async with Home(tmp_path, server.url).open(partitions=4) as store:
            key = await fill(store)
            walk = aiter(steps(store.client, key, count=100))
            await anext(walk)
            await asyncio.to_thread(server.restart)
            with pytest.raises(Unavailable, match="changed hands") as refused:
                await anext(walk)
            assert refused.value.outcome == "not_applied"
            assert await scan(store.client, key) == FIELDS

    asyncio.run(story())


def test_expiries_are_cut_everywhere_though_the_server_was_started_again(
    server: Server, tmp_path: Path
) -> None:
    """The walk over the holds begins anew: its cursor is none of this process."""
    near_ms = int(time.time() * 1000) + HOUR_MS
    line = Line(
        id="A", feature="A", version="1.0", model=Model.CONCURRENT, count=9, capacity=9,
        expires_ms=near_ms,
    )  # fmt: skip
    held = {f"STRING:h{n}": msgspec.msgpack.encode([("A", 1, 0, 1)]) for n in range(1_000)}

    async def story() -> None:
        async with Home(tmp_path, server.url).open(partitions=4) as store:
            keys = keys_of(store)
            four = [keys.cat, keys.holds, keys.lapse, keys.due]
            await store.catalogues.put(Catalogue(id="WALKED", lines=(line,)))
            await store.client.hset(keys.holds, mapping=dict(held))  # type: ignore[arg-type]
            cut = msgspec.msgpack.encode({"A": near_ms})
            await store.client.hset(keys.cat, "cut", cut)  # type: ignore[arg-type]
            cursor, walk = b"0", b""
            for step in range(100):
                cursor, walk = await store.scripts.cut.run(
                    store.client, four, ["WALKED", cursor, walk]
                )
                if cursor == b"0":
                    break
                if step == 1:
                    await asyncio.to_thread(server.restart)
            assert cursor == b"0"
            found: Any = await store.client.hvals(keys.holds)
            lapses = [hold[2] for text in found for hold in msgspec.msgpack.decode(text)]
            assert lapses == [near_ms] * len(held)
            assert not await store.client.hexists(keys.cat, "cut")

    asyncio.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("back", [False, True], ids=["moved", "moved and back"])
def test_a_slot_that_moves_meanwhile_ends_the_walk_or_takes_nothing_from_it(
    three_nodes: Cluster, tmp_path: Path, back: bool
) -> None:
    async def story() -> None:
        async with Home(tmp_path, three_nodes.url).open(partitions=4) as store:
            key = await fill(store)
            slot = key_slot(key.encode())
            with ExitStack() as undo:
                owner = three_nodes.owner(slot)
                other = next(each for each in three_nodes.primaries() if each is not owner)
                walk = aiter(steps(store.client, key, count=100))
                found = await anext(walk)
                await asyncio.to_thread(move_slot, three_nodes, slot, other)
                undo.callback(move_slot, three_nodes, slot, owner)
                if back:
                    undo.close()
                try:
                    async for fields in walk:
                        found |= fields
                except Unavailable:
                    assert not back
                else:
                    assert back
                    assert found == FIELDS
                assert await scan(store.client, key) == FIELDS
            await store.client.delete(key)

    asyncio.run(story())
