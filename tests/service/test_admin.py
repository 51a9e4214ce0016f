"""The door of administrators: what a session is worth now, and one refusal for what is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.errors import (
    Forbidden,
    InvalidInput,
    Unauthorized,
)
from gateway.core.model import Role
from gateway.core.sessions import Session, SessionKey, issue_session
from gateway.store.keys import META
from gateway.store.signing import session_key
from tests.service.houses import (
    NOW_S,
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


@pytest.mark.parametrize("held", Role)
def test_no_role_implies_another(at: At, held: Role) -> None:
    async def story(house: House) -> None:
        await house.put(ann(held.value))
        token = await house.login()
        for asked in Role:
            if asked is held:
                assert (await house.enter(token, asked)).roles == {held}
                assert await house.enter(token, *Role)
                continue
            error = await refused(house.enter(token, asked))
            assert (type(error), error.arguments) == (Forbidden, (asked.value,))
            assert error.message == f"Role {asked.value} is required"

    at(story)


def test_what_a_user_lost_is_lost_at_once(at: At) -> None:
    async def story(house: House) -> None:
        await house.put(ann("ROLE_READ", "ROLE_ADMIN"))
        token = await house.login()
        assert await house.enter(token, Role.ADMIN)
        await house.put(ann("ROLE_READ"))
        assert type(await refused(house.enter(token, Role.ADMIN))) is Forbidden
        assert (await house.enter(token)).roles == {"ROLE_READ"}
        await house.put()
        assert type(await refused(house.enter(token))) is Unauthorized

    at(story)


def test_what_a_user_got_since_takes_another_login(at: At) -> None:
    async def story(house: House) -> None:
        token = await house.login()
        await house.put(ann("ROLE_READ", "ROLE_ADMIN"))
        assert type(await refused(house.enter(token, Role.ADMIN))) is Forbidden
        assert await house.enter(await house.login(), Role.ADMIN)

    at(story)


def test_a_new_password_ends_the_sessions_of_the_former(at: At) -> None:
    async def story(house: House) -> None:
        token = await house.login()
        await house.put(ann(since_s=int(NOW_S) + 1))
        assert type(await refused(house.enter(token))) is Unauthorized
        assert await house.enter(await house.login())

    at(story)


def test_whatever_does_not_verify_for_the_instance_is_one_answer(at: At) -> None:
    async def story(house: House) -> None:
        other = House(house.store, house.admin.key)
        await other.put(ann())
        token = await house.login()
        session = (await house.enter(token)).session
        key, foreign = house.admin.key, SessionKey(bytes(64))
        told = set()
        for named, header in (
            (house.instance, None),
            (house.instance, ""),
            (house.instance, token),
            (house.instance, "Bearer "),
            (house.instance, f"Basic {token}"),
            (house.instance, "Bearer a.b.c"),
            (house.instance, f"Bearer {token}é"),
            (house.instance, f"Bearer {issue_session(foreign, session)}"),
            (house.instance, f"Bearer {issue_session(key, replace(session, user='bob'))}"),
            (other.instance, f"Bearer {token}"),
            ("NOSUCH", f"Bearer {token}"),
            ("NOSUCH", f"Bearer {issue_session(key, replace(session, instance='NOSUCH'))}"),
            ("no/such", f"Bearer {token}"),
            ("~", f"Bearer {issue_session(key, replace(session, instance=''))}"),
        ):
            error = await refused(house.admin.admin(named, header, Role.READ))
            told.add((type(error), error.message, error.arguments))
        assert told == {(Unauthorized, "Not a valid credential for this instance", ())}

    at(story)


def test_what_does_not_exist_takes_the_same_looks_at_the_store(at: At) -> None:
    async def story(house: House) -> None:
        looks: list[str] = []
        real = house.admin.catalogues.changed

        async def counted(instance: str, version: int) -> bool:
            looks.append(instance)
            return await real(instance, version)

        house.admin.catalogues.changed = counted  # type: ignore[method-assign]
        for named in (house.instance, "NOSUCH"):
            await refused(house.admin.admin(named, None, Role.READ))
            looks.clear()
            await refused(house.admin.admin(named, None, Role.READ))
            assert looks == [named]

    at(story)


# The session key ------------------------------------------------------------------------------


def test_replicas_share_one_session_key(at: At) -> None:
    async def story(house: House) -> None:
        keys = await asyncio.gather(*(session_key(house.store) for _ in range(5)))
        assert len({key.mac(b"x") for key in keys}) == 1
        assert keys[0].mac(b"x") == house.admin.key.mac(b"x")

    at(story)


def test_a_damaged_session_key_is_refused_and_not_told(at: At) -> None:
    async def story(house: House) -> None:
        kept: Any = await house.store.client.hget(META, "session_key")
        try:
            for damaged in (b"s3cret", kept + b"=", kept[:-4]):
                await house.store.client.hset(META, "session_key", damaged)
                with pytest.raises(InvalidInput) as raised:
                    await session_key(house.store)
                assert damaged.decode() not in str(raised.value)
                assert await house.store.client.hget(META, "session_key") == damaged
        finally:
            await house.store.client.hset(META, "session_key", kept)

    at(story)


def test_a_session_of_no_role_enters_nowhere(at: At) -> None:
    async def story(house: House) -> None:
        session = Session("ann", house.instance, frozenset(), int(NOW_S), int(NOW_S) + 9, "x")
        token = issue_session(house.admin.key, session)
        for role in Role:
            assert type(await refused(house.enter(token, role))) is Forbidden

    at(story)
