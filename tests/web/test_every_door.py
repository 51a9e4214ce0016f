"""Every operation against everybody: the named roles get in, all others one and the same refusal.

The table of operations.py is held against the routes of the application, so a route without an
entry fails here. After a refusal the store is what it was, byte for byte.
Source: SEMANTICS 10, protocols/cmapi.md 3 and 7, DESIGN 6.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.routing import Route

from gateway.config import load_config
from gateway.protocols.openapi import operations as documented
from gateway.protocols.openapi_licensespring import TAG as FLOATING
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import open_gateway
from tests.vectors.credentials import signed, token
from tests.web.operations import OPERATIONS, Operation, Way, methods_of, those
from tests.web.tenants import (
    EVERY,
    NOWHERE,
    OTHER,
    OWN,
    Tenants,
    bearer,
    tenants_serving,
    without_ids,
)
from tests.web.ui.pages import is_page

PATHS = sorted({operation.path for operation in OPERATIONS})
CLOSED = [*those(Way.CLIENT, Way.ADMINISTRATOR)]
OF_AN_INSTANCE = [operation for operation in CLOSED if not operation.short]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with tenants_serving(tmp_path_factory.mktemp("tenants")) as opened:
        yield opened


# The table --------------------------------------------------------------------------------------


def test_every_route_has_an_entry_in_the_table(tmp_path: Path) -> None:
    async def routes() -> list[Route]:
        config = load_config(None, {}, {"data_dir": tmp_path})
        async with open_gateway(config, Lifecycle(), forward=False) as app:
            return list(app.app.routes)  # type: ignore[attr-defined]

    served: dict[str, set[str]] = {}
    for route in asyncio.run(routes()):
        assert isinstance(route, Route)
        assert route.methods
        if not is_page(route.path):  # those have a table of their own, in tests/web/ui
            served.setdefault(route.path, set()).update(route.methods)

    assert {path: methods_of(path) for path in PATHS} == served


def test_the_document_says_who_may_as_the_table_does() -> None:
    told = {
        (each.method, each.path.replace("{id}", "{id:path}")): set(each.security_roles)
        for each in documented()
        if each.tag != FLOATING
    }

    assert told == {
        (each.method, each.path): {"ROLE_CAPABILITY"}
        if each.way is Way.CLIENT
        else {role.value for role in each.roles}
        for each in OPERATIONS
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_whoever_may_gets_in(tenants: Tenants, operation: Operation) -> None:
    async def story() -> None:
        answer = await tenants.send(operation, tenants.good(operation))
        assert answer.status_code == operation.status, answer.text

    tenants.moving(story)


# Roles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", those(Way.ADMINISTRATOR), ids=str)
def test_each_of_the_named_roles_gets_in(tenants: Tenants, operation: Operation) -> None:
    """A role must be in the token and still be the user's: each is tried with all of the other."""

    async def story() -> None:
        for role in operation.roles:
            for session in (tenants.session(role), tenants.session(*EVERY, user=role.value)):
                await tenants.settle()  # who got in before may have changed something
                answer = await tenants.send(operation, session)
                assert answer.status_code == operation.status, (role, answer.text)

    tenants.moving(story)


@pytest.mark.parametrize("operation", those(Way.ADMINISTRATOR), ids=str)
def test_no_other_role_gets_in_nor_all_of_them(tenants: Tenants, operation: Operation) -> None:
    others = [role for role in EVERY if role not in operation.roles]

    async def story() -> None:
        for role in others:
            for session in (tenants.session(role), tenants.session(*EVERY, user=role.value)):
                await _forbidden(tenants, operation, session, operation.roles[0])
        for session in (
            tenants.session(),
            tenants.session(*others),
            tenants.session(*EVERY, user="nobody"),
        ):
            await _forbidden(tenants, operation, session, operation.roles[0])

    tenants.at_rest(story)


