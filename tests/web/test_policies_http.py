"""The policies of an instance over HTTP: what is in force, what can be changed, all or nothing.

Source: protocols/cmapi.md 3.3, 7.1 and 8.7.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import CapturingLogger

from gateway.core.model import Role
from gateway.protocols.cmapi_server import Policies, PolicyChange
from gateway.service import policies
from gateway.store.catalogues import CatalogueConflict, Catalogues
from gateway.store.rewriting import WRITE_TRIES_MAX
from tests.vectors.served import Served
from tests.web.clerks import Clerk, at_clerk
from tests.web.desks import without_ids
from tests.web.doors import BODY_BYTES_MAX, RELEASE, door_serving

DEFAULTS = {
    "licensing.borrowInterval": "1w",
    "licensing.borrowIntervalMax": "365d",
    "licensing.renewInterval": 15,
    "licensing.defaultBorrowGranularity": "SECOND",
    "licensing.allowVirtualClients": True,
    "licensing.allowVirtualServer": True,
    "licensing.allowDuplicateClients": False,
    "licensing.trackDeniedRequests": True,
    "security.enabled": True,
    "security.anonymous": False,
    "security.token.duration": "1d",
    "gateway.requireSignedPayload": False,
    "gateway.requireExp": True,
}
CHANGED = {
    "licensing.borrowInterval": "2h",
    "licensing.borrowIntervalMax": "90m",
    "gateway.requireSignedPayload": True,
    "gateway.requireExp": False,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def at_admin(served: Served, story: Any, *roles: Role, **changes: Any) -> None:
    at_clerk(served, story, *(roles or (Role.READ, Role.ADMIN)), **changes)


async def patch(clerk: Clerk, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = clerk.header | {"Content-Type": "application/json"} | headers
    return await clerk.send("PATCH", "policies", headers=sent, content=content)


async def in_force(clerk: Clerk) -> Any:
    answer = await clerk.get("policies")
    assert answer.status_code == 200
    return answer.json()


def test_a_new_instance_has_the_documented_policies(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        answer = await clerk.get("policies")
        assert (answer.status_code, answer.json()) == (200, DEFAULTS)
        assert answer.headers["content-type"] == "application/json"
        assert msgspec.json.decode(answer.content, type=Policies)
        for path in ("/api/1.0/policies", "/api/1.0/instances/~/policies"):
            assert without_ids(await clerk.get("", url=path)) == without_ids(answer)

    at_admin(served, story, default=True)


@pytest.mark.parametrize("names", [[name] for name in CHANGED] + [list(CHANGED)])
def test_what_can_be_changed_is_in_force_at_once(served: Served, names: list[str]) -> None:
    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        asked = {name: CHANGED[name] for name in names}
        assert msgspec.convert(asked, PolicyChange)
        answer = await patch(clerk, asked)
        assert (answer.status_code, answer.json()) == (200, DEFAULTS | asked)
        assert await in_force(clerk) == DEFAULTS | asked
        after = await clerk.catalogue()
        assert after.version == before.version + 1
        assert (after.lines, after.keys, after.users) == (before.lines, before.keys, before.users)

    at_admin(served, story)


def test_a_grant_follows_the_policies(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        first = await clerk.ask("h1", ("editor", 1), borrow="0")
        assert first["serverLicenseRenewInterval"] == 90_720
        assert (await patch(clerk, {"licensing.borrowInterval": "1000s"})).status_code == 200
        second = await clerk.ask("h1", ("editor", 1), borrow="0")
        assert second["serverLicenseRenewInterval"] == 150
        assert (await patch(clerk, {"gateway.requireSignedPayload": True})).status_code == 200
        assert (await clerk.door.knock(RELEASE)).status_code == 401

    at_admin(served, story)


@pytest.mark.parametrize(
    "body",
    [{}, DEFAULTS, {"licensing.borrowInterval": "7d"}, {"licensing.borrowInterval": "604800"}],
    ids=range(4),
)
def test_what_changes_nothing_writes_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(policies, "_log", log)

    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        answer = await patch(clerk, body)
        assert (answer.status_code, answer.json()) == (200, DEFAULTS)
        assert await clerk.catalogue() == before
        assert log.calls == []

    at_admin(served, story)


REFUSED: list[tuple[Any, str, list[str]]] = [
    (
        {"licensing.borrowInterval": "1h", "licensing.renewInterval": 20},
        "licensing.renewInterval: it cannot be changed here and is 15",
        ["licensing.renewInterval"],
    ),
    (
        {"security.anonymous": True},
        "security.anonymous: it cannot be changed here and is false",
        ["security.anonymous"],
    ),
    (
        {"security.enabled": 1},
        "security.enabled: it cannot be changed here and is true",
        ["security.enabled"],
    ),
    (
        {"security.token.duration": "2d"},
        'security.token.duration: it cannot be changed here and is "1d"',
        ["security.token.duration"],
    ),
    (
        {"licensing.borrowInterval": "0"},
        "licensing.borrowInterval must be a duration of at least 1s, not '0'",
        ["licensing.borrowInterval"],
    ),
    (
        {"licensing.borrowIntervalMax": "1y"},
        'licensing.borrowIntervalMax must be a duration such as "1h", up to "3660d", not \'1y\'',
        ["licensing.borrowIntervalMax"],
    ),
    (
        {"licensing.borrowInterval": 3600},
        'licensing.borrowInterval must be a duration such as "1h", up to "3660d", not 3600',
        ["licensing.borrowInterval"],
    ),
    (
        {"gateway.requireExp": "false", "gateway.requireSignedPayload": True},
        "gateway.requireExp must be true or false, not 'false'",
        ["gateway.requireExp"],
    ),
    (
        {"gateway.requireExp": False, "licensing.responseLifetime": "1d", "x" * 99: None},
        f"licensing.responseLifetime: there is no such policy; {'x' * 64}: there is no such policy",
        ["licensing.responseLifetime", "x" * 64],
    ),
    ([], "The body must be a JSON object", ["body"]),
    (b"", "The body is not JSON", ["body"]),
    (b'{"gateway.requireExp": false', "The body is not JSON", ["body"]),
    (b'{"a":' * 9_000, "The body is not JSON", ["body"]),
    ({str(number): 1 for number in range(65)}, "The body may have 64 members", ["body"]),
]


@pytest.mark.parametrize(("body", "message", "arguments"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_told_whole_and_changes_nothing(
    served: Served, body: Any, message: str, arguments: list[str]
) -> None:
    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        answer = await patch(clerk, body)
        assert answer.status_code == 400
        expected = {"key": "gateway.badRequest", "message": message, "arguments": arguments}
        assert answer.json() == expected
        assert await clerk.catalogue() == before

    at_admin(served, story)


def test_a_body_of_another_type_or_size_changes_nothing(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        body = json.dumps(CHANGED).encode()
        odd = await patch(clerk, body, **{"Content-Type": "application/merge-patch+json"})
        assert (odd.status_code, odd.json()["key"]) == (415, "gateway.unsupportedMediaType")
        long = await patch(clerk, body + b" " * BODY_BYTES_MAX)
        assert (long.status_code, long.json()["key"]) == (413, "gateway.tooLarge")
        assert await clerk.catalogue() == before

    at_admin(served, story)


@pytest.mark.parametrize(
    ("method", "roles", "role"),
    [
        ("GET", (Role.ADMIN, Role.PRODUCER), "ROLE_READ"),
        ("PATCH", (Role.READ, Role.PRODUCER), "ROLE_ADMIN"),
        ("PATCH", (Role.DROPCLIENT, Role.RESERVATIONS), "ROLE_ADMIN"),
    ],
)
def test_no_other_role_will_do(
    served: Served, method: str, roles: tuple[Role, ...], role: str
) -> None:
    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        for content in (json.dumps(CHANGED), "nonsense"):
            answer = await clerk.send(method, "policies", content=content)
            assert (answer.status_code, answer.json()["arguments"]) == (403, [role])
        assert await clerk.catalogue() == before

    at_admin(served, story, *roles)


def test_another_instances_session_is_none_here(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        other = Clerk(clerk.door, {"Authorization": "Bearer x"})
        assert (await patch(other, CHANGED)).status_code == 401
        assert (await other.get("policies")).status_code == 401
        assert await clerk.catalogue() == before

    at_admin(served, story)


def test_changes_at_once_are_all_made(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        answers = await asyncio.gather(
            *(patch(clerk, {name: value}) for name, value in CHANGED.items())
        )
        assert [answer.status_code for answer in answers] == [200] * len(CHANGED)
        assert await in_force(clerk) == DEFAULTS | CHANGED

    at_admin(served, story)


def test_a_catalogue_that_never_stands_still_is_unavailable(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter(range(100))

    async def overtaken(*_: Any) -> Any:
        next(tries)
        raise CatalogueConflict("overtaken")

    async def story(clerk: Clerk) -> None:
        before = await clerk.catalogue()
        monkeypatch.setattr(Catalogues, "put", overtaken)
        answer = await patch(clerk, CHANGED)
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["arguments"]) == (503, ["not_applied"])
        assert next(tries) == WRITE_TRIES_MAX
        assert await clerk.catalogue() == before

    at_admin(served, story)


def test_the_log_tells_who_changed_which_policies(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(policies, "_log", log)

    async def story(clerk: Clerk) -> None:
        await patch(clerk, {"gateway.requireExp": False, "licensing.borrowInterval": "1w"})
        (line,) = log.calls
        assert (line.method_name, line.args) == ("info", ("policies_changed",))
        assert line.kwargs == {
            "instance": clerk.door.instance,
            "user": "ann",
            "policies": ["gateway.requireExp"],
        }

    at_admin(served, story)


def test_other_methods_are_refused_and_head_is_answered(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        head = await clerk.send("HEAD", "policies")
        assert (head.status_code, head.content) == (200, b"")
        put = await clerk.send("PUT", "policies", content="{}")
        assert (put.status_code, put.json()["key"]) == (405, "gateway.methodNotAllowed")
        assert {each.strip() for each in put.headers["allow"].split(",")} == {
            "GET",
            "HEAD",
            "PATCH",
        }
        short = await clerk.send("PATCH", "", url="/api/1.0/policies", content="{}")
        assert short.status_code == 405

    at_admin(served, story)
