"""The clients of an instance over HTTP: who asked, until when it holds something, page by page.

Source: protocols/cmapi.md 3.3 and 3.4, RFC 8288.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from gateway.core.model import Role
from gateway.core.moments import iso
from gateway.core.numbers import client_number
from tests.vectors.served import Served, serving
from tests.web.clerks import Clerk, at_clerk
from tests.web.desks import without_ids

SHORT = "/api/1.0/clients"
AHEAD = "gw:ahead"  # how far the store's clock is in front of ours, in ms
PRELUDE = f"""
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + (redis.call('GET', '{AHEAD}') or 0)
end
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("door"), prelude=PRELUDE) as opened:
        yield opened


def at_reader(served: Served, story: Any, *roles: Role, **changes: Any) -> None:
    at_clerk(served, story, *(roles or (Role.READ,)), **changes)


async def see(clerk: Clerk, seen: dict[str, int]) -> None:
    """Let hosts have asked at given moments."""
    keys = clerk.served.catalogues.keys(clerk.door.instance)
    await clerk.served.store.zadd(keys.seen, seen)


def test_who_asked_is_told_in_the_order_of_the_last_request(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        assert (await clerk.get("clients")).json() == []
        before_ms = time.time() * 1000
        for host in ("h2", "h1", "h2"):
            await clerk.ask(host, ("sessions", 1))
        answer = await clerk.get("clients")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert "link" not in answer.headers
        said = answer.json()
        assert [each["hostid"]["hostidValue"] for each in said] == ["h1", "h2"]
        moment = datetime.fromisoformat(said[0]["updateTime"]).timestamp() * 1000
        assert before_ms - 1 <= moment <= time.time() * 1000
        assert said[0] == {
            "id": client_number("STRING:h1"),
            "serverHostid": {"hostidType": "STRING", "hostidValue": clerk.door.instance},
            "requestHostid": {"hostidType": "STRING", "hostidValue": "h1"},
            "hostid": {"hostidType": "STRING", "hostidValue": "h1"},
            "hostType": "CLIENT",
            "machineType": "UNKNOWN",
            "correlationId": "",
            "collectedHostIds": [],
            "trusted": True,
            "requestOperation": "REQUEST",
            "servedStatus": "NORMAL",
            "updateTime": said[0]["updateTime"],
            "expiry": said[0]["updateTime"],  # what it consumed is not held
        }

    at_reader(served, story)


def test_the_expiry_is_the_last_lapse_of_what_is_held(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1), ("pages", 2), borrow="1h")
        await clerk.ask(
            "h2", ("pages", 2), borrow="0"
        )  # without an interval, on a line without an expiry
        await clerk.ask("h3", ("editor", 1), borrow="30m")
        await clerk.ask("h3")
        first, second, third = (await clerk.get("clients")).json()
        lapses_ms = datetime.fromisoformat(first["updateTime"]).timestamp() * 1000 + 3_600_000
        assert first["expiry"] == iso(-(-round(lapses_ms) // 1000) * 1000)
        assert second["expiry"] == "permanent"
        assert third["expiry"] == third["updateTime"]

    at_reader(served, story)


def test_what_has_lapsed_is_not_held_any_more(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await clerk.ask("h1", ("editor", 1), borrow="1h")
        (client,) = (await clerk.get("clients")).json()
        assert client["expiry"] > client["updateTime"]
        await served.store.set(AHEAD, 3_601_000)
        try:
            (client,) = (await clerk.get("clients")).json()
        finally:
            await served.store.delete(AHEAD)
        assert client["expiry"] == client["updateTime"]

    at_reader(served, story)


@pytest.mark.parametrize("limit", [1, 3, 5, 100])
def test_pages_follow_each_other_by_their_link(served: Served, limit: int) -> None:
    async def story(clerk: Clerk) -> None:
        seen = {f"STRING:h{number}": 1_000 + number // 4 for number in range(10)}
        await see(clerk, seen)
        found: list[str] = []
        url = httpx.URL(served.url).join(clerk.door.path("clients") + f"?limit={limit}")
        for _ in range(11):
            answer = await clerk.http.get(url, headers=clerk.header)
            assert len(answer.json()) <= limit
            found += [each["hostid"]["hostidValue"] for each in answer.json()]
            if "link" not in answer.headers:
                break
            assert "h" not in answer.headers["link"].split("after=")[1].split(">")[0]
            url = url.join(answer.links["next"]["url"])
        assert found == [f"h{number}" for number in range(10)]

    at_reader(served, story)


def test_the_short_form_tells_of_the_default_instance_and_its_link_stays_short(
    served: Served,
) -> None:
    async def story(clerk: Clerk) -> None:
        await see(clerk, {"STRING:a": 1, "STRING:b": 2})
        long = await clerk.get("clients?limit=1")
        for path in (SHORT, "/api/1.0/instances/~/clients"):
            answer = await clerk.get("", url=path + "?limit=1")
            assert without_ids(answer) == without_ids(long)
            url = answer.request.url.join(answer.links["next"]["url"])
            assert url.path == path

    at_reader(served, story, default=True)


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("?limit=0", "limit"),
        ("?limit=10001", "limit"),
        ("?limit=all", "limit"),
        ("?limit", "limit"),
        ("?after=h1", "after"),
        ("?after=1-2&after=1-2", "after"),
        ("?%FF=%FF", "query"),
    ],
)
def test_a_query_that_asks_for_no_page_is_refused(served: Served, query: str, member: str) -> None:
    async def story(clerk: Clerk) -> None:
        answer = await clerk.get("clients" + query)
        assert (answer.status_code, answer.json()["key"]) == (400, "gateway.badRequest")
        assert answer.json()["arguments"] == [member]

    at_reader(served, story)


@pytest.mark.parametrize(
    "roles", [(Role.ADMIN,), (Role.DROPCLIENT, Role.RESERVATIONS, Role.PRODUCER)]
)
def test_no_other_role_reads_clients(served: Served, roles: tuple[Role, ...]) -> None:
    async def story(clerk: Clerk) -> None:
        answer = await clerk.get("clients?limit=nonsense")
        assert (answer.status_code, answer.json()["arguments"]) == (403, ["ROLE_READ"])

    at_reader(served, story, *roles)


def test_head_is_answered_as_get_is_without_a_body(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        await see(clerk, {"STRING:a": 1, "STRING:b": 2})
        path = clerk.door.path("clients") + "?limit=1"
        got = await clerk.http.get(path, headers=clerk.header)
        headed = await clerk.http.head(path, headers=clerk.header)
        assert (headed.status_code, headed.content) == (200, b"")
        assert headed.headers["content-length"] == str(len(got.content))
        assert headed.headers["link"] == got.headers["link"]

    at_reader(served, story)
