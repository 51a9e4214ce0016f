"""Who has something of a feature line, over HTTP: those who can give some of it back.

Source: protocols/cmapi.md 3.3 and 3.4, SEMANTICS 5 and 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.core.model import Role
from gateway.core.numbers import client_number, served_number
from gateway.service import features
from gateway.store import reads
from tests.vectors.served import Served, serving
from tests.web.readers import HOUR_MS, START, Reader, reading, refused


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("feature-clients")) as opened:
        yield opened


def test_clients_of_seats_are_those_who_hold_them(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("editor", 1, "h1", **{"borrow-interval": "1h"})
        await reader.at(START + 1_000)
        await reader.ask("editor", 2, "h2", **{"borrow-interval": "2h"})
        await reader.at(START + 2_000)
        await reader.ask("sessions", 1, "h1")
        found = await reader.read("features/3/clients")
        assert [each["id"] for each in found] == sorted(
            served_number("editor", f"STRING:{host}") for host in ("h1", "h2")
        )
        said = {
            each["client"]["hostid"]["hostidValue"]: (
                each["useCount"],
                each["usageKind"],
                each["client"]["updateTime"],
                each["client"]["expiry"],
            )
            for each in found
        }
        assert said == {
            "h1": (1, "CONCURRENT", "2026-03-02T10:00:02.000Z", "2026-03-02T11:00:00.000Z"),
            "h2": (2, "CONCURRENT", "2026-03-02T10:00:01.000Z", "2026-03-02T12:00:01.000Z"),
        }
        # What is consumed for good is nobody's to give back.
        assert await reader.read("features/1/clients") == []

    reading(served, story)


def test_clients_of_what_is_metered_and_reusable_hold_it(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("pages", 20)
        (found,) = await reader.read("features/4/clients")
        assert (found["useCount"], found["usageKind"]) == (20, "METERED")
        assert found["client"]["expiry"] == "permanent"

    reading(served, story)


def test_clients_of_what_is_consumed_are_those_who_can_undo_it(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("users", 7)
        await reader.at(START + 1_000)
        await reader.ask("users", 3, "h2")
        await reader.ask("users", -1, "h2")
        units = {
            each["client"]["hostid"]["hostidValue"]: each["useCount"]
            for each in await reader.read("features/2/clients")
        }
        assert units == {"h1": 7, "h2": 2}
        await reader.at(START + HOUR_MS)  # the last moment of the interval is inside
        assert len(await reader.read("features/2/clients")) == 2
        await reader.at(START + HOUR_MS + 1)
        (left,) = await reader.read("features/2/clients")
        assert left["useCount"] == 2
        assert (await reader.line("users"))["used"] == 9

    reading(served, story)


def test_pages_lead_from_one_to_the_next_and_show_everybody_once(served: Served) -> None:
    async def story(reader: Reader) -> None:
        for number in range(5):
            await reader.ask("pages", 1, f"h{number}")
        whole = await reader.get("features/4/clients?limit=5")
        assert "link" not in whole.headers
        found: list[int] = []
        url = httpx.URL(f"{reader.door.served.url}{reader.door.path('features/4/clients')}?limit=2")
        for left in (2, 1, 0):
            answer = await reader.desk.http.get(url, headers=reader.credential)
            found += [each["id"] for each in answer.json()]
            assert len(answer.json()) <= 2
            if left:
                assert answer.links["next"]["url"].startswith("?limit=2&after=")
                url = url.join(answer.links["next"]["url"])
        assert "link" not in answer.headers
        assert found == [each["id"] for each in whole.json()]
        assert len(found) == 5

    reading(served, story)


def test_a_client_is_here_what_it_is_among_the_clients(served: Served) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("editor", 1, "h1", **{"borrow-interval": "1h"})
        await reader.ask("pages", 1, "h1", **{"borrow-interval": "5h"})
        await reader.ask("editor", 1, "h2", **{"borrow-interval": "1h"})
        await reader.ask("pages", 1, "h2", **{"borrow-interval": "0"})
        await reader.at(START + 1_000)
        await reader.ask("users", 1, "h1")
        await reader.ask("users", 1, "h3")
        clients = {each["id"]: each for each in await reader.read("clients")}
        assert len({each["expiry"] for each in clients.values()}) == 3
        for number, hosts in ((2, 2), (3, 2), (4, 2)):
            found = await reader.read(f"features/{number}/clients")
            assert len(found) == hosts
            for each in found:
                assert each["client"] == clients[each["client"]["id"]]

    reading(served, story)


def test_a_dropped_client_that_can_still_undo_was_here_when_it_last_consumed(
    served: Served,
) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("users", 3)
        await reader.at(START + 1_000)
        await reader.ask("users", 4)
        await reader.at(START + 2_000)
        await reader.ask("editor", 1)
        path = reader.door.path(f"clients/{client_number('STRING:h1')}")
        answer = await reader.desk.http.delete(path, headers=reader.credential)
        assert answer.status_code == 200
        assert await reader.read("features/3/clients") == []
        for later_ms in (3_000, 4_000):
            await reader.at(START + later_ms)
            (left,) = await reader.read("features/2/clients")
            assert left["useCount"] == 7
            assert left["client"]["updateTime"] == "2026-03-02T10:00:01.000Z"
            assert left["client"]["expiry"] == left["client"]["updateTime"]

    reading(served, story, Role.READ, Role.DROPCLIENT)


def test_one_walks_over_the_hosts_of_an_instance_at_a_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, under_way, most = reads.read_holders, [], []

    async def watched(*args: Any, **more: Any) -> Any:
        under_way.append(args)
        most.append(len(under_way))
        try:
            return await walk(*args, **more)
        finally:
            under_way.pop()

    monkeypatch.setattr(reads, "read_holders", watched)

    async def story(reader: Reader) -> None:
        await reader.ask("pages", 1)
        paths = [f"features/{number}/clients" for number in (3, 4)] * 4
        answers = await asyncio.gather(*(reader.get(path) for path in paths))
        assert [len(answer.json()) for answer in answers] == [0, 1] * 4
        assert most == [1] * 8

    reading(served, story)


def test_who_waits_too_long_for_a_turn_is_told_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, begun, over = reads.read_holders, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        begun.set()
        await over.wait()
        return await walk(*args)

    monkeypatch.setattr(reads, "read_holders", slow)

    async def story(reader: Reader) -> None:
        await reader.ask("pages", 1)
        first = asyncio.create_task(reader.read("features/4/clients"))
        await begun.wait()
        with monkeypatch.context() as patch:
            patch.setattr(features, "WALK_S_MAX", 0.01)
            refused(await reader.get("features/3/clients"), 503, "unavailable")
        over.set()
        assert len(await first) == 1
        assert await reader.read("features/3/clients") == []

    reading(served, story)


@pytest.mark.parametrize("number", [2, 4])
def test_a_walk_that_takes_too_long_is_given_up_and_the_next_has_its_turn(
    served: Served, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def story(reader: Reader) -> None:
        await reader.ask("users", 1)
        await reader.ask("pages", 1)
        with monkeypatch.context() as patch:
            patch.setattr(features, "WALK_S_MAX", 0)
            answer = await reader.get(f"features/{number}/clients")
            refused(answer, 503, "unavailable")
            assert answer.json()["arguments"] == ["not_applied"]
        assert len(await reader.read(f"features/{number}/clients")) == 1

    reading(served, story)
