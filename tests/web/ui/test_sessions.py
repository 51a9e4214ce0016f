"""Sessions at the pages: what their cookie is worth, where, and until when.

Law: RELIABILITY 3. A session is worth what its user may do now, on every replica, and lasts no
longer than it is used. It is nobody's but the user's it was begun for.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from gateway.config import load_config
from gateway.core.base64url import b64url_decode
from gateway.core.model import Role, User
from gateway.core.page_sessions import IDLE_S, SESSION_S, verify_page_session
from gateway.core.passwords import hash_password
from gateway.core.sessions import SessionKey
from gateway.store.keys import META
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import open_gateway
from tests.vectors.patience import SETTINGS
from tests.vectors.served import Served
from tests.web.clerks import session as token_of
from tests.web.desks import HASH, PASSWORD
from tests.web.doors import Ahead, Door
from tests.web.servers import run, self_signed
from tests.web.ui.visitors import (
    XSS,
    Visit,
    Visitor,
    at_visitor,
    cookies_of,
    is_sent_to_login,
    text_of,
)
from tests.web.whole import gateway_standing

SESSION, TOLD = "gateway_session", "gateway_told"


def test_a_cookie_is_kept_from_scripts_other_sites_and_other_instances(served: Served) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.log_in()
        parts = cookies_of(answer)[SESSION].split("; ")[1:]
        assert set(parts) == {"HttpOnly", "SameSite=Lax", f"Path={ann.base}"}

    at_visitor(served, story, log_in=False)


def test_a_login_begins_a_session_of_its_own_whatever_cookie_was_there(served: Served) -> None:
    """A session that somebody else chose is not continued (fixation)."""

    async def story(ann: Visit) -> None:
        cookie = ann.http.cookies[SESSION]
        victim = ann.returned(cookie)
        entered = cookies_of(await victim.log_in())[SESSION]
        assert cookie not in entered
        victim.http.cookies.clear()
        victim.http.cookies.set(SESSION, entered.partition("=")[2].partition(";")[0])
        assert await ann.xsrf() != await victim.xsrf()

    at_visitor(served, story)


def test_a_token_of_the_api_is_no_session_and_a_session_is_no_token(served: Served) -> None:
    async def story(ann: Visit) -> None:
        token = (await token_of(ann.door, Role.READ))["Authorization"].removeprefix("Bearer ")
        assert is_sent_to_login(await ann.returned(token).get())
        header = {"Authorization": f"Bearer {ann.http.cookies[SESSION]}"}
        answer = await ann.http.get(ann.door.path("features"), headers=header)
        assert answer.status_code == 401

    at_visitor(served, story)


def test_a_session_is_good_at_its_own_instance_only(served: Served) -> None:
    cookies = []

    async def one(ann: Visit) -> None:
        cookies.append(ann.http.cookies[SESSION])

    async def other(ann: Visit) -> None:
        assert is_sent_to_login(await ann.returned(cookies[0]).get())

    at_visitor(served, one)
    at_visitor(served, other)


def test_a_cookie_that_was_changed_is_none(served: Served) -> None:
    async def story(ann: Visit) -> None:
        cookie = ann.http.cookies[SESSION]
        head, payload, mac = cookie.split(".")
        for changed in (
            f"{head}.{payload}.{'A' * len(mac)}",
            f"{head}.{payload[:-4]}AAAA.{mac}",
            f"{head}.{payload}.",
            f"{payload}.{mac}",
            f"{cookie}.",
            "a.b.c",
            "x" * 5_000,
            '"',
        ):
            assert is_sent_to_login(await ann.returned(changed).get()), changed

    at_visitor(served, story)


def test_a_session_that_is_not_used_ends_and_use_keeps_it(served: Served, ahead: Ahead) -> None:
    async def story(ann: Visit) -> None:
        for _ in range(3):
            ahead.s += IDLE_S - 60
            await ann.page()
        ahead.s += IDLE_S + 1
        answer = await ann.get("licences")
        assert is_sent_to_login(answer)
        assert "You were logged in before; that is over." in await ann.follow(answer)

    at_visitor(served, story)


def test_a_refresh_that_nobody_asked_for_keeps_no_session(served: Served, ahead: Ahead) -> None:
    async def story(ann: Visit) -> None:
        for _ in range(2):
            ahead.s += IDLE_S / 2 - 30
            answer = await ann.http.get(f"{ann.base}/", headers={"Gateway-Refresh": "1"})
            assert answer.status_code == 200
            assert SESSION not in cookies_of(answer)
        ahead.s += 61
        assert is_sent_to_login(await ann.get())

    at_visitor(served, story)


def test_a_session_ends_in_time_however_much_it_is_used(served: Served, ahead: Ahead) -> None:
    async def story(ann: Visit) -> None:
        while ahead.s < SESSION_S - IDLE_S:
            ahead.s += IDLE_S - 60
            await ann.page()
        ahead.s = SESSION_S + 1
        assert is_sent_to_login(await ann.get())

    at_visitor(served, story)


def test_logging_out_ends_the_session_and_takes_its_cookie_away(served: Served) -> None:
    async def story(ann: Visit) -> None:
        cookie, other = ann.http.cookies[SESSION], ann.stranger()
        await other.log_in()
        answer = await ann.send("", "logout")
        assert "Max-Age=0" in cookies_of(answer)[SESSION]
        assert "You are logged out." in await ann.follow(answer)
        assert is_sent_to_login(await ann.returned(cookie).get())
        await other.page()  # another session of the same user is another one

    at_visitor(served, story)


def test_a_session_ended_at_one_replica_is_over_at_the_other(tmp_path: Path) -> None:
    async def told() -> None:
        environ = SETTINGS | {"GATEWAY_REDIS__URL": f"unix://{tmp_path / 'valkey.sock'}"}
        config = load_config(None, environ, {"data_dir": tmp_path / "other"})
        async with (
            gateway_standing(tmp_path) as (_, served),
            open_gateway(config, Lifecycle(), forward=False) as app,
        ):
            await out_here_over_there(served, app)

    run(told())


async def out_here_over_there(served: Served, app: Any) -> None:
    door = Door(served)
    await door.put(users=(User("ann", HASH, (Role.READ.value,)),))
    transport = httpx.ASGITransport(app)
    async with (
        httpx.AsyncClient(base_url=served.url, timeout=60) as here,
        httpx.AsyncClient(transport=transport, base_url=served.url, timeout=60) as there,
    ):
        ann, again = Visitor(door, here), Visitor(door, there)
        await ann.log_in()
        there.cookies.set(SESSION, here.cookies[SESSION], "127.0.0.1", ann.base)
        await again.page()
        await ann.send("", "logout")
        assert is_sent_to_login(await again.get())


def test_under_tls_cookies_are_sent_by_no_other_way(tmp_path: Path) -> None:
    """The gateway's own TLS, and that of a proxy which it trusts; of nobody else."""

    async def own() -> None:
        certificate, key = self_signed(tmp_path)
        settings = {"SERVER__TLS_CERT": str(certificate), "SERVER__TLS_KEY": str(key)}
        async with gateway_standing(tmp_path / "own", **settings) as (_, served):
            assert "Secure" in await put_at(served)

    async def behind() -> None:
        proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
        for trusted, secure in (("127.0.0.1", True), ("192.0.2.9", False)):
            settings = {"SERVER__TRUSTED_PROXIES": trusted}
            async with gateway_standing(tmp_path / trusted, **settings) as (_, served):
                assert ("Secure" in await put_at(served, **proxied)) is secure

    run(own())
    run(behind())


