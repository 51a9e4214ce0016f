"""Registrations: who holds what, when it lapses, who was seen when; and releasing one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from gateway.core.floating import USER_TYPE
from gateway.core.model import Holding, Role
from gateway.protocols.cmapi_clients import Returned
from gateway.service import registrations
from gateway.service.clients import mark_of
from gateway.web.ui.registrations import _told
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.visitors import XSS, XSS_IN_QUOTES, Visit, at_visitor, is_escaped, text_of

ROLES = (Role.READ, Role.DROPCLIENT)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("registrations")) as opened:
        yield opened


async def used(ann: Visit) -> dict[str, int]:
    return await ann.door.used()


async def held(served: Served, ann: Visit) -> dict[str, list[Holding]]:
    packed = await served.store.hgetall(served.catalogues.keys(ann.door.instance).holds)
    decode = msgspec.msgpack.Decoder(list[Holding]).decode
    return {host.decode(): decode(text) for host, text in packed.items()}


def test_who_holds_most_comes_first_and_who_holds_nothing_is_among_all(served: Served) -> None:
    async def story(ann: Visit) -> None:
        assert "Nothing is held." in await ann.page("registrations")
        assert "No host has asked yet." in await ann.page("registrations", all="1")
        await ann.ask("h1", ("editor", 1))
        await ann.ask("h2", ("editor", 2))
        await ann.ask("h3", ("sessions", 5))
        page = await ann.page("registrations")
        assert "STRING:h2 CMAPI 2 of editor" in page
        assert "STRING:h1 CMAPI 1 of editor" in page
        assert page.index("STRING:h2") < page.index("STRING:h1")
        assert "STRING:h3" not in page
        page = await ann.page("registrations", all="1")
        assert "STRING:h3 CMAPI nothing" in page
        assert page.index("STRING:h3") < page.index("STRING:h2") < page.index("STRING:h1")
        assert "1 to 3 of 3 hosts" in page

    at_visitor(served, story)


def test_hosts_are_searched_by_a_part_of_their_name_and_by_line(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("alpha", ("editor", 1))
        await ann.ask("beta", ("pages", 2), ("sessions", 1))
        await ann.ask("gamma", ("sessions", 1))
        lines = {line.feature: line.id for line in (await ann.catalogue()).lines}
        page = await ann.page("registrations", q="LPH")
        assert "STRING:alpha" in page
        assert "STRING:beta" not in page
        page = await ann.page("registrations", line=lines["pages"])
        assert "STRING:beta CMAPI" in page
        assert "STRING:alpha" not in page
        page = await ann.page("registrations", q="gam", all="1")
        assert "STRING:gamma CMAPI nothing" in page
        assert "STRING:alpha" not in page
        assert "No host fits this search." in await ann.page("registrations", q="nobody")

    at_visitor(served, story)


def test_many_hosts_are_turned_page_by_page(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for number in range(53):
            await ann.ask(f"h{number:02}", ("sessions", 1))
        page = await ann.page("registrations", all="1")
        assert "1 to 50 of 53 hosts" in page
        assert "STRING:h52" in page
        page = await ann.page("registrations", all="1", page="2")
        assert "51 to 53 of 53 hosts" in page
        assert "STRING:h00" in page
        assert "51 to 53 of 53 hosts" in await ann.page("registrations", all="1", page="2", q="h")
        assert "51 to 53 of 53 hosts" in await ann.page("registrations", all="1", page="9")
        assert (await ann.get("registrations", page="x")).status_code == 400

    at_visitor(served, story)


def test_a_search_over_too_many_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "FOUND_MAX", 2)

    async def story(ann: Visit) -> None:
        for number in range(3):
            await ann.ask(f"h{number}", ("editor", 1))
        assert "too many to look at" in await ann.page("registrations")
        assert "too many to look at" in await ann.page("registrations", q="h", all="1")

    at_visitor(served, story)


def test_a_host_named_in_full_is_found_among_too_many(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "FOUND_MAX", 1)

    async def story(ann: Visit) -> None:
        for number in range(3):
            await ann.ask(f"h{number}", ("editor", 1))
        for number in range(3):
            for everybody in ("", "1"):
                page = await ann.page("registrations", q=f"string:h{number}", all=everybody)
                assert "1 to 1 of 1 hosts" in page
                assert f"STRING:h{number} CMAPI 1 of editor" in page

    at_visitor(served, story)


def test_what_cannot_be_read_is_said_in_its_place(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 1))
        await ann.ask("torn", ("sessions", 1))
        await served.store.hset(
            served.catalogues.keys(ann.door.instance).holds, "STRING:torn", b"\xc1"
        )
        for everybody in ("", "1"):
            page = await ann.page("registrations", all=everybody)
            assert "STRING:h1 CMAPI 1 of editor" in page
            assert "STRING:torn CMAPI What it holds cannot be read." in page
        page = await ann.page("registrations/release", host="STRING:torn")
        assert "cannot be read, so it is not released" in page
        sent = await ann.post("registrations/release", host="STRING:torn", xsrf=await ann.xsrf())
        assert sent.status_code == 409
        assert "STRING:torn" in await ann.page("registrations", all="1")

    at_visitor(served, story, *ROLES)


def test_a_release_says_what_comes_back_and_returns_it(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 2), ("sessions", 7))
        before = await used(ann)
        shown = await ann.page("registrations/release", host="STRING:h1")
        assert "Release STRING:h1?" in shown
        assert "2 of editor" in shown
        assert await used(ann) == before
        sent = await ann.send(
            "registrations/release", "registrations/release", query={"host": "STRING:h1"}
        )
        assert "Released STRING:h1: 2 of editor came back." in await ann.follow(sent)
        after = await used(ann)
        assert sum(before.values()) - sum(after.values()) == 2  # what was consumed stays
        assert "Nothing is held." in await ann.page("registrations")
        xsrf = await ann.xsrf()
        again = await ann.post("registrations/release", host="STRING:h1", xsrf=xsrf, mark="")
        assert again.status_code == 404
        assert "not here any more" in text_of(again)
        assert await used(ann) == after

    at_visitor(served, story, *ROLES)


def test_only_what_was_shown_is_released(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 1))
        form = ("registrations/release", "registrations/release")
        sheet = await ann.form(*form, host="STRING:h1")
        await ann.ask("h1", ("editor", 2))
        before = await used(ann)
        refused = await ann.send_sheet(sheet)
        assert refused.status_code == 409
        assert "holds something else than when you looked; nothing was done" in text_of(refused)
        assert "2 of editor" in text_of(refused)
        assert await used(ann) == before
        fresh = await ann.form(*form, host="STRING:h1")
        await ann.ask("h1", ("editor", 2), borrow="2h")  # a renewal holds no more and no longer
        assert "2 of editor came back" in await ann.follow(await ann.send_sheet(fresh))
        await ann.ask("h1", ("editor", 2))
        again = await ann.send_sheet(fresh)
        assert again.status_code == 409
        assert await used(ann) == before

    at_visitor(served, story, *ROLES)


def test_white_space_at_the_end_belongs_to_a_host(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 1))
        await ann.ask("h1 ", ("editor", 2))
        sent = await ann.send(
            "registrations/release", "registrations/release", query={"host": "STRING:h1 "}
        )
        assert "2 of editor came back" in await ann.follow(sent)
        assert "STRING:h1 CMAPI 1 of editor" in await ann.page("registrations")

    at_visitor(served, story, *ROLES)


def test_a_release_leads_back_to_the_line_that_was_looked_at(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 1))
        line = next(each.id for each in (await ann.catalogue()).lines if each.feature == "editor")
        page = await ann.get("registrations", line=line)
        assert f"host=STRING%3Ah1&amp;line={line}" in page.text
        sent = await ann.send(
            "registrations/release",
            "registrations/release",
            query={"host": "STRING:h1", "line": line},
        )
        assert sent.headers["location"].endswith(f"registrations?line={line}")
        assert "Nothing is held of it." in await ann.follow(sent)

    at_visitor(served, story, *ROLES)


def test_a_release_of_many_lines_is_told_in_short() -> None:
    returned = [Returned(f"L{n}", f"feature-{n}", "1", 1_000) for n in range(5)]
    told = _told(returned).replace("\u202f", "")
    assert told == (
        "1000 of feature-0, 1000 of feature-1, 1000 of feature-2, 2000 of 2 more lines came back"
    )


def test_the_protocol_of_a_host_follows_from_its_type() -> None:
    def protocol(host: str) -> str:
        return registrations.Registration(host=host, seen_ms=1, held=[]).protocol

    assert protocol(f"{USER_TYPE}:ann") == "LicenseSpring"
    assert protocol(f"STRING:{USER_TYPE}:ann") == "CMAPI"


def test_a_double_click_releases_once(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 2))
        sheet = await ann.form("registrations/release", "registrations/release", host="STRING:h1")
        answers = await asyncio.gather(*(ann.send_sheet(sheet) for _ in range(4)))
        codes = sorted(each.status_code for each in answers)
        assert codes == [303, 404, 404, 404]
        assert await used(ann) == {}

    at_visitor(served, story, *ROLES)


def test_whoever_may_not_release_is_offered_none_and_moves_nothing(served: Served) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask("h1", ("editor", 2))
        page = await ann.page("registrations")
        assert "Release …" not in page
        assert "needs ROLE_DROPCLIENT" in page
        before = await used(ann)
        assert (await ann.get("registrations/release", host="STRING:h1")).status_code == 403
        xsrf = await ann.xsrf()
        mark = mark_of((await held(served, ann))["STRING:h1"])
        release = {"host": "STRING:h1", "mark": mark}
        refused = await ann.post("registrations/release", xsrf=xsrf, **release)
        assert refused.status_code == 403
        bob = await ann.join("bob", *ROLES)
        forged = await bob.post("registrations/release", xsrf=xsrf, **release)
        assert forged.status_code == 403
        assert (await bob.post("registrations/release", **release)).status_code == 403
        assert await used(ann) == before
        assert (
            await bob.post("registrations/release", xsrf=await bob.xsrf(), **release)
        ).is_redirect
        assert await used(ann) == {}
        carl = await ann.join("carl", Role.DROPCLIENT)
        assert (await carl.get("registrations")).status_code == 403

    at_visitor(served, story)


@pytest.mark.parametrize("name", [XSS, XSS_IN_QUOTES])
def test_a_host_of_any_name_is_text_and_can_be_released(served: Served, name: str) -> None:
    async def story(ann: Visit) -> None:
        await ann.ask(name, ("editor", 1))
        host = f"STRING:{name}"
        for page, query in (
            ("registrations", {}),
            ("registrations", {"q": name}),
            ("registrations", {"line": name}),
            ("registrations/release", {"host": host}),
        ):
            answer = await ann.get(page, **query)
            assert answer.status_code == 200
            assert is_escaped(answer.text)
        sent = await ann.send(
            "registrations/release", "registrations/release", query={"host": host}
        )
        told = await ann.http.get(sent.headers["location"])
        assert is_escaped(told.text)
        assert await used(ann) == {}

    at_visitor(served, story, *ROLES)
