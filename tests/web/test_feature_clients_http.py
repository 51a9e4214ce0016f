"""Who has something of a feature line, over HTTP: those who can give some of it back.

Source: protocols/cmapi.md 3.3 and 3.4, SEMANTICS 5 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from gateway.core.numbers import served_number
from tests.vectors.served import Served, serving
from tests.web.readers import HOUR_MS, START, Reader, reading


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
