"""Hosts are told page by page, none is missed whoever asks meanwhile; a number finds its host.

On a real store, whose set of hosts a test fills and moves as requests would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.core.errors import Unavailable
from gateway.core.model import Held
from gateway.core.numbers import client_number
from gateway.store import clients
from gateway.store.clients import Asked, Hosts
from gateway.store.opening import Store
from tests.stores.homes import Home

Seen = dict[str, int]
Run = Callable[[Callable[["House"], Awaitable[None]]], None]


class House:
    """An instance whose hosts a test writes."""

    def __init__(self, store: Store, instance: str) -> None:
        self.store, self.instance = store, instance
        self.hosts = Hosts(store.client, store.partitions)
        self.keys = store.catalogues.keys(instance)

    async def see(self, seen: Seen) -> None:
        await self.store.client.zadd(self.keys.seen, seen)  # type: ignore[arg-type]

    async def page(self, after: tuple[int, int] | None, limit: int) -> tuple[list[Asked], bool]:
        return await self.hosts.page(self.instance, after, limit)

    async def all(self, limit: int, between: Callable[[int], Awaitable[None]]) -> list[Asked]:
        """Read page by page; `between` two of them something may happen."""
        found: list[Asked] = []
        after, more, number = None, True, 0
        while more:
            page, more = await self.page(after, limit)
            found += page
            after = (page[-1].at_ms, page[-1].number) if page else None
            number += 1
            assert number < 100
            await between(number)
        return found


@pytest.fixture(scope="module")
def run(shared_home: Home) -> Iterator[Run]:
    with asyncio.Runner() as runner:
        opened = shared_home.open(partitions=4)
        store = runner.run(opened.__aenter__())
        numbers = iter(range(1_000))

        def told(story: Callable[[House], Awaitable[None]]) -> None:
            async def whole() -> None:
                await story(House(store, f"HOUSE-{next(numbers)}"))

            runner.run(whole())

        try:
            yield told
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def nothing(_: int) -> None:
    return None


def names(found: list[Asked]) -> list[str]:
    return [each.host for each in found]


@pytest.fixture(params=[3, 1_000], ids=["small parts", "one part"])
def _parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PART_HOSTS", request.param)


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("limit", [1, 2, 7, 40])
def test_pages_tell_every_host_once_by_last_request_then_name(run: Run, limit: int) -> None:
    async def story(house: House) -> None:
        # Many of one moment: a store whose clock was put back gives one to all.
        seen = {f"STRING:h{number:02d}": 100 + number // 9 for number in range(36)}
        seen["STRING:é"] = seen["USER:\U0001f600"] = 101
        await house.see(seen)
        expected = sorted(seen, key=lambda host: (seen[host], host.encode()))
        assert names(await house.all(limit, nothing)) == expected

    run(story)


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("equal", [1, 5, 40])
def test_whoever_asks_meanwhile_moves_and_nobody_is_missed(run: Run, equal: int) -> None:
    async def story(house: House) -> None:
        seen = {f"STRING:h{number:02d}": 100 + number // equal for number in range(40)}
        await house.see(seen)
        hosts = sorted(seen)

        async def moving(page: int) -> None:
            if page < 12:  # some that were told, some that were not, some on which a page ended
                await house.see(
                    {hosts[(page * 3) % 40]: 500 + page, hosts[(page * 4 - 1) % 40]: 500 + page}
                )

        found = await house.all(4, moving)
        assert set(names(found)) == set(seen)

    run(story)


def test_when_the_last_one_told_has_moved_its_moment_is_told_again(run: Run) -> None:
    async def story(house: House) -> None:
        await house.see({"STRING:a": 1, "STRING:b": 2, "STRING:c": 2, "STRING:d": 2})
        page, more = await house.page(None, 3)
        assert (names(page), more) == (["STRING:a", "STRING:b", "STRING:c"], True)
        await house.see({"STRING:c": 9})
        page, more = await house.page((2, client_number("STRING:c")), 3)
        assert (names(page), more) == (["STRING:b", "STRING:d", "STRING:c"], False)

    run(story)


@pytest.mark.parametrize("replies", [1, 2], ids=["after a part", "after a look at the rank"])
@pytest.mark.parametrize("moved", [["STRING:h2"], ["STRING:h1"], ["STRING:h0", "STRING:h1"]])
def test_a_host_that_moves_within_a_walk_hides_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, moved: list[str], replies: int
) -> None:
    """Between two parts of a walk those told, or the last of them, go to the end."""
    monkeypatch.setattr(clients, "PART_HOSTS", 3)
    asked: Any = clients.answered

    async def story(house: House) -> None:
        seen = {f"STRING:h{number}": 1 for number in range(9)}
        await house.see(seen)
        told = iter(range(1, 100))

        async def moving(call: Awaitable[Any]) -> Any:
            reply = await asked(call)
            if next(told) == replies:
                await house.see(dict.fromkeys(moved, 5))
            return reply

        monkeypatch.setattr(clients, "answered", moving)
        page, more = await house.page(None, 9)
        assert set(names(page)) == set(seen)
        assert not more

    run(story)


def test_a_walk_that_is_never_done_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PART_HOSTS", 2)
    monkeypatch.setattr(clients, "PARTS_MAX", 3)

    async def story(house: House) -> None:
        await house.see({f"STRING:h{number}": number for number in range(9)})
        with pytest.raises(Unavailable) as refused:
            await house.page(None, 9)
        assert refused.value.outcome == "not_applied"

    run(story)


def test_an_instance_that_nobody_asked_has_no_hosts(run: Run) -> None:
    async def story(house: House) -> None:
        assert await house.page(None, 10) == ([], False)
        assert await house.page((5, 7), 10) == ([], False)
        assert await house.hosts.numbered(house.instance, 7) == []
        assert await house.hosts.held(house.instance, []) == []
        assert await house.hosts.held(house.instance, ["STRING:h1"]) == [[]]

    run(story)


def test_a_number_finds_its_host_among_many(run: Run) -> None:
    async def story(house: House) -> None:
        seen = {f"STRING:h{number}": number for number in range(2_500)}
        await house.see(seen)
        for host in ("STRING:h0", "STRING:h2499"):
            found = await house.hosts.numbered(house.instance, client_number(host))
            assert found == [Asked(seen[host], host)]
        assert await house.hosts.numbered(house.instance, client_number("STRING:x")) == []

    run(story)


def test_two_hosts_of_one_number_are_both_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "client_number", lambda host: 7 if host < "STRING:c" else 8)

    async def story(house: House) -> None:
        await house.see({"STRING:b": 1, "STRING:a": 2, "STRING:c": 3})
        found = await house.hosts.numbered(house.instance, 7)
        assert found == [Asked(1, "STRING:b"), Asked(2, "STRING:a")]

    run(story)


def test_what_hosts_hold_is_told_in_their_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PART_HOSTS", 2)
    packed = clients.msgspec.msgpack.encode([("L1", 2, 77, 2), ("L2", 1, 0, 1)])

    async def story(house: House) -> None:
        await house.store.client.hset(house.keys.holds, "STRING:b", packed)  # type: ignore[misc]
        held = await house.hosts.held(house.instance, ["STRING:a", "STRING:c", "STRING:b"])
        assert held == [[], [], [Held("L1", 2, 77), Held("L2", 1, 0)]]

    run(story)
