"""Why a request came to what it came to, over HTTP: told with the counters as they stood before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from gateway.core.model import Role
from tests.vectors.credentials import keys_of
from tests.vectors.served import Served, serving
from tests.web.desks import Desk, desk_at

HOST = {"type": "string", "value": "h1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that keeps why for an hour."""
    data_dir = tmp_path_factory.mktemp("why")
    with serving(data_dir, prelude=None, EXPLAIN__RETENTION="1h") as opened:
        yield opened


async def opened(desk: Desk) -> dict[str, str]:
    await desk.open(Role.READ, keys=keys_of("own"))
    return await desk.header()


async def ask(desk: Desk, features: list[Any], id: str | None = None, **more: Any) -> Any:
    headers = {} if id is None else {"Idempotency-Key": id}
    body = {"hostId": HOST, "features": features, **more}
    answer = await desk.door.knock(body, headers)
    assert answer.status_code == 200, answer.text
    return answer


async def why(desk: Desk, id: str, headers: dict[str, str]) -> httpx.Response:
    path = desk.door.path(f"requests/{quote(id, safe='')}")
    return await desk.http.get(path, headers=headers)


def want(name: str, count: int = 1, version: str = "0") -> dict[str, Any]:
    return {"name": name, "version": version, "count": count}


def test_a_partial_grant_is_told_with_what_was_used_before(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("users", 7)])
        answer = await ask(desk, [want("users", 7), want("sessions", 2)], "A-1", partial=True)
        told = (await why(desk, "A-1", headers)).json()
        assert told["id"] == "A-1"
        assert told["instanceId"] == desk.door.instance
        assert told["transactionTime"] == answer.headers["Gateway-Transaction-Time"]
        assert told["catalogueVersion"] == (await desk.catalogue()).version
        assert told["request"] == {
            "hostId": HOST, "incremental": False, "partial": True, "borrowIntervalSeconds": 0,
            "selectorsDictionary": {},
        }  # fmt: skip
        users, sessions = told["features"]
        assert (users["asked"], users["granted"]) == (7, 5)
        assert users["code"] == "FEATURE_COUNT_INSUFFICIENT"
        assert users["why"] == "Of 7 asked for there were 5"
        (line,) = users["lines"]
        assert line == {
            "featureId": line["featureId"], "version": "1.0", "candidate": True,
            "excludedBy": None, "capacity": 12, "used": 7, "held": 0, "available": 5,
            "starts": None, "expires": None, "granted": 5,
        }  # fmt: skip
        assert (sessions["granted"], sessions["code"]) == (2, None)

    desk_at(served, story)


def test_all_or_nothing_tells_which_feature_stood_in_the_way(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("sessions", 1), want("editor", 1, "9.0"), want("ghost")], "B-1")
        told = (await why(desk, "B-1", headers)).json()
        assert [each["granted"] for each in told["features"]] == [0, 0, 0]
        sessions, editor, ghost = told["features"]
        assert "another feature fell short" in sessions["why"]
        assert editor["code"] == "VERSION_TOO_HIGH"
        assert editor["why"].startswith("No line has this version or a higher one")
        assert [line["excludedBy"] for line in editor["lines"]] == ["VERSION_TOO_HIGH"]
        assert (ghost["code"], ghost["lines"]) == ("FEATURE_NOT_FOUND", [])

    desk_at(served, story)


def test_what_the_host_held_before_is_told_and_counts_for_it(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("editor", 2)])
        await ask(desk, [want("editor", 3)], "C-1")
        told = (await why(desk, "C-1", headers)).json()
        (editor,) = told["features"]
        (line,) = editor["lines"]
        assert (line["used"], line["held"], line["available"]) == (2, 2, 3)
        assert (editor["granted"], line["granted"]) == (3, 1)
        assert told["heldAfter"] == {line["featureId"]: 3}
        await ask(desk, [], "C-2")
        told = (await why(desk, "C-2", headers)).json()
        assert (told["features"], told["heldAfter"]) == ([], {})

    desk_at(served, story)


def test_a_repeat_keeps_the_first_ones_why_and_a_denial_is_kept_too(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("editor", 4)], "D-1")
        first = (await why(desk, "D-1", headers)).json()
        assert first["features"][0]["granted"] == 0
        await ask(desk, [want("sessions", 40)])
        await ask(desk, [want("editor", 4)], "D-1")
        assert (await why(desk, "D-1", headers)).json() == first

    desk_at(served, story)


def test_a_request_without_an_id_is_found_by_the_gateways_own(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        answer = await ask(desk, [want("sessions")])
        own = answer.headers["Gateway-Request-Id"]
        told = await why(desk, own, headers)
        assert told.status_code == 200
        assert told.json()["features"][0]["granted"] == 1

    desk_at(served, story)


def test_an_id_may_be_any_visible_text_and_belongs_to_its_instance(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        odd = "a/b?c=%d&../" + "x" * 200
        await ask(desk, [want("sessions")], odd)
        assert (await why(desk, odd, headers)).json()["id"] == odd
        for unknown in ("a/b", "x" * 300, "é"):
            missing = await why(desk, unknown, headers)
            assert missing.status_code == 404
            assert missing.json()["key"] == "gateway.notFound"

    desk_at(served, story)


def test_it_takes_the_role_to_read(served: Served) -> None:
    async def story(desk: Desk) -> None:
        await desk.open(Role.ADMIN, keys=keys_of("own"))
        headers = await desk.header()
        await ask(desk, [want("sessions")], "E-1")
        refused = await why(desk, "E-1", headers)
        assert (refused.status_code, refused.json()["arguments"]) == (403, ["ROLE_READ"])
        assert (await why(desk, "E-1", {})).status_code == 401
        token = {"Authorization": (await desk.door.knock()).request.headers["Authorization"]}
        assert (await why(desk, "E-1", token)).status_code == 401

    desk_at(served, story)


def test_nothing_is_kept_of_previews_and_errors(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        before = await served.keys()
        preview = await desk.door.knock({"hostId": HOST}, endpoint="preview_request")
        wrong = await desk.door.knock({"hostId": HOST, "features": 1}, {"Idempotency-Key": "F-1"})
        assert (preview.status_code, wrong.status_code) == (200, 400)
        assert {key for key in await served.keys() - before if ":e:" in key} == set()
        assert (await why(desk, "F-1", headers)).status_code == 404

    desk_at(served, story)


def test_it_is_kept_as_long_as_the_setting_says(served: Served) -> None:
    async def story(desk: Desk) -> None:
        await opened(desk)
        before = await served.keys()
        await ask(desk, [want("sessions")], "G-1")
        (kept,) = [key for key in await served.keys() - before if ":e:" in key]
        assert re.fullmatch(r"gw:\{p\d+\}:e:[\w-]{22}", kept)
        assert 3_590_000 < await served.store.pttl(kept) <= 3_600_000

    desk_at(served, story)


def test_without_the_setting_nothing_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, prelude=None) as silent:

        async def story(desk: Desk) -> None:
            headers = await opened(desk)
            await ask(desk, [want("sessions")], "H-1")
            assert not [key for key in await silent.keys() if ":e:" in key]
            assert "explain.retention" in (await why(desk, "H-1", headers)).json()["message"]

        desk_at(silent, story)