@pytest.mark.parametrize("operation", those(Way.CLIENT), ids=str)
def test_a_client_needs_the_capability_whatever_else_it_may(
    tenants: Tenants, operation: Operation
) -> None:
    async def story() -> None:
        for roles in ["", *EVERY, ",".join(EVERY), "role_capability"]:
            credential = bearer(token(claims={"roles": roles}))
            await _forbidden(tenants, operation, credential, "ROLE_CAPABILITY")

    tenants.at_rest(story)


async def _forbidden(
    tenants: Tenants, operation: Operation, credential: dict[str, str], role: str
) -> None:
    answer = await tenants.send(operation, credential)
    assert (answer.status_code, answer.json()) == (
        403,
        {"key": "gateway.forbidden", "message": f"Role {role} is required", "arguments": [role]},
    )


# The one 401 ------------------------------------------------------------------------------------


def _no_credentials(tenants: Tenants) -> dict[str, dict[str, str]]:
    """Give what is at no closed operation of `own` a credential."""
    now_s = int(time.time())
    session = tenants.session(*EVERY)["Authorization"]
    return {
        "none": {},
        "empty": {"Authorization": ""},
        "scheme only": {"Authorization": "Bearer"},
        "another scheme": {"Authorization": session.replace("Bearer", "Basic")},
        "garbage": bearer("a.b.c"),
        "long": bearer("x" * 9_000),
        "a session that is over": tenants.session(*EVERY, issued_s=now_s - 60, lasts_s=60),
        "a session of the other's": tenants.session(*EVERY, instance=OTHER),
        "a session of nobody's": tenants.session(*EVERY, instance=NOWHERE),
        "a session of `~`": tenants.session(*EVERY, instance="~"),
        "a session of no user": tenants.session(*EVERY, user="bob"),
        "a session, changed": bearer(_changed(session.removeprefix("Bearer "))),
        "a token that is over": bearer(token(claims={"exp": {"$now": -1}})),
        "a token without an end": bearer(token(claims={"exp": None})),
        "the other's token": bearer(token("token-other")),
        "a token of no key": bearer(token("token-unknown-kid")),
        "a token of the wrong key": bearer(token("token-wrong-kid")),
        "a token without a signature": bearer(token("token-none")),
        "a token that takes the key for a secret": bearer(token("token-hs256")),
        "a token, changed": bearer(token("token-tampered")),
    }


def _changed(made: str) -> str:
    """Claim something else than what was authenticated."""
    head, content, mac = made.split(".")
    return f"{head}.{content[:12]}{'A' if content[12] != 'A' else 'B'}{content[13:]}.{mac}"


@pytest.mark.parametrize("operation", CLOSED, ids=str)
def test_whatever_is_no_credential_here_is_the_one_401(
    tenants: Tenants, operation: Operation
) -> None:
    async def story() -> None:
        wrong = _no_credentials(tenants)
        if operation.way is Way.ADMINISTRATOR:
            wrong["a client's token"] = bearer(token())
            wrong["a client's token that claims all"] = bearer(
                token(claims={"roles": ",".join(EVERY), "iss": OWN, "sub": "ann"})
            )
        else:
            wrong["an administrator's session"] = tenants.session(*EVERY)
        for name, credential in wrong.items():
            await tenants.refuse(operation, credential, said=name)

    tenants.at_rest(story)


@pytest.mark.parametrize("operation", OF_AN_INSTANCE, ids=str)
def test_a_good_credential_is_none_at_another_instance(
    tenants: Tenants, operation: Operation
) -> None:
    """Neither at one that is there, nor at one that is not, nor under a name that none can have."""

    async def story() -> None:
        good = tenants.good(operation)
        odd = ("%20", "x" * 65, "%00", "%FF", "%7E%7E", "%2E%2E", "a%7Bp001%7D")
        for instance in (OTHER, NOWHERE, OWN.lower(), *odd):
            await tenants.refuse(operation, good, instance=instance)

    tenants.at_rest(story)


