"""The log-in: one refusal whatever was wrong, and a bounded number of guesses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import CapturingLogger

from gateway.core.errors import (
    TooManyRequests,
    Unauthorized,
    UserAuthFailed,
)
from gateway.core.model import Role
from gateway.core.passwords import DECOY
from gateway.service import admin as admin_module
from gateway.service.admin import WAITING_MAX
from gateway.store.logins import WINDOW_MS, site_of
from tests.service.houses import (
    HASH,
    HERE,
    NOW_S,
    PASSWORD,
    PER_ADDRESS_MAX,
    PER_USER_MAX,
    At,
    House,
    ann,
    houses,
    refused,
)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[At]:
    with houses(tmp_path_factory.mktemp("houses")) as run:
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


# Attempts -------------------------------------------------------------------------------------


def test_a_name_that_failed_too_often_waits_even_with_the_right_password(at: At) -> None:
    async def story(house: House) -> None:
        for _ in range(PER_USER_MAX):
            assert type(await refused(house.login(password="wrong one"))) is UserAuthFailed
        looked_at = len(house.hashing.seen)
        for _ in range(3):
            error = await refused(house.login())
            assert isinstance(error, TooManyRequests)
            assert 1 <= error.retry_after_s <= WINDOW_MS // 1000
        # No password was looked at, and no attempt counted: neither for the name nor the address.
        assert len(house.hashing.seen) == looked_at
        assert (await house.count(), await house.count_of_address()) == (PER_USER_MAX,) * 2
        assert isinstance(await refused(house.login(address=HERE)), TooManyRequests)
        assert type(await refused(house.login(user="bob"))) is UserAuthFailed
        await house.forget()
        assert await house.login()

    at(story)


def test_a_name_that_nobody_has_is_bounded_alike(at: At) -> None:
    async def story(house: House) -> None:
        kinds = [type(await refused(house.login(user="bob"))) for _ in range(PER_USER_MAX + 1)]
        assert kinds == [UserAuthFailed] * PER_USER_MAX + [TooManyRequests]

    at(story)


def test_the_window_is_as_long_as_it_says_and_starts_with_the_first(at: At) -> None:
    async def story(house: House) -> None:
        key = house.admin.catalogues.keys(house.instance).logins("ann")
        await refused(house.login(password="wrong one"))
        assert WINDOW_MS - 60_000 < await house.store.client.pttl(key) <= WINDOW_MS
        await house.store.client.pexpire(key, 40_000)
        await refused(house.login(password="wrong one"))
        assert await house.store.client.pttl(key) <= 40_000
        await refused(house.login(password="wrong one"))
        error = await refused(house.login())
        assert isinstance(error, TooManyRequests)
        assert error.retry_after_s <= 40

    at(story)


def test_a_success_forgets_the_names_failures_and_not_the_addresss(at: At) -> None:
    async def story(house: House) -> None:
        for _ in range(PER_USER_MAX - 1):
            await refused(house.login(password="wrong one"))
        await house.login()
        assert (await house.count(), await house.count_of_address()) == (0, PER_USER_MAX - 1)

    at(story)


def test_an_address_is_bounded_over_all_names_and_instances(at: At) -> None:
    async def story(house: House) -> None:
        for number in range(PER_ADDRESS_MAX):
            tried = {"user": f"u{number}", "named": ("NOSUCH", house.instance)[number % 2]}
            assert type(await refused(house.login(**tried))) is UserAuthFailed
        looked_at = len(house.hashing.seen)
        assert isinstance(await refused(house.login()), TooManyRequests)
        assert (len(house.hashing.seen), await house.count()) == (looked_at, 0)
        assert await house.login(address=HERE)

    at(story)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_address_counts_for_its_site(address: str, site: str) -> None:
    assert site_of(address) == site


def test_of_many_guesses_at_once_no_more_are_looked_at_than_may_be(at: At) -> None:
    async def story(house: House) -> None:
        guesses = (refused(house.login(password=f"guess {each}")) for each in range(20))
        kinds = [type(error) for error in await asyncio.gather(*guesses)]
        assert kinds.count(UserAuthFailed) == PER_USER_MAX == len(house.hashing.seen)
        assert kinds.count(TooManyRequests) == 20 - PER_USER_MAX

    at(story)


def test_hashes_run_beside_the_loop_and_few_at_once(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, go = [0], [0], threading.Event()

    def slow(kept: str, password: bytes) -> bool:
        running[0] += 1
        most[0] = max(most[0], running[0])
        go.wait(10)
        running[0] -= 1
        return False

    async def story(house: House) -> None:
        monkeypatch.setattr(admin_module, "verify_password", slow)
        under_way = [asyncio.create_task(house.hashing.verify("", b"")) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)  # each has begun
        error = await refused(house.login())  # the loop is free to refuse
        assert isinstance(error, TooManyRequests)
        assert (await house.count(), await house.count_of_address()) == (0, 0)
        go.set()
        await asyncio.gather(*under_way)
        assert most[0] <= admin_module.HASHES_MAX
        assert type(await refused(house.login())) is UserAuthFailed

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
