"""Users at the pages: added, changed, removed; their sessions end with what they were begun by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from gateway.core.model import Role, User
from tests.vectors.served import Served
from tests.web.desks import PASSWORD
from tests.web.doors import door_serving, eventually
from tests.web.ui.visitors import XSS, Visit, at_visitor, is_escaped, text_of

PAGE = "configuration/users"
BOTH = (Role.READ, Role.ADMIN)
OTHER = "another horse"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("users")) as opened:
        yield opened


async def users(ann: Visit) -> dict[str, tuple[str, ...]]:
    return {user.name: user.roles for user in (await ann.catalogue()).users}


def test_a_user_is_added_and_may_log_in(served: Served) -> None:
    async def story(ann: Visit) -> None:
        with capture_logs() as logs:
            sent = await ann.send(
                PAGE,
                PAGE,
                name="bob",
                roles=[Role.READ.value, Role.DROPCLIENT.value],
                password=OTHER,
                again=OTHER,
            )
            assert "bob may log in." in await ann.follow(sent)
        assert OTHER not in str(logs)
        assert (Role.READ.value, Role.DROPCLIENT.value) == (await users(ann))["bob"]
        bob = ann.stranger("bob")
        assert (await bob.log_in()).status_code == 401
        assert (await bob.log_in(OTHER)).status_code == 303
        assert (await bob.get()).status_code == 200
        assert (await bob.get(PAGE)).status_code == 403

    at_visitor(served, story, *BOTH)


def test_a_change_of_roles_or_password_ends_the_sessions_before_it(served: Served) -> None:
    async def story(ann: Visit) -> None:
        bob = await ann.join("bob", Role.READ)
        sent = await ann.send(
            f"{PAGE}/change",
            f"{PAGE}/change",
            query={"name": "bob"},
            roles=[Role.READ.value, Role.PRODUCER.value],
        )
        assert "bob is changed" in await ann.follow(sent)
        assert (Role.READ.value, Role.PRODUCER.value) == (await users(ann))["bob"]
        assert (await bob.get()).status_code == 303  # to log in

        async def back() -> bool:
            return (await bob.log_in()).status_code == 303 and (await bob.get()).status_code == 200

        await eventually(back)  # the password is what it was
        sent = await ann.send(
            f"{PAGE}/change",
            f"{PAGE}/change",
            query={"name": "bob"},
            password=OTHER,
            again=OTHER,
        )
        assert sent.status_code == 303
        assert (await bob.get()).status_code == 303
        assert (await bob.log_in(PASSWORD)).status_code == 401
        assert (await bob.log_in(OTHER)).status_code == 303

    at_visitor(served, story, *BOTH)


def test_a_user_is_removed_and_refused_at_once(served: Served) -> None:
    async def story(ann: Visit) -> None:
        bob = await ann.join("bob", Role.READ)
        assert "Remove bob?" in await ann.page(f"{PAGE}/remove", name="bob")
        sent = await ann.send(f"{PAGE}/remove", f"{PAGE}/remove", query={"name": "bob"})
        assert "bob is removed." in await ann.follow(sent)
        assert [*await users(ann)] == ["ann"]
        assert (await bob.get()).status_code == 303
        again = await ann.post(f"{PAGE}/remove", name="bob", xsrf=await ann.xsrf())
        assert again.status_code == 400

    at_visitor(served, story, *BOTH)


def test_the_last_administrator_stays(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.join("bob", Role.READ, log_in=False)
        before = await ann.catalogue()
        removed = await ann.send(f"{PAGE}/remove", f"{PAGE}/remove", query={"name": "ann"})
        changed = await ann.send(
            f"{PAGE}/change", f"{PAGE}/change", query={"name": "ann"}, roles=[Role.READ.value]
        )
        for answer in (removed, changed):
            assert answer.status_code == 400
            assert "Nobody would be left with ROLE_ADMIN" in text_of(answer)
        assert await ann.catalogue() == before

    at_visitor(served, story, *BOTH)


def test_whoever_changes_themselves_logs_in_anew(served: Served) -> None:
    async def story(ann: Visit) -> None:
        sent = await ann.send(
            f"{PAGE}/change", f"{PAGE}/change", query={"name": "ann"}, password=OTHER, again=OTHER
        )
        assert "/ui/login" in sent.headers["location"]
        assert (await ann.get()).status_code == 303
        assert (await ann.log_in(OTHER)).status_code == 303

    at_visitor(served, story, *BOTH)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"name": "ann"}, "already"),
        ({"name": "a b"}, "expected 1 to 64"),
        ({"name": XSS}, "expected 1 to 64"),
        ({"again": "something else"}, "not the same"),
        ({"password": "", "again": ""}, "Give a password"),
        ({"password": "short", "again": "short"}, "8 to 1024"),
        ({"roles": "ROLE_GOD"}, "is no role"),
    ],
)
def test_a_user_that_will_not_do_is_refused(
    served: Served, said: dict[str, str], sentence: str
) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        form = {"name": "bob", "password": OTHER, "again": OTHER} | said
        answer = await ann.send(PAGE, PAGE, **form)
        assert answer.status_code == 400
        assert sentence in text_of(answer)
        assert is_escaped(answer.text)
        assert OTHER not in answer.text
        assert await ann.catalogue() == before

    at_visitor(served, story, *BOTH)


def test_only_an_administrator_sees_and_changes_users(served: Served) -> None:
    async def story(ann: Visit) -> None:
        bob = await ann.join("bob", *BOTH)
        before = await ann.catalogue()
        xsrf = await ann.xsrf()
        for page in (PAGE, f"{PAGE}/change", f"{PAGE}/remove"):
            assert (await ann.get(page, name="bob")).status_code == 403
            said = {"name": "bob", "password": OTHER, "again": OTHER, "roles": Role.READ.value}
            assert (await ann.post(page, xsrf=xsrf, **said)).status_code == 403
            for forged in ("", xsrf):
                assert (await bob.post(page, xsrf=forged, **said)).status_code == 403
        assert await ann.catalogue() == before

    at_visitor(served, story)


def test_names_kept_by_an_earlier_release_are_text(served: Served) -> None:
    async def story(ann: Visit) -> None:
        now = await ann.catalogue()
        await ann.put(users=(*now.users, User(XSS, "hash", (XSS,))))
        for page in (PAGE, f"{PAGE}/change", f"{PAGE}/remove"):
            answer = await ann.get(page, name=XSS)
            assert answer.status_code == 200
            assert is_escaped(answer.text)

    at_visitor(served, story, *BOTH)
