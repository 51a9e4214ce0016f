"""Administration over HTTP: logging in, and one refusal at every door of it.

Source: protocols/cmapi.md 3.3, 5.5 and 7.1, SEMANTICS 10.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from gateway.core.model import Role
from gateway.service import admin, licensing_keys
from gateway.web import endpoints
from tests.vectors.credentials import token
from tests.vectors.served import Served
from tests.web.desks import (
    AUTHORIZE,
    KEYS,
    LOGIN,
    OTHER,
    OWN,
    PASSWORD,
    Desk,
    desk_at,
    without_ids,
)
from tests.web.doors import BODY_BYTES_MAX, GOOD, Door, door_serving, impatient_serving, speak


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


def test_the_answer_is_the_documented_one(served: Served) -> None:
    async def story(desk: Desk) -> None:
        answer = await desk.login()
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert len(answer.headers["gateway-request-id"]) == 22
        said = answer.json()
        assert set(said) == {"expires", "token"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", said["expires"])
        head, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=="))
            for part in said["token"].split(".")[:2]
        )
        assert head == {"typ": "JWT", "alg": "HS512"}
        assert set(claims) == {"sub", "iss", "iat", "exp", "roles", "xsrfToken"}
        assert (claims["sub"], claims["iss"]) == ("ann", desk.door.instance)
        assert claims["roles"] == "ROLE_ADMIN,ROLE_READ"
        assert claims["exp"] - claims["iat"] == 86_400
        assert abs(claims["iat"] - time.time()) < 60

    desk_at(served, story, Role.READ, Role.ADMIN)


def test_every_failed_login_is_one_answer(served: Served) -> None:
    async def story(desk: Desk) -> None:
        before = await desk.catalogue()
        wrong = {"user": "ann", "password": "another one"}
        answers = [
            await desk.login(wrong),
            await desk.login(wrong, "NOSUCH"),
            await desk.login(wrong, "~"),
            await desk.login(wrong, "no such"),
            await desk.login(LOGIN, "NOSUCH"),
        ]
        assert len({without_ids(answer) for answer in answers}) == 1
        assert answers[0].status_code == 401
        assert answers[0].json() == {
            "key": "gateway.userAuthFailed",
            "message": "User name or password is wrong",
            "arguments": ["ann"],
        }
        unknown = await desk.login({"user": "bob", "password": PASSWORD})
        assert unknown.json() == {**answers[0].json(), "arguments": ["bob"]}
        assert await desk.catalogue() == before

    desk_at(served, story)


def test_guessing_is_stopped_and_told_when_to_try_again(served: Served) -> None:
    async def story(desk: Desk) -> None:
        wrong = {"user": "ann", "password": "another one"}
        assert [(await desk.login(wrong)).status_code for _ in range(11)] == [401] * 10 + [429]
        answer = await desk.login()
        assert (answer.status_code, answer.json()["key"]) == (429, "gateway.tooManyRequests")
        assert 1 <= int(answer.headers["retry-after"]) <= 300
        assert answer.json()["arguments"] == []

    desk_at(served, story)


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[]", "body"),
        (b"[" * 30_000, "body"),
        (b'{"user":"ann"}', "password"),
        (b'{"password":"s3cret-s3cret"}', "user"),
        (b'{"user":1,"password":"s3cret-s3cret"}', "user"),
        (b'{"user":"","password":"s3cret-s3cret"}', "user"),
        (b'{"user":"' + b"a" * 256 + b'","password":"s3cret-s3cret"}', "user"),
        (b'{"user":"ann","password":""}', "password"),
        (b'{"user":"ann","password":["s3cret-s3cret"]}', "password"),
        (b'{"user":"ann","password":"' + b"s3cret" * 200 + b'"}', "password"),
        (b'{"user":"ann","password":"s3cret\\ud800"}', "body"),
        (b'{"user":"ann","password":"s3cret', "body"),
    ],
    ids=range(15),
)
def test_a_body_that_is_no_login_is_refused_and_not_repeated(
    served: Served, body: bytes, member: str
) -> None:
    async def story(desk: Desk) -> None:
        answer = await desk.http.post(desk.door.path(AUTHORIZE), content=body)
        assert (answer.status_code, answer.json()["key"]) == (400, "gateway.badRequest")
        assert answer.json()["arguments"] == [member]
        assert "s3cret" not in answer.text
        assert not [key for key in await served.keys() if ":l:" in key]  # no attempt was made

    desk_at(served, story)


def test_http_itself_is_checked_as_elsewhere(served: Served) -> None:
    async def story(desk: Desk) -> None:
        login, keys = desk.door.path(AUTHORIZE), desk.door.path(KEYS)
        header = await desk.header()
        before = await desk.catalogue()
        for status, key, answer in [
            (415, "unsupportedMediaType", await desk.http.post(login, data=LOGIN)),
            (415, "unsupportedMediaType", await desk.http.post(
                login, json=LOGIN, headers={"Content-Encoding": "gzip"})),
            (415, "unsupportedMediaType", await desk.http.post(
                login, content=b"{}", headers={"Content-Type": "application/jose"})),
            (415, "unsupportedMediaType", await desk.http.post(keys, json={}, headers=header)),
            (413, "tooLarge", await desk.http.post(login, content=b" " * (BODY_BYTES_MAX + 1))),
            (413, "tooLarge", await desk.upload(b" " * (BODY_BYTES_MAX + 1), **header)),
            (405, "methodNotAllowed", await desk.http.get(login)),
            (405, "methodNotAllowed", await desk.http.get(keys, headers=header)),
            (405, "methodNotAllowed", await desk.http.put(keys, headers=header)),
            (404, "notFound", await desk.http.post(login + "/", json=LOGIN)),
        ]:  # fmt: skip
            assert (answer.status_code, answer.json()["key"]) == (status, f"gateway.{key}")
        assert set((await desk.http.get(keys)).headers["allow"].split(", ")) == {"POST", "DELETE"}
        assert await desk.catalogue() == before

    desk_at(served, story)


def test_a_login_whose_body_stays_away_is_given_up(tmp_path: Path) -> None:
    async def story(desk: Desk) -> None:
        async def half() -> Any:
            yield (
                f"POST {desk.door.path(AUTHORIZE)} HTTP/1.1\r\nHost: x\r\n"
                "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
            ).encode()

        status, said = await speak(desk.door.served, half())
        assert (status, said["key"]) == (408, "gateway.requestTimeout")

    with impatient_serving(tmp_path) as impatient:
        desk_at(impatient, story)


def test_a_role_that_is_not_asked_for_is_refused_by_name(served: Served) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        before = await desk.catalogue()
        for answer in (
            await desk.upload(OTHER, **header),
            await desk.upload(b"nonsense", "?kid=", **header),
            await desk.remove(**header),
        ):
            assert answer.status_code == 403
            assert answer.json() == {
                "key": "gateway.forbidden",
                "message": "Role ROLE_ADMIN is required",
                "arguments": ["ROLE_ADMIN"],
            }
        assert await desk.catalogue() == before

    desk_at(served, story, Role.READ, Role.RESERVATIONS, Role.DROPCLIENT)


def test_whoever_is_no_administrator_here_gets_one_answer(served: Served) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        other = Desk(Door(served))
        await other.open()
        foreign = await other.header()
        await desk.upload(OWN, **header)
        before = await desk.catalogue()
        good = header["Authorization"]
        capability = {"Authorization": f"Bearer {token()}"}
        answers = []
        for instance, sent in (
            (None, {}),
            (None, {"Authorization": "Bearer a.b.c"}),
            (None, {"Authorization": good.replace("Bearer", "Basic")}),
            (None, {"Authorization": good[:-1] + ("A" if good[-1] != "A" else "Q")}),
            (None, capability),
            (None, foreign),
            ("NOSUCH", header),
            ("no such", header),
            ("~", header),
            (other.door.instance, header),
        ):
            answers.append(await desk.upload(OTHER, instance=instance, **sent))
            answers.append(await desk.upload(b"nonsense", "?kid=", instance=instance, **sent))
            answers.append(await desk.remove(instance=instance, **sent))
        # An administrator's token is none for access requests, and gets the very same answer.
        answers.append(await desk.door.knock(GOOD, header, credential="none"))
        assert len({without_ids(answer) for answer in answers}) == 1
        assert answers[0].status_code == 401
        assert answers[0].json()["key"] == "gateway.unauthorized"
        assert await desk.catalogue() == before
        assert (await other.catalogue()).keys == ()
        assert await desk.door.used() == {}

    desk_at(served, story)


def test_a_user_who_was_removed_is_nobody_at_once(served: Served) -> None:
    async def story(desk: Desk) -> None:
        header = await desk.header()
        assert (await desk.upload(OWN, **header)).status_code == 200
        await desk.door.put(users=())
        before = await desk.catalogue()
        assert (await desk.remove(**header)).status_code == 401
        assert await desk.catalogue() == before

    desk_at(served, story)


def test_no_log_line_holds_a_password_or_a_token(
    served: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = CapturingLogger()
    for module in (admin, licensing_keys, endpoints):
        monkeypatch.setattr(module, "_log", log)

    async def story(desk: Desk) -> None:
        header = await desk.header()
        await desk.login({"user": "ann", "password": "hunter2-hunter2"})
        await desk.upload(OWN, **header)
        await desk.upload(OWN, **{"Authorization": header["Authorization"] + "x"})
        await desk.remove(**header)
        assert [line.args[0] for line in log.calls] == [
            "login",
            "login_failed",
            "licensing_key_uploaded",
            "licensing_key_removed",
        ]
        told = repr(log.calls) + "".join(capfd.readouterr())
        assert header["Authorization"].split()[1] not in told
        assert "hunter2" not in told
        assert PASSWORD not in told

    desk_at(served, story)


def test_a_surprise_tells_a_request_id_and_nothing_else(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(endpoints, "_log", log)

    def broken(kept: str, password: bytes) -> bool:
        raise RuntimeError("broken")

    async def story(desk: Desk) -> None:
        monkeypatch.setattr(admin, "verify_password", broken)
        answer = await desk.login()
        assert answer.status_code == 500
        assert answer.json() == {
            "key": "gateway.internalError",
            "message": "Internal error",
            "arguments": [answer.headers["gateway-request-id"]],
        }
        assert PASSWORD not in repr(log.calls)

    desk_at(served, story)
