"""Health, instance information and reservation groups over HTTP, in both forms of path.

Source: protocols/cmapi.md 3.3 and 3.4.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.core.errors import Unavailable
from gateway.core.model import Role
from gateway.protocols.cmapi_server import Health, health_of
from gateway.service import server as service
from gateway.service.policies import InstancePolicies
from gateway.service.server import Server, distribution_version
from gateway.web import cmapi_server
from gateway.web.app import make_app
from gateway.web.bodies import Limits
from tests.vectors.served import Served
from tests.web.clerks import Clerk, at_clerk
from tests.web.desks import without_ids
from tests.web.doors import Door, at, door_serving

VERSION = version("cmapi-gateway")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def test_anybody_is_told_that_the_server_is_well(served: Served) -> None:
    async def story(door: Door) -> None:
        answer = await door.served.http.get(door.path("health"))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        expected = {
            "version": VERSION,
            "buildDate": "unknown",
            "buildVersion": VERSION,
            "branch": "unknown",
            "patch": VERSION.split(".")[2],
            "fneBuildVersion": "none",
            "serverInstanceID": door.instance,
            "database": {"connectionCheck": "success"},
        }
        assert list(answer.json()) == ["LLS"]
        assert list(answer.json()["LLS"].items()) == list(expected.items())
        assert msgspec.json.decode(answer.content, type=Health)

    at(served, story)


def test_health_does_not_tell_which_instances_exist(served: Served) -> None:
    async def story(door: Door) -> None:
        here = await door.served.http.get(door.path("health"))
        nowhere = await door.served.http.get(door.path("health", "NOWHERE"))
        said = nowhere.json()
        assert (nowhere.status_code, said["LLS"].pop("serverInstanceID")) == (200, "NOWHERE")
        known = here.json()
        del known["LLS"]["serverInstanceID"]
        assert said == known
        odd = await door.served.http.get(door.path("health", "%3Cb%3E"))
        assert odd.json()["LLS"]["serverInstanceID"] == "~"

    at(served, story)


def test_the_default_instance_is_named_once_there_is_one(tmp_path: Path) -> None:
    with door_serving(tmp_path) as served:

        async def story(door: Door) -> None:
            for path in ("/api/1.0/health", "/api/1.0/instances/~/health"):
                answer = await door.served.http.get(path)
                assert answer.json()["LLS"]["serverInstanceID"] == "~"
            await door.put(default=True)
            for path in ("/api/1.0/health", "/api/1.0/instances/~/health"):
                answer = await door.served.http.get(path)
                assert answer.json()["LLS"]["serverInstanceID"] == door.instance

        at(served, story)


async def never() -> bool:
    await asyncio.Event().wait()
    return True


async def lost() -> bool:
    raise StoreConnectionError("gone")


async def unavailable() -> bool:
    raise Unavailable("gone", "not_applied")


async def no() -> bool:
    return False


@pytest.mark.parametrize("reachable", [never, lost, unavailable, no])
@pytest.mark.parametrize("path", ["instances/DEMO/health", "instances/~/health", "health"])
def test_a_store_that_does_not_answer_in_time_is_a_failure(
    reachable: Callable[[], Awaitable[bool]], path: str
) -> None:
    async def main() -> httpx.Response:
        nobody: Any = None  # whom health does not ask
        server = Server(nobody, reachable, "1.2.3", look_s=0.02)
        app = make_app(cmapi_server.routes(server, InstancePolicies(nobody), Limits()))
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return await http.get(f"/api/1.0/{path}")

    answer = asyncio.run(main())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    instance = "DEMO" if "DEMO" in path else "~"
    assert answer.json() == json.loads(
        msgspec.json.encode(health_of("1.2.3", instance, connected=False))
    )
    assert answer.json()["LLS"]["database"] == {"connectionCheck": "failure"}


def test_an_administrator_is_told_which_instance_it_is(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        expected = {"instanceId": clerk.door.instance, "name": "plant", "version": VERSION}
        for url in (None, "/api/1.0/instances/~"):
            answer = await clerk.get("", url=url)
            assert (answer.status_code, answer.json()) == (200, expected)
        assert (await clerk.get("", url="/api/1.0")).status_code == 404
        await clerk.door.put(default=False)

    at_clerk(served, story, Role.READ, name="plant", default=True)


def test_there_are_no_reservation_groups(served: Served) -> None:
    async def story(clerk: Clerk) -> None:
        answer = await clerk.get("reservationgroups")
        assert (answer.status_code, answer.json()) == (200, [])
        short = await clerk.get("", url="/api/1.0/reservationgroups")
        assert without_ids(short) == without_ids(answer)
        posted = await clerk.send("POST", "reservationgroups", json={})
        assert (posted.status_code, posted.json()["key"]) == (405, "gateway.methodNotAllowed")
        await clerk.door.put(default=False)

    at_clerk(served, story, Role.READ, default=True)


@pytest.mark.parametrize("path", ["", "reservationgroups"])
def test_reads_ask_for_their_role_and_for_a_session(served: Served, path: str) -> None:
    async def story(clerk: Clerk) -> None:
        answer = await clerk.get(path)
        assert (answer.status_code, answer.json()["arguments"]) == (403, ["ROLE_READ"])
        nobody = await clerk.get(path, headers={})
        assert (nobody.status_code, nobody.json()["key"]) == (401, "gateway.unauthorized")

    at_clerk(served, story, Role.ADMIN, Role.PRODUCER)


@pytest.mark.parametrize("path", ["", "health", "reservationgroups"])
def test_head_is_answered_as_get_is_without_a_body(served: Served, path: str) -> None:
    async def story(clerk: Clerk) -> None:
        got, headed = await clerk.get(path), await clerk.send("HEAD", path)
        assert (headed.status_code, headed.content) == (200, b"")
        assert headed.headers["content-length"] == str(len(got.content))

    at_clerk(served, story, Role.READ)


def test_a_gateway_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distribution_version() == VERSION
    monkeypatch.setattr(service, "_DISTRIBUTION", "no-such-distribution-of-ours")
    assert distribution_version() == "unknown"
    assert health_of("unknown", "~", connected=True).server.patch == "0"
