"""The bound on log-ins: how many may fail, be under way or wait for their hash; what ends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.core.errors import (
    TooManyRequests,
    UserAuthFailed,
)
from gateway.service import admin as admin_module
from gateway.service.admin import WAITING_MAX
from gateway.store.keys import logins_under_way
from gateway.store.logins import LAPSE_MS, WINDOW_MS, site_of
from tests.service.houses import (
    HERE,
    PER_ADDRESS_MAX,
    PER_USER_MAX,
    At,
    House,
    houses,
    refused,
)
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    with houses(shared_home) as run:
        yield run


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
        assert (await house.count(), await house.under_way()) == (PER_USER_MAX, (0, 0))

    at(story)


def test_those_under_way_keep_nobody_out_for_longer_than_they_are(at: At) -> None:
    async def story(house: House) -> None:
        await refused(house.login(password="wrong one"))
        logins = (house.login() for _ in range(20))
        ended = await asyncio.gather(*logins, return_exceptions=True)
        late = [each for each in ended if isinstance(each, TooManyRequests)]
        assert 0 < len(late) <= 20 - (PER_USER_MAX - 1)  # those who come when others are through
        assert len(late) + sum(isinstance(each, str) for each in ended) == 20
        assert {each.retry_after_s for each in late} == {1}
        assert {each.message for each in late} == {
            "Too many log-ins failed or under way; try again later"
        }
        assert (await house.count(), await house.under_way()) == (0, (0, 0))
        assert await house.login()

    at(story)


def test_an_attempt_that_never_ends_is_under_way_for_a_while_and_has_then_failed(at: At) -> None:
    async def story(house: House) -> None:
        logins = house.admin.logins
        begun = [
            await logins.begin(house.instance, "ann", house.address) for _ in range(PER_USER_MAX)
        ]
        error = await refused(house.login())
        assert isinstance(error, TooManyRequests)
        assert (error.retry_after_s, await house.count()) == (1, 0)
        for attempt in begun:  # as LAPSE_MS later
            await house.store.client.zadd(logins_under_way(attempt.user_key), {attempt.id: 1})
        error = await refused(house.login())
        assert isinstance(error, TooManyRequests)
        assert error.retry_after_s > LAPSE_MS // 1000
        assert (await house.count(), await house.under_way()) == (PER_USER_MAX, (0, PER_USER_MAX))

    at(story)


@pytest.mark.parametrize("end", ["fail", "clear", "return"])
def test_whatever_is_said_twice_of_an_attempt_counts_once(at: At, end: str) -> None:
    async def story(house: House) -> None:
        logins, client = house.admin.logins, house.store.client
        for _ in range(PER_USER_MAX - 2):
            await refused(house.login(password="wrong one"))
        attempt = await logins.begin(house.instance, "ann", house.address)
        other = await logins.begin(house.instance, "ann", house.address)
        keys = [attempt.user_key, logins_under_way(attempt.user_key)]
        script = house.store.scripts.logins
        for what in ("begin", "begin", end):
            await script.run(client, keys, [what, attempt.id, PER_USER_MAX, WINDOW_MS, LAPSE_MS])
        await logins.failed(other)
        once = await house.count()
        assert once == PER_USER_MAX - 1 + {"fail": 1, "clear": -1, "return": 0}[end]
        await script.run(client, keys, [end, attempt.id, PER_USER_MAX, WINDOW_MS, LAPSE_MS])
        assert (await house.count(), (await house.under_way())[0]) == (once, 0)

    at(story)


def test_hashes_run_beside_the_loop_and_few_at_once(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, go, one = [0], [0], threading.Event(), threading.Lock()

    def slow(kept: str, password: bytes) -> bool:
        with one:
            running[0] += 1
            most[0] = max(most[0], running[0])
        go.wait(60)
        with one:
            running[0] -= 1
        return False

    async def story(house: House) -> None:
        monkeypatch.setattr(admin_module, "verify_password", slow)
        under_way = [asyncio.create_task(house.hashing.verify("", b"")) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)  # each has begun
        error = await refused(house.login())  # the loop is free to refuse
        assert isinstance(error, TooManyRequests)
        assert (await house.count(), await house.count_of_address()) == (0, 0)
        assert await house.under_way() == (0, 0)
        go.set()
        await asyncio.gather(*under_way)
        assert most[0] <= admin_module.HASHES_MAX
        assert type(await refused(house.login())) is UserAuthFailed

    at(story)


def test_who_leaves_keeps_its_place_until_its_hash_is_done(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go = threading.Semaphore(0), threading.Event()

    def slow(kept: str, password: bytes) -> bool:
        running.release()
        go.wait(60)
        return False

    async def story(house: House) -> None:
        monkeypatch.setattr(admin_module, "verify_password", slow)
        hashing = admin_module.Hashing()
        callers = [asyncio.create_task(hashing.verify("", b"")) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)  # each has begun
        for _ in range(admin_module.HASHES_MAX):
            assert await asyncio.to_thread(running.acquire, timeout=60)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        # Those that only waited left with their places; those being looked at have theirs still.
        free = WAITING_MAX - admin_module.HASHES_MAX
        callers = [asyncio.create_task(hashing.verify("", b"")) for _ in range(free)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(30):
                assert isinstance(await refused(hashing.verify("", b"")), TooManyRequests)
        finally:
            go.set()
        assert await asyncio.gather(*callers) == [False] * free
        assert await hashing.verify("", b"") is False

    at(story)
