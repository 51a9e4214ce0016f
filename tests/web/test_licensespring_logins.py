"""Logging in as a LicenseSpring client, in the manner of either version, where calls demand it.

Source: protocols/licensespring.md 1, 1.5, 2, 2.3 and 10.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from gateway.core.base64url import b64url_decode
from gateway.core.floating_sessions import issue_floating
from gateway.core.sessions import Session, SessionKey
from gateway.protocols.openapi import operations
from gateway.protocols.openapi_licensespring import TAG as FLOATING
from tests.web.floats import INSTANCE, PASSWORD, Floats, floats_serving


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("guarded"), LICENSESPRING__AUTH="true") as opened:
        yield opened


def _claims(token: str) -> dict[str, Any]:
    head, payload, _ = token.split(".")
    said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"] == "HS256"
    return said


@pytest.mark.parametrize(("version", "user", "role"), [(1, "ann", "admin"), (2, "bob", "user")])
def test_a_log_in_opens_the_calls_that_demand_one(
    guarded: Floats, version: int, user: str, role: str
) -> None:
    async def story() -> None:
        client = guarded.client(version=version)
        closed = await client.add(1)
        assert (closed.status, closed.code) == (401, "unauthorized")
        if version == 1:
            assert closed.body["message"] == "Unauthorized: Please log in"
        assert await guarded.used() == {}
        answer = await client.login(user, PASSWORD)
        if version == 1:
            assert answer.body["message"] == "Login successful"
        else:
            assert set(answer.body) == {"token", "expires_at", "expires_in"}
        claims = _claims(answer.body["token"])
        if version == 2:
            ends_at = datetime.fromisoformat(answer.body["expires_at"])
            assert ends_at.timestamp() == claims["exp"] == claims["iat"] + answer.body["expires_in"]
        assert (claims["role"], claims["username"]) == (role, user)
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.add(1)).total == 1
        me = await client.send("GET", "/api/v5/auth/me")
        assert (me.body["username"], me.body["role"]) == (user, role)

    guarded.run(story)


def test_a_token_is_renewed_and_is_worth_nothing_once_its_user_is_gone(guarded: Floats) -> None:
    async def story() -> None:
        client = guarded.client()
        client.token = guarded.token("bob")
        fresh = await client.send("POST", "/api/v5/auth/refresh")
        assert set(fresh.body) == {"token"}
        client.token = fresh.body["token"]
        assert (await client.register()).status == 200
        await guarded.settle(users=())
        assert (await client.read()).status == 401
        over = await client.send("POST", "/api/v5/auth/refresh")
        assert (over.status, over.body["error"]) == (401, "Unauthorized")

    guarded.run(story)


@pytest.mark.parametrize(("version", "user"), [(1, "bob"), (2, "nobody")])
def test_a_wrong_log_in_is_the_documented_401(guarded: Floats, version: int, user: str) -> None:
    async def story() -> None:
        answer = await guarded.client(version=version).login(user, "wrong")
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.body["message"] == "Invalid username or password"
        assert ("error" in answer.body) == (version == 2)
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith("Basic" if version == 1 else "Bearer")

    guarded.run(story)


@pytest.mark.parametrize(
    "header", [None, "Basic", "Basic !", "Basic YQ==", "Bearer x", "Basic /w=="]
)
def test_what_is_no_basic_log_in_is_the_same_401(guarded: Floats, header: str | None) -> None:
    async def story() -> None:
        headers = {} if header is None else {"Authorization": header}
        answer = await guarded.client(version=1).send("GET", "/auth", headers=headers)
        assert (answer.status, answer.body["message"]) == (401, "Invalid username or password")

    guarded.run(story)


@pytest.mark.slow
def test_log_ins_are_limited_as_those_of_administrators(guarded: Floats) -> None:
    async def story() -> None:
        for _ in range(40):
            answer = await guarded.client().login("bob", "wrong")
            if answer.status == 429:
                break
        assert answer.code == "too_many_requests"
        assert int(answer.headers["retry-after"]) >= 1

    guarded.run(story)


def test_neither_kind_of_token_is_good_for_the_other(guarded: Floats) -> None:
    async def story() -> None:
        client, http = guarded.client(), guarded.served.http
        client.token = guarded.token("ann", floating=False)
        assert (await client.read()).status == 401
        path = f"/api/1.0/instances/{INSTANCE}/features"
        statuses = [
            (await http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code
            for token in (guarded.token("ann"), guarded.token("ann", floating=False))
        ]
        assert statuses == [401, 200]

    guarded.run(story)


def test_a_log_in_works_where_none_is_demanded_and_syncs_are_for_administrators(
    guarded: Floats,
) -> None:
    with floats_serving(guarded.data_dir) as floats:

        async def story() -> None:
            client = floats.client()
            for user, status in (("", 401), ("bob", 403), ("ann", 200)):
                client.token = floats.token(user) if user else ""
                assert (await client.send("GET", "/api/v5/sync")).status == status
                assert (await client.add(1)).status == 200
            assert (await client.login("bob", PASSWORD)).status == 200

        floats.run(story)


OPEN = {"/", "/auth", "/api/v5/ping", "/api/v5/auth/login"}
DOORS = [(each.method, each.path) for each in operations() if each.tag == FLOATING]


def test_every_other_door_is_closed_to_whoever_has_no_token_of_this_instance(
    guarded: Floats,
) -> None:
    assert {path for _, path in DOORS} >= OPEN

    async def story() -> None:
        said = Session("ann", "OTHER", frozenset({"ROLE_ADMIN"}), 1, 2**40, "")
        secret = b64url_decode(guarded.secret)
        assert secret is not None
        _, claims, _ = guarded.token("ann").split(".")
        nobody = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
        tokens = (
            *("", "x", f"{nobody}.{claims}.", guarded.token("ann", floating=False)),
            issue_floating(SessionKey(secret), said),
        )
        body = {"product": "PROD", "user": "a", "username": "a", "feature": "cad", "enabled": False}
        async with guarded.nothing_moves():
            for method, path in DOORS:
                if path in OPEN:
                    continue
                for token in tokens:
                    client = guarded.client()
                    client.token = token
                    sent = None if method == "GET" else body
                    answer = await client.send(method, re.sub(r"\{\w+\}", "77", path), sent)
                    assert (answer.status, answer.code) == (401, "unauthorized"), (path, token)

    guarded.run(story)


def test_a_door_is_closed_before_a_body_is_judged(guarded: Floats) -> None:
    async def story() -> None:
        for path in ("/api/v4/add_consumption", "/api/v5/license/None/consumption/add"):
            answer = await guarded.client().send("POST", path, {"consumptions": "x"})
            assert answer.status == 401

    guarded.run(story)
