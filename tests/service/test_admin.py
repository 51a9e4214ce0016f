"""The door of administrators: what a session is worth now, and one refusal for what is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import CapturingLogger

from gateway.core.errors import (
    Forbidden,
    InvalidInput,
    Unauthorized,
    Unavailable,
)
from gateway.core.model import Catalogue, Role, User
from gateway.core.sessions import Session, SessionKey, issue_session
from gateway.service import policies as policies_module
from gateway.service.policies import InstancePolicies
from gateway.store.catalogues import CatalogueConflict
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
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    with houses(shared_home) as run:
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


# Changes --------------------------------------------------------------------------------------

HOURS_2 = b'{"licensing.borrowInterval":"2h"}'


@pytest.mark.parametrize(
    ("users", "error"),
    [
        ((), Unauthorized),
        ((ann("ROLE_ADMIN", since_s=int(NOW_S) + 1),), Unauthorized),
        ((ann("ROLE_READ"),), Forbidden),
    ],
    ids=["removed", "another password", "lost the role"],
)
@pytest.mark.parametrize("overtaken", [False, True])
def test_who_may_no_longer_changes_nothing_however_late_that_is_known(
    at: At, users: tuple[User, ...], error: type[Exception], overtaken: bool
) -> None:
    async def story(house: House) -> None:
        await house.put(ann("ROLE_ADMIN"))
        who = await house.enter(await house.login(), Role.ADMIN)
        catalogues = house.admin.catalogues
        real, tries = catalogues.put, 0

        async def late(*asked: Any) -> Catalogue:
            nonlocal tries
            tries += 1
            await house.put(*users)
            return await real(*asked)

        if overtaken:
            catalogues.put = late  # type: ignore[method-assign]
        else:
            await house.put(*users)
        raised = await refused(
            house.admin.change(who, lambda current: replace(current, name="changed"))
        )
        found = await house.store.catalogues.read(house.instance)
        assert found is not None
        assert (type(raised), tries) == (error, int(overtaken))
        assert (found.catalogue.name, found.catalogue.users) == ("", users)

    at(story)


@pytest.mark.parametrize("how", ["a further try", "unknown", "not_applied"])
def test_a_change_whose_reply_is_lost_is_in_the_log(
    at: At, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    monkeypatch.setattr(policies_module, "_log", log := CapturingLogger())

    async def story(house: House) -> None:
        await house.put(ann("ROLE_ADMIN"))
        header = f"Bearer {await house.login()}"
        catalogues = house.admin.catalogues
        real, tries = catalogues.put, 0

        async def lost(*asked: Any) -> Catalogue:
            nonlocal tries
            tries += 1
            if how != "not_applied":
                await real(*asked)
            raise CatalogueConflict("") if how == "a further try" else Unavailable("", how)

        catalogues.put = lost  # type: ignore[method-assign]
        change = InstancePolicies(house.admin).change(house.instance, header, HOURS_2)
        told = {"instance": house.instance, "user": "ann", "policies": ["licensing.borrowInterval"]}
        if how == "a further try":
            assert (await change).borrow_interval == "2h"
            expected = [("policies_changed", told)]
        else:
            assert type(await refused(change)) is Unavailable
            expected = [("policies_perhaps_changed", told | {"outcome": how})]
        assert tries == 1
        lines = [(*line.args, line.kwargs) for line in log.calls]
        assert lines == ([] if how == "not_applied" else expected)

    at(story)


def test_a_change_of_the_default_instance_takes_the_sign_back_from_nobody(at: At) -> None:
    async def story(house: House) -> None:
        await house.put(ann("ROLE_ADMIN"), default=True)
        header = f"Bearer {await house.login()}"
        client = house.store.client
        try:
            await client.hset(META, "default", "ANOTHER")  # as one who moves it does first
            await InstancePolicies(house.admin).change(house.instance, header, HOURS_2)
            assert await client.hget(META, "default") == b"ANOTHER"
        finally:
            await house.put(ann(), default=False)
            await client.hdel(META, "default")

    at(story)


def test_a_sign_that_cannot_be_written_is_an_unavailable_store(at: At) -> None:
    async def story(house: House) -> None:
        client, kept = house.store.client, f"{{{META}}}:kept"  # in the same slot
        await client.rename(META, kept)
        await client.set(META, "no hash any more")
        error = await refused(house.put(ann(), default=True))
        await client.rename(kept, META)
        assert isinstance(error, Unavailable)
        assert error.outcome == "unknown"
        assert await client.hget(META, "default") is None
        await house.put(ann(), default=False)

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
