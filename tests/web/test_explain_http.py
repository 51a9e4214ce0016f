"""Why a request came to what it came to, over HTTP: told with the counters as they stood before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from msgspec.structs import replace

from gateway.core.model import LINES_PER_FEATURE_MAX, Role
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
        (wanted,) = users["wants"]
        (line,) = users["lines"]
        assert wanted == {
            "version": "0", "asked": 7, "granted": 5, "code": "FEATURE_COUNT_INSUFFICIENT",
            "why": "Of 7 asked for there were 5", "candidates": [line["featureId"]],
        }  # fmt: skip
        assert line == {
            "featureId": line["featureId"], "version": "1.0", "excludedBy": None, "capacity": 12,
            "used": 7, "elsewhere": 0, "held": 0, "available": 5, "undoable": None, "starts": None,
            "expires": None, "change": 5,
        }  # fmt: skip
        assert [(each["granted"], each["code"]) for each in sessions["wants"]] == [(2, None)]

    desk_at(served, story)


def test_all_or_nothing_tells_which_feature_stood_in_the_way(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("sessions", 1), want("editor", 1, "9.0"), want("ghost")], "B-1")
        told = (await why(desk, "B-1", headers)).json()
        sessions, editor, ghost = (each["wants"][0] for each in told["features"])
        assert [each["granted"] for each in (sessions, editor, ghost)] == [0, 0, 0]
        assert "another feature fell short" in sessions["why"]
        assert (editor["code"], editor["candidates"]) == ("VERSION_TOO_HIGH", [])
        assert editor["why"].startswith("No line of it has this version or a higher one")
        assert [line["excludedBy"] for line in told["features"][1]["lines"]] == ["VERSION_TOO_HIGH"]
        assert (ghost["code"], told["features"][2]["lines"]) == ("FEATURE_NOT_FOUND", [])

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
        assert (editor["wants"][0]["granted"], line["change"]) == (3, 1)
        assert told["heldBefore"] == {line["featureId"]: 2}
        assert told["heldAfter"] == {line["featureId"]: 3}

    desk_at(served, story)


def test_what_the_list_left_out_is_told_as_released(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("editor", 2), want("pages", 20)])
        before = (await desk.catalogue()).lines
        lines = {line.feature: line.id for line in before}
        await ask(desk, [want("sessions", 1)], "R-1")
        told = (await why(desk, "R-1", headers)).json()
        held = {lines["editor"]: 2, lines["pages"]: 20}
        assert (told["heldBefore"], told["heldAfter"], told["released"]) == (held, {}, held)
        await ask(desk, [want("editor", 1), want("pages", 3)])
        await ask(desk, [], "R-2")
        told = (await why(desk, "R-2", headers)).json()
        held = {lines["editor"]: 1, lines["pages"]: 3}
        assert (told["features"], told["released"]) == ([], held)
        await ask(desk, [want("editor", 1)])
        await ask(desk, [want("pages", 60)], "R-3")
        told = (await why(desk, "R-3", headers)).json()
        assert (told["heldAfter"], told["released"]) == ({lines["editor"]: 1}, {})
        await ask(desk, [want("pages", 2)], "R-4", incremental=True)
        told = (await why(desk, "R-4", headers)).json()
        assert told["heldAfter"] == {lines["editor"]: 1, lines["pages"]: 2}
        assert told["released"] == {}

    desk_at(served, story)


def test_returns_and_undo_are_told_in_their_own_words(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("users", 4), want("editor", 2)])
        more = {"incremental": True, "partial": True}
        await ask(desk, [want("users", -6), want("editor", -3)], "U-1", **more)
        users, editor = (await why(desk, "U-1", headers)).json()["features"]
        assert users["wants"][0]["why"] == "Of 6 to be undone 4 could be"
        assert users["wants"][0]["code"] == "UNDO_WINDOW_CLOSED"
        assert (users["wants"][0]["granted"], users["lines"][0]["change"]) == (-4, -4)
        assert (users["lines"][0]["undoable"], users["lines"][0]["available"]) == (4, None)
        assert editor["wants"][0]["why"] == "Of 3 to be returned the host held 2"
        assert (editor["wants"][0]["granted"], editor["lines"][0]["change"]) == (-2, -2)
        await ask(desk, [want("sessions", -1)], "U-2", **more)
        (sessions,) = (await why(desk, "U-2", headers)).json()["features"]
        assert sessions["wants"][0]["code"] == "CONSUMED_NOT_RETURNABLE"
        await ask(desk, [want("editor", 1)])
        await ask(desk, [want("editor", 0)], "U-3")
        (editor,) = (await why(desk, "U-3", headers)).json()["features"]
        assert editor["wants"][0]["why"] == "The host was to hold none of it"
        assert editor["lines"][0]["change"] == -1

    desk_at(served, story)


def test_several_versions_of_a_name_are_wants_of_one_feature(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        asked = [want("sessions", 5, "1.0"), want("sessions", 2, "2.0")]
        await ask(desk, asked, "V-1", partial=True)
        (sessions,) = (await why(desk, "V-1", headers)).json()["features"]
        high, low = sessions["wants"]
        assert (high["version"], high["granted"], high["candidates"]) == ("2.0", 0, [])
        (line,) = sessions["lines"]
        assert (low["version"], low["granted"], low["candidates"]) == (
            "1.0", 5, [line["featureId"]],
        )  # fmt: skip
        assert (line["excludedBy"], line["change"]) == (None, 5)

    desk_at(served, story)


def test_a_later_change_of_the_catalogue_changes_nothing_of_it(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("editor", 1, "3.0")], "W-1")
        first = (await why(desk, "W-1", headers)).json()
        lines = [replace(line, version="4.0", count=9) for line in (await desk.catalogue()).lines]
        await desk.door.put(lines=tuple(lines))
        assert (await why(desk, "W-1", headers)).json() == first
        assert [line["version"] for line in first["features"][0]["lines"]] == ["2.0"]

    desk_at(served, story)


def test_of_very_many_lines_the_first_are_kept_and_the_rest_is_counted(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        (model,) = (line for line in (await desk.catalogue()).lines if line.feature == "sessions")
        lines = [
            replace(model, id=f"M{name}-{n:02}", feature=f"many-{name}", number=0)
            for name in range(5)
            for n in range(LINES_PER_FEATURE_MAX)
        ]
        await desk.door.put(lines=tuple(lines))
        await ask(desk, [want(f"many-{name}") for name in range(5)], "X-1")
        told = (await why(desk, "X-1", headers)).json()["features"]
        assert [len(each["lines"]) for each in told] == [64, 64, 64, 64, 0]
        assert [each["linesOmitted"] for each in told] == [0, 0, 0, 0, 64]
        assert [each["wants"][0]["granted"] for each in told] == [1] * 5

    desk_at(served, story)


def test_a_repeat_keeps_the_first_ones_why_and_a_denial_is_kept_too(served: Served) -> None:
    async def story(desk: Desk) -> None:
        headers = await opened(desk)
        await ask(desk, [want("editor", 4)], "D-1")
        first = (await why(desk, "D-1", headers)).json()
        assert first["features"][0]["wants"][0]["granted"] == 0
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
        assert told.json()["features"][0]["wants"][0]["granted"] == 1

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
