"""Instances whose record of usage is written and folded from behind, to be read by tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from gateway.store import usage
from gateway.store.opening import Store
from gateway.store.usage import Month, Record
from tests.stores.homes import Home

LINES = 40
_numbers = iter(range(1_000))


class House:
    """An instance of a test's own, whose record is written and folded from behind."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = store.catalogues.keys(f"RECORD-{next(_numbers)}")
        self.record = Record(store.client, self.keys)

    async def write(self, month: int, fields: dict[str, int]) -> None:
        await self.store.client.hset(self.keys.days(month), mapping=dict(fields))

    async def fold(self, month: int, line: str) -> None:
        """Move what a line has of a month, in one step."""
        client, keys = self.store.client, self.keys
        found: Any = await client.hkeys(keys.days(month))
        mine = [name.decode() for name in found if name.startswith(line.encode() + b"|")]
        moved = await self.store.scripts.fold.run(
            client,
            [keys.days(month), keys.month(month), keys.ledger],
            [month, msgspec.msgpack.encode([(line, mine)])],
        )
        assert moved == 1


At = Callable[[Callable[[House], Awaitable[None]]], None]


def houses(home: Home) -> Iterator[At]:
    """Give what tells a story to a new house, all on one store."""
    with asyncio.Runner() as runner:
        opened = home.open(partitions=8)
        store = runner.run(opened.__aenter__())

        def run(story: Callable[[House], Awaitable[None]]) -> None:
            async def told() -> None:
                await story(House(store))

            runner.run(told())

        try:
            yield run
        finally:
            runner.run(opened.__aexit__(None, None, None))


def units(month: Month) -> Counter[str]:
    sums: Counter[str] = Counter()
    for portion in month.portions():
        for name, value in portion:
            if name.endswith(b"|u"):
                sums[name.decode().split("|")[0]] += int(value)
    return sums


def of_month(month: int, each: int = 1) -> dict[str, int]:
    return {
        f"L{line}|{month}{day:02d}|u": each * line for line in range(LINES) for day in range(1, 29)
    }


EXPECTED = Counter({f"L{line}": 28 * line for line in range(LINES)})


@contextmanager
def between_reads(
    monkeypatch: pytest.MonkeyPatch, story: Callable[[], Awaitable[None]], *, of: str = ":days:"
) -> Any:
    """Do something each time a page of such a key was read, before the reader goes on."""
    real = usage.steps

    async def spied(client: Any, key: str, **how: Any) -> Any:
        async for fields in real(client, key, **how):
            yield fields
            if of in key:
                await story()

    with monkeypatch.context() as patched:
        patched.setattr(usage, "steps", spied)
        yield
