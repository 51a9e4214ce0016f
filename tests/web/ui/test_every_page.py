"""Every page and every deed against everybody: the named roles get in, nobody else moves a thing.

The table of pages.py is held against the routes of the application, so a page without an entry
fails here. After a refusal the instance is what it was, byte for byte. Source: SEMANTICS 10.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from gateway.config import load_config
from gateway.core.model import Role, User
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import open_gateway
from tests.vectors.served import Served
from tests.web.desks import HASH
from tests.web.ui.pages import PLACES, Place, is_page, methods_of_pages
from tests.web.ui.visitors import Visit, Visitor, at_visitor, is_sent_to_login, text_of

DEEDS = [place for place in PLACES if place.deed]
CLOSED = [place for place in PLACES if place.roles]


async def knock(visitor: Visitor, place: Place, xsrf: str | None = None) -> httpx.Response:
    """Ask for a page, or send a deed the smallest form: its word, and nothing to do."""
    if place.deed:
        return await visitor.post(place.path, xsrf=await visitor.xsrf() if xsrf is None else xsrf)
    return await visitor.get(place.path)


def test_every_page_has_an_entry_in_the_table(tmp_path: Path) -> None:
    async def routes() -> list[Route]:
        config = load_config(None, {}, {"data_dir": tmp_path})
        async with open_gateway(config, Lifecycle(), forward=False) as app:
            return list(app.app.routes)  # type: ignore[attr-defined]

    served: dict[str, set[str]] = {}
    for route in asyncio.run(routes()):
        if is_page(route.path):
            assert route.methods
            served.setdefault(route.path, set()).update(route.methods)

    assert methods_of_pages() == served


def test_whoever_holds_a_named_role_gets_in_and_whoever_holds_all_others_does_not(
    served: Served,
) -> None:
    """What is answered inside is the pages' own tests' business: no form is filled in here."""

    async def story(ann: Visit) -> None:
        users = [User("none", HASH, ())]
        for role in Role:
            users.append(User(f"only-{role}", HASH, (role.value,)))
            others = tuple(each.value for each in Role if each is not role)
            users.append(User(f"but-{role}", HASH, others))
        visitors: dict[str, Visitor] = {}
        await ann.put(users=tuple(users))
        for user in users:
            visitors[user.name] = await entered(ann, user.name)
        before = await ann.state()
        for place in CLOSED:
            for name, visitor in visitors.items():
                held = next(user.roles for user in users if user.name == name)
                may = not set(held).isdisjoint(role.value for role in place.roles)
                answer = await knock(visitor, place)
                said = (str(place), name, answer.status_code)
                if may:
                    assert answer.status_code in (200, 303, 400, 404, 422), said
                    assert not is_sent_to_login(answer), said
                else:
                    assert answer.status_code == 403, said
                    assert f"Role {place.roles[0]} is required" in text_of(answer), said
        assert await ann.state() == before

    at_visitor(served, story, log_in=False)


async def entered(ann: Visit, name: str) -> Visitor:
    visitor = ann.stranger(name)
    answer = await visitor.log_in()
    assert answer.status_code == 303, text_of(answer)
    return visitor


def test_whoever_is_not_logged_in_here_is_sent_to_log_in(served: Served) -> None:
    cookies: list[str] = []

    async def elsewhere(eve: Visit) -> None:
        cookies.append(eve.http.cookies["gateway_session"])

    async def story(ann: Visit) -> None:
        before = await ann.state()
        xsrf = await ann.xsrf()
        for place in PLACES:
            for visitor in (ann.stranger(), ann.returned(cookies[0]), ann.returned("a.b.c")):
                answer = await knock(visitor, place, xsrf)
                assert is_sent_to_login(answer), (str(place), answer.status_code)
                await visitor.http.aclose()
        assert await ann.state() == before

    at_visitor(served, elsewhere, *Role)
    at_visitor(served, story, *Role)


@pytest.mark.parametrize("place", DEEDS, ids=str)
def test_no_deed_is_done_without_the_word_of_its_session(served: Served, place: Place) -> None:
    async def story(ann: Visit) -> None:
        other = await entered(ann, "ann")
        before = await ann.state()
        for xsrf in ("", await other.xsrf()):
            answer = await knock(ann, place, xsrf)
            assert answer.status_code == 403
            assert "not of your session" in text_of(answer)
        got = await ann.get(place.path, xsrf=await ann.xsrf())
        assert got.status_code in (200, 400, 404, 405)
        assert await ann.state() == before
        assert (await ann.get()).status_code == 200

    at_visitor(served, story, *Role)


def test_no_page_takes_a_form_and_no_deed_is_done_by_asking(served: Served) -> None:
    async def story(ann: Visit) -> None:
        before, xsrf = await ann.state(), await ann.xsrf()
        paths = {place.path for place in PLACES}
        deeds = {place.path for place in DEEDS}
        pages = {place.path for place in PLACES if not place.deed}
        for path in sorted(paths):
            if path not in deeds:
                assert (await ann.post(path, xsrf=xsrf)).status_code == 405, path
            if path not in pages:
                assert (await ann.get(path, xsrf=xsrf)).status_code == 405, path
            for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
                answer = await ann.http.request(method, ann.path(path))
                assert answer.status_code == 405, (method, path)
        assert await ann.state() == before

    at_visitor(served, story, *Role)