async def put_at(served: Served, **headers: str) -> list[str]:
    """Log in at a door, and give the attributes of the cookie."""
    door = Door(served)
    await door.put(users=(User("ann", HASH, (Role.READ.value,)),))
    form = {"instance": door.instance, "user": "ann", "password": PASSWORD}
    answer = await served.http.post("/ui/login", data=form, headers=headers)
    assert answer.status_code == 303, answer.text
    return cookies_of(answer)[SESSION].split("; ")


def test_who_is_removed_or_gets_another_password_is_out_at_once(served: Served) -> None:
    async def story(ann: Visit) -> None:
        bob = await ann.join("bob", Role.READ)
        now_s = int(time.time()) + 2
        new = User("bob", hash_password(b"another password", bytes(16)), ("ROLE_READ",), now_s)
        await ann.put(users=(*(await ann.catalogue()).users[:1], new))
        assert is_sent_to_login(await bob.get())
        await ann.put(users=())
        assert is_sent_to_login(await ann.get())

    at_visitor(served, story)


def test_who_lacks_a_role_is_told_which_and_can_go_elsewhere(served: Served) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.get("licences")
        assert answer.status_code == 403
        assert "Role ROLE_READ is required" in text_of(answer)
        assert "Log out" in answer.text
        assert 'aria-label="Pages"' in answer.text
        assert "You are logged out." in await ann.follow(await ann.send("", "logout"))

    async def lost_it(ann: Visit) -> None:
        await ann.page()
        users = (User("ann", HASH, (Role.ADMIN.value,)),)
        await ann.put(users=users)
        assert (await ann.get()).status_code == 403

    at_visitor(served, story, Role.ADMIN)
    at_visitor(served, lost_it)


def test_a_page_says_nothing_that_somebody_else_would_have_it_say(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for value in (XSS, ann.http.cookies[SESSION], "a.b.c"):
            ann.http.cookies.set(TOLD, value, "127.0.0.1", ann.base)
            answer = await ann.get()
            assert answer.status_code == 200
            assert 'class="told"' not in answer.text
            assert "Max-Age=0" in cookies_of(answer)[TOLD]

    at_visitor(served, story)


async def key_of(served: Served) -> SessionKey:
    secret = b64url_decode(await served.store.hget(META, "session_key"))
    assert secret is not None
    return SessionKey(secret)


def test_a_cookie_says_who_and_until_when_and_no_password(served: Served) -> None:
    async def story(ann: Visit) -> None:
        cookie, now_s = ann.http.cookies[SESSION], time.time()
        key = await key_of(served)
        session = verify_page_session(key, cookie, instance=ann.door.instance, now_s=now_s)
        assert session is not None
        assert (session.user, session.instance) == ("ann", ann.door.instance)
        assert session.expires_s - session.issued_s == SESSION_S
        assert session.idle_s - session.issued_s <= IDLE_S + 60
        assert session.id not in str(await ann.state())

    at_visitor(served, story)
