"""A long array is one JSON text, however many pieces it is made in; others run between them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from gateway.service import clients, features
from gateway.web.arrays import ELEMENTS_AT_ONCE_MAX, array
from tests.vectors.served import Served, serving
from tests.web.readers import Reader, reading


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("arrays")) as opened:
        yield opened


class Turns:
    """What is called between two turns of everybody else."""

    def __init__(self) -> None:
        self.now, self.made = 0, Counter[int]()

    def watched(self, make: Any) -> Any:
        def made(*args: Any) -> Any:
            self.made[self.now] += 1
            return make(*args)

        return made

    async def __aenter__(self) -> Turns:
        self._others = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._others.cancel()

    async def _count(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "count", [0, 1, ELEMENTS_AT_ONCE_MAX, ELEMENTS_AT_ONCE_MAX + 1, 3 * ELEMENTS_AT_ONCE_MAX]
)
def test_an_array_is_what_it_would_be_in_one_piece(count: int) -> None:
    elements = [{"id": number, "name": "[x],"} for number in range(count)]
    made = asyncio.run(array(iter(elements), msgspec.json.encode))
    assert made == msgspec.json.encode(elements)


def test_a_piece_is_made_and_written_before_the_next_one_is_begun() -> None:
    turns = Turns()
    encode = turns.watched(msgspec.json.encode)

    async def story() -> None:
        async with turns:
            await array(map(turns.watched(str), range(5 * ELEMENTS_AT_ONCE_MAX)), encode)

    asyncio.run(story())
    assert list(turns.made.values()) == [ELEMENTS_AT_ONCE_MAX + 1] * 5


@pytest.mark.parametrize(
    ("path", "maker", "name", "count"),
    [
        ("clients", clients, "as_client", 1_000),
        ("features/4/clients", features, "as_client", 1_000),
        ("features", features, "feature_of", 5),
    ],
)
def test_a_long_read_lets_others_have_their_turn(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    maker: Any,
    name: str,
    count: int,
) -> None:
    turns = Turns()
    at_once = 200
    if count < at_once:
        at_once = 2
        monkeypatch.setattr("gateway.web.arrays.ELEMENTS_AT_ONCE_MAX", at_once)
    monkeypatch.setattr(maker, name, turns.watched(getattr(maker, name)))

    async def story(reader: Reader) -> None:
        keys = served.catalogues.keys(reader.door.instance)
        hosts = [f"STRING:h{number}" for number in range(1_000)]
        held = msgspec.msgpack.encode([("pages", 1, 0, 1)])
        await served.store.zadd(keys.seen, dict.fromkeys(hosts, 1))
        await served.store.hset(keys.holds, mapping=dict.fromkeys(hosts, held))
        async with turns:
            answer: httpx.Response = await reader.get(path)
        assert len(answer.json()) == sum(turns.made.values()) == count
        assert max(turns.made.values()) <= at_once

    reading(served, story)
