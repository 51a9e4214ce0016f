"""Trusted proxies: whose word on the client's address is taken, and that nobody else's is.

What uses the address is the count of log-ins; so its attacker is who guesses passwords.
Source: INTERFACE 2, RELIABILITY 3 (6), SEMANTICS 10.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway.core.errors import InvalidInput
from gateway.core.model import User
from gateway.store.keys import address_logins
from gateway.store.logins import PER_ADDRESS_MAX
from gateway.web.proxies import PROXIES_MAX, behind_proxies, trusted_networks
from tests.served_by import under_both
from tests.vectors.served import Served
from tests.web.desks import HASH, LOGIN
from tests.web.doors import Door
from tests.web.servers import Standing, standing
from tests.web.whole import gateway_standing

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "fd00::/8")
ATTACKER, VICTIM = "198.51.100.66", "203.0.113.5"


def seen(
    peer: str | None, *headers: tuple[str, str], trusted: tuple[str, ...] = TRUSTED
) -> dict[str, Any]:
    """Give the scope that an app sees of a request."""
    found: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    scope: Scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 4711),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "state": {},
    }
    before = dict(scope)
    asyncio.run(behind_proxies(app, trusted_networks(trusted))(scope, nothing, nothing))
    assert scope == before  # the server's own is never changed
    assert found[0]["headers"] is scope["headers"]
    return dict(found[0])


@pytest.mark.parametrize(
    ("peer", "chains", "client"),
    [
        ("10.1.2.3", ["203.0.113.5"], VICTIM),
        ("192.0.2.7", ["203.0.113.5"], VICTIM),
        ("fd00::1", ["203.0.113.5"], VICTIM),
        ("::ffff:10.1.2.3", ["203.0.113.5"], VICTIM),  # a listener for both families says so
        ("10.1.2.3", ["::ffff:203.0.113.5"], VICTIM),
        ("10.1.2.3", ["2001:DB8::0:1"], "2001:db8::1"),
        ("10.1.2.3", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.1.2.3", ["203.0.113.5:5080"], VICTIM),
        ("10.1.2.3", [" 203.0.113.5\t"], VICTIM),
        # What stands left of the first who is not trusted is that one's invention.
        ("10.1.2.3", ["203.0.113.5, 198.51.100.66"], ATTACKER),
        ("10.1.2.3", ["203.0.113.5", "198.51.100.66"], ATTACKER),
        ("10.1.2.3", ["10.9.9.9, 198.51.100.66, 10.4.4.4"], ATTACKER),
        ("10.1.2.3", ["203.0.113.5, 198.51.100.66, fd00::4, 192.0.2.7"], ATTACKER),
        # Only trusted ones: the farthest of them.
        ("10.1.2.3", ["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
        # What is no address is ignored, with all that stands left of it.
        *(
            ("10.1.2.3", [f"203.0.113.5, {bad}"], "10.1.2.3")
            for bad in ("", "unknown", "_hidden", "203.0.113.256", "203.0.113", "1", "\xff\xfe")
        ),
        *(
            ("10.1.2.3", [bad], "10.1.2.3")
            for bad in ("[203.0.113.5", "::1%eth0", "::1%" + "x" * 9_000, '"1.2.3.4"', "[]", ":")
        ),
        ("10.1.2.3", ["203.0.113.5, , 10.4.4.4"], "10.4.4.4"),
        # More hops than any row of proxies has are not followed.
        ("10.1.2.3", ["203.0.113.5," + ",".join(["10.4.4.4"] * 40)], "10.4.4.4"),
    ],
)  # fmt: skip
def test_the_client_is_the_last_address_that_is_not_trusted(
    peer: str, chains: list[str], client: str
) -> None:
    assert seen(peer, *(("x-forwarded-for", chain) for chain in chains))["client"][0] == client


@pytest.mark.parametrize("peer", ["198.51.100.66", "11.0.0.1", "192.0.2.8", "::1", "testclient"])
def test_what_is_said_by_a_peer_that_is_not_trusted_is_not_heard(peer: str) -> None:
    said = [("x-forwarded-for", VICTIM), ("x-forwarded-proto", "https")]
    scope = seen(peer, *said)
    assert (scope["client"], scope["scheme"]) == ((peer, 4711), "http")


def test_without_trusted_proxies_nothing_is_heard_and_nothing_costs() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    assert behind_proxies(app, trusted_networks(())) is app


def test_a_connection_without_an_address_has_none() -> None:
    assert seen(None, ("x-forwarded-for", VICTIM))["client"] is None


def test_other_ways_to_say_it_are_not_read() -> None:
    """A proxy that writes one of them passes the others on as its client wrote them."""
    others = ("forwarded", f"for={VICTIM};proto=https;host=evil"), ("x-real-ip", VICTIM)
    hosts = ("x-forwarded-host", "evil"), ("x-forwarded-port", "1"), ("x-forwarded-prefix", "/a")
    scope = seen("10.1.2.3", *others, *hosts)
    assert (scope["client"], scope["scheme"]) == (("10.1.2.3", 4711), "http")


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http"], "http"),
        (["http, https"], "https"),
        (["http", "https"], "https"),
        (["https, http"], "http"),
        (["ftp"], "http"),
        (["https\xff"], "http"),
        ([""], "http"),
        ([], "http"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(values: list[str], scheme: str) -> None:
    headers = [("x-forwarded-proto", value) for value in values]
    assert seen("10.1.2.3", *headers)["scheme"] == scheme


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["*"], ["'*': then every client could choose"]),
        (["0.0.0.0/0", "::/0"], ["'0.0.0.0/0': then every", "'::/0': then every"]),
        (["proxy.example"], ["'proxy.example'; expected an address or a network"]),
        (["10.0.0.1/8", "10.0.0.1:80"], ["'10.0.0.1/8'; expected", "'10.0.0.1:80'; expected"]),
        (["", " 10.0.0.1"], ["''; expected", "' 10.0.0.1'; expected"]),
        (["::ffff:10.0.0.0/104"], ["write IPv4 networks as such"]),
        (["10.0.0.1"] * (PROXIES_MAX + 1), [f"expected at most {PROXIES_MAX}"]),
    ],
)
def test_what_is_no_proxy_is_named_in_a_sentence(names: list[str], parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        trusted_networks(names)
    assert len(refused.value.problems) == len(parts)
    for problem, part in zip(refused.value.problems, parts, strict=True):
        assert problem.startswith("server.trusted_proxies has ")
        assert part in problem


@under_both
def test_a_server_does_not_start_with_what_is_no_proxy() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    async def story() -> None:
        with pytest.raises(InvalidInput, match="then every client could choose"):
            async with standing(app, SERVER__TRUSTED_PROXIES="10.0.0.1,*"):
                pass

    asyncio.run(story())


# The count of log-ins ---------------------------------------------------------------------------


async def guess(server: Standing, served: Served, path: str, forwarded: str) -> int:
    """Try to log in with a wrong password; give the answer's status."""
    answer = await served.http.post(
        path, json=LOGIN | {"password": "a guess"}, headers={"X-Forwarded-For": forwarded}
    )
    return answer.status_code