@pytest.mark.parametrize("operation", those(Way.CLIENT), ids=str)
def test_a_signed_payload_that_is_not_for_this_instance_is_the_one_401(
    tenants: Tenants, operation: Operation
) -> None:
    body = operation.body
    if operation.path.endswith("access_requests"):
        body = json.dumps({"requests": [json.loads(body)]}).encode()
    jose = {"Content-Type": "application/jose"}

    def jws(credential: str = "signed", to: str = OWN, **claims: Any) -> bytes:
        return signed(credential, {"jti": "one"} | claims, to, body)

    async def story() -> None:
        for content, instance in (
            (jws("signed-other"), OWN),
            (jws("signed-unknown-kid"), OWN),
            (jws("signed-tampered"), OWN),
            (jws(iat={"$now": -400}), OWN),
            (jws(to=OTHER), OWN),
            (jws(to=OTHER), OTHER),
            (jws(), NOWHERE),
            (jws(to=NOWHERE), NOWHERE),
            (jws(to="~"), "~"),
            (b"", OWN),
            (b"a.b.c", OWN),
        ):
            for credential in ({}, bearer(token())):  # a token does not help what is signed badly
                headers = credential | jose
                await tenants.refuse(operation, instance=instance, headers=headers, content=content)

    async def honest() -> None:
        answer = await tenants.send(operation, headers=jose, content=jws())
        assert answer.status_code == 200, answer.text

    tenants.at_rest(story)
    tenants.moving(honest)


@pytest.mark.parametrize("operation", those(Way.CLIENT), ids=str)
def test_where_payloads_must_be_signed_a_good_token_is_the_one_401(
    tenants: Tenants, operation: Operation
) -> None:
    async def story() -> None:
        await tenants.change(OWN, require_signed_payload=True)
        async with tenants.nothing_moves():
            await tenants.refuse(operation, bearer(token()))

    tenants.moving(story)


@pytest.mark.parametrize("operation", those(Way.ADMINISTRATOR), ids=str)
def test_who_is_no_administrator_any_more_is_nobody_at_once(
    tenants: Tenants, operation: Operation
) -> None:
    async def story() -> None:
        found = await tenants.served.catalogues.read(OWN)
        assert found is not None
        ann, *others = found.catalogue.users
        changed = replace(ann, since_s=int(time.time()) + 60)  # another password
        for users in ((changed, *others), tuple(others)):
            await tenants.change(OWN, users=users)
            async with tenants.nothing_moves():
                await tenants.refuse(operation, tenants.session(*EVERY))

    tenants.moving(story)


# What is open -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", those(Way.ANYBODY), ids=str)
def test_what_is_open_takes_no_notice_of_credentials(
    tenants: Tenants, operation: Operation
) -> None:
    async def story() -> None:
        expected = without_ids(await tenants.send(operation))
        for credential in _no_credentials(tenants).values():
            assert without_ids(await tenants.send(operation, credential)) == expected

    tenants.at_rest(story)


def test_a_login_takes_no_notice_of_credentials_but_of_the_instance(tenants: Tenants) -> None:
    (authorize,) = those(Way.LOGIN)
    refused = {
        "key": "gateway.userAuthFailed",
        "message": "User name or password is wrong",
        "arguments": ["ann"],
    }

    async def story() -> None:
        await tenants.change(OTHER, users=())
        good = tenants.session(*EVERY)
        wrong = [await tenants.send(authorize, good, instance=each)
                 for each in (OTHER, NOWHERE, "%7Bp001%7D")]  # fmt: skip
        for answer in wrong:
            assert (answer.status_code, answer.json()) == (401, refused)
            assert without_ids(answer) == without_ids(wrong[0])
        assert (await tenants.send(authorize, bearer("a.b.c"))).status_code == 200

    tenants.moving(story)
