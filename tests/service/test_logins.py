"""The log-in: one refusal whatever was wrong, and what a session is that it begins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import CapturingLogger

from gateway.core.errors import (
    Unauthorized,
    UserAuthFailed,
)
from gateway.core.model import Role
from gateway.core.passwords import DECOY
from gateway.service import admin as admin_module
from tests.service.houses import (
    HASH,
    HERE,
    NOW_S,
    PASSWORD,
    At,
    House,
    ann,
    houses,
    refused,
)
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    with houses(shared_home) as run:
        yield run


def test_the_right_password_begins_a_session_of_a_day(at: At) -> None:
    async def story(house: House) -> None:
        issued = await house.admin.authorize(house.instance, "ann", PASSWORD, HERE)
        who = await house.enter(issued.token)
        assert (who.instance, who.user, who.roles) == (house.instance, "ann", {"ROLE_READ"})
        assert issued.expires_s == int(NOW_S) + 86_400
        assert who.session.issued_s == int(NOW_S)
        assert issued.token not in repr(issued)
        house.now_s = issued.expires_s
        assert type(await refused(house.enter(issued.token))) is Unauthorized

    at(story)


def test_a_login_with_a_password_that_is_replaced_meanwhile_is_worth_nothing(at: At) -> None:
    async def story(house: House) -> None:
        real = house.hashing.verify

        async def replaced(kept: str, password: bytes) -> bool:
            right = await real(kept, password)
            await house.put(ann(since_s=int(house.now_s) + 1))
            house.now_s += 1.2
            return right

        house.hashing.verify = replaced  # type: ignore[method-assign]
        token = await house.login()
        assert type(await refused(house.enter(token))) is Unauthorized

    at(story)


def test_each_session_has_an_xsrf_token_of_its_own(at: At) -> None:
    async def story(house: House) -> None:
        first, second = [await house.enter(await house.login()) for _ in range(2)]
        assert first.session.xsrf != second.session.xsrf
        assert len(first.session.xsrf) == 36

    at(story)


def test_whatever_is_wrong_with_a_login_is_one_answer_after_one_work(at: At) -> None:
    async def story(house: House) -> None:
        before = await house.store.catalogues.read(house.instance)
        answers = []
        for wrong in (
            {"password": "another one"},
            {"user": "bob"},
            {"user": "a/\x00\x1f é"},
            {"named": "NOSUCH"},
            {"named": "no such/{instance}"},
            {"named": "~"},
        ):
            await house.forget()
            error = await refused(house.login(**wrong))
            answers.append((type(error), error.message))
            assert error.arguments == (wrong.get("user", "ann"),)
        assert set(answers) == {(UserAuthFailed, "User name or password is wrong")}
        # Each was tried against one hash of the same cost, the decoy where there is none.
        assert house.hashing.seen == [HASH] + [DECOY] * 5
        assert DECOY.split("$")[:4] == HASH.split("$")[:4]
        after = await house.store.catalogues.read(house.instance)
        assert before is not None
        assert after is not None
        assert after.catalogue == before.catalogue

    at(story)


def test_a_damaged_hash_lets_nobody_in(at: At) -> None:
    async def story(house: House) -> None:
        await house.put(ann(password_hash=PASSWORD))
        assert type(await refused(house.login())) is UserAuthFailed

    at(story)


def test_the_default_instance_is_meant_by_its_sign(at: At) -> None:
    async def story(house: House) -> None:
        await house.put(ann(), default=True)
        token = await house.login(named="~")
        assert (await house.enter(token, named="~")).instance == house.instance
        assert (await house.enter(token)).instance == house.instance
        other = House(house.store, house.admin.key)
        await other.put(ann(), default=True)
        await house.put(ann(), default=False)
        assert type(await refused(house.enter(token, named="~"))) is Unauthorized
        await other.put(ann(), default=False)

    at(story)


def test_no_log_line_and_no_error_holds_a_password_or_a_token(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(admin_module, "_log", log)

    async def story(house: House) -> None:
        token = await house.login()
        errors = [
            await refused(house.login(password="hunter2-hunter2")),
            await refused(house.login(user="typed-password", password="hunter2-hunter2")),
            await refused(house.enter(token + "x")),
            await refused(house.enter(token, Role.ADMIN)),
        ]
        lines = log.calls
        told = repr(lines) + repr(house.admin)
        told += "".join(f"{error!r}{error}{error.__cause__!r}" for error in errors)
        assert [line.args for line in lines] == [("login",), ("login_failed",), ("login_failed",)]
        assert "hunter2" not in told
        assert PASSWORD not in told
        assert token not in told
        assert "typed-password" not in repr(lines)  # a name that nobody has may be a secret

    at(story)