async def counted(served: Served) -> dict[str, int]:
    """Give the failed log-ins that are counted, by address of those a test speaks of."""
    found = {}
    for each in ("127.0.0.1", ATTACKER, VICTIM):
        key = address_logins(each, served.catalogues.partitions)
        found[each] = int(await served.store.get(key) or 0)
    return {each: count for each, count in found.items() if count}


async def desk(served: Served) -> Door:
    door = Door(served)
    await door.put(keys=(), users=(User("ann", HASH, ("ROLE_READ",)),))
    return door


@pytest.mark.slow
def test_who_speaks_to_us_directly_is_counted_by_the_connection_alone(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_standing(tmp_path, SERVER__TRUSTED_PROXIES="10.0.0.0/8,127.0.0.2") as (
            server,
            served,
        ):
            door = await desk(served)
            path = door.path("authorize")
            for forwarded in (VICTIM, f"{VICTIM}, 10.0.0.1", "garbage", "127.0.0.2"):
                assert await guess(server, served, path, forwarded) == 401
            assert await counted(served) == {"127.0.0.1": 4}

    asyncio.run(story())


@under_both
def test_behind_a_proxy_nobody_can_choose_his_address_nor_lock_out_another(
    tmp_path: Path,
) -> None:
    """A proxy appends whom it sees; what stands before that is the attacker's own."""

    async def story() -> None:
        async with gateway_standing(tmp_path, SERVER__TRUSTED_PROXIES="127.0.0.1") as (
            server,
            served,
        ):
            door = await desk(served)
            path = door.path("authorize")
            lies = ["", f"{VICTIM}, ", "garbage, ", "127.0.0.1, ", f"{VICTIM}, 127.0.0.1, "]
            for lie in lies:
                assert await guess(server, served, path, f"{lie}{ATTACKER}") == 401
            assert await counted(served) == {ATTACKER: len(lies)}
            # With his guesses used up he is refused whatever he says; the victim gets in.
            key = address_logins(ATTACKER, served.catalogues.partitions)
            await served.store.set(key, PER_ADDRESS_MAX, px=60_000)
            for lie in lies:
                assert await guess(server, served, path, f"{lie}{ATTACKER}") == 429
            answer = await served.http.post(path, json=LOGIN, headers={"X-Forwarded-For": VICTIM})
            assert answer.status_code == 200
            assert await counted(served) == {ATTACKER: PER_ADDRESS_MAX}

    asyncio.run(story())
