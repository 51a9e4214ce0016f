"""The overview: each part of it told as it is, and one that cannot be read hides no other."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway.core.model import Attachment, Role
from gateway.core.ports import Standing
from gateway.service.lately import Seen
from gateway.service.overview import Upstream
from gateway.store.standings import OutboxStanding
from gateway.web.ui.overview import _state_of
from tests.vectors.served import Served
from tests.web.ui.looks import ESCAPED, EVIL, Looker, at_looker, looks_serving

PARENT = {"upstreams": (Attachment("parent"),)}
_encode = msgspec.msgpack.Encoder().encode


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with looks_serving(tmp_path_factory.mktemp("overview")) as opened:
        yield opened


def test_an_instance_without_use_is_well_in_each_part(served: Served) -> None:
    async def story(looker: Looker) -> None:
        page = await looker.page()
        assert page.status == 200
        for words in (
            "Books OK",
            "Near capacity none of 5 lines in force.",
            "Denied today 0",
            "No upstream is attached.",
            "For a person to decide nothing",
            "Store fit",
            "No line in force has reached 80 %",
        ):
            assert words in page.text
        assert 'data-refresh="10"' in page.source
        assert f"of instance {looker.door.instance} alone" in page.text

    at_looker(served, story, upstreams=())


def test_the_fullest_line_and_what_was_denied_of_it_are_named_with_the_reason(
    served: Served,
) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("sessions", 96))
        await looker.ask("h1", ("editor", 3))
        await looker.ask("h2", ("editor", 1))
        await looker.ask("h2", ("nothing", 1))
        page = await looker.page()
        assert "Near capacity 2 lines Fullest: editor, 100 %." in page.text
        near = page.table("Lines near capacity")
        assert [row[:4] for row in near] == [
            ["editor editor", "100 %", "3", "3"],
            ["sessions sessions", "96 %", "96", "100"],
        ]
        assert near[0][5] == "3 held at most in 28 days."
        assert near[1][5].startswith("No forecast: too little data")
        denied = page.table("Denied on")
        assert [row[:2] for row in denied] == [
            ["editor editor", "1"],
            ["A feature that no line has", "1"],
        ]
        assert "everything is used, or held by others" in denied[0][2]
        assert denied[1][2].endswith("FEATURE_NOT_FOUND")
        line = await looker.page(page.link("editor"))
        assert "Who holds it" in line.text

    at_looker(served, story)


def test_what_waits_is_told_by_upstream_with_its_age(served: Served) -> None:
    async def story(looker: Looker) -> None:
        page = await looker.page()
        assert "Waiting to be sent nothing Everything was forwarded." in page.text
        await looker.ask("h1", ("sessions", 40))
        page = await looker.page()
        assert "old is the oldest usage: Forwarding" in page.text
        [row] = page.table("What each upstream does not have yet")
        assert row[0] == "parent"
        assert row[1].startswith("not configured on this gateway")
        assert row[3:] == ["40", "0", "0", "0"]

    at_looker(served, story, **PARENT)


def test_a_batch_that_may_not_have_arrived_is_told_with_its_moment(served: Served) -> None:
    async def story(looker: Looker) -> None:
        keys = looker.served.catalogues.keys(looker.door.instance)
        sealed = {"id": "b1", "rows": _encode([("sessions", 495_000, "", 4)]), "body": "{}"}
        sealed |= {"attempts": 3, "first_sent_ms": 1_782_000_000_000}
        await looker.served.store.hset(keys.sealed("parent"), mapping=sealed)
        page = await looker.page()
        told = page.table("What each upstream")[0][2]
        assert "under way since 2026-06-2" in told
        assert "of 2026-06-2" in told
        await looker.served.store.delete(keys.sealed("parent"))

    at_looker(served, story, **PARENT)


def test_what_a_person_has_to_decide_is_counted(served: Served) -> None:
    async def story(looker: Looker) -> None:
        keys = looker.served.catalogues.keys(looker.door.instance)
        facts = {
            "b1|facts": _encode((Standing.PARKED, EVIL, 1, 1, 1)),
            "b2|facts": _encode((Standing.DEAD, "", 1, 1, 1)),
        }
        await looker.served.store.hset(keys.aside("parent"), mapping=facts)
        await looker.served.store.hset(keys.blocked("parent"), "users|1", 7)
        page = await looker.page()
        assert "For a person to decide 2 batches set aside, 1 row blocked" in page.text
        assert "But some of it was refused or set aside." in page.text
        assert page.table("What each upstream")[0][4:] == ["1", "1", "1"]

    at_looker(served, story, **PARENT)


def test_books_that_do_not_agree_are_told_with_their_difference(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("sessions", 40))
        keys = looker.served.catalogues.keys(looker.door.instance)
        await looker.served.store.hincrby(keys.ledger, "forwarded|sessions|parent", 2)
        page = await looker.page()
        assert "Books 1 difference Units are not where they should be" in page.text
        assert "line sessions to parent: 40 acked, but 42 accounted for" in page.text

    at_looker(served, story, **PARENT)


def test_a_part_that_cannot_be_read_says_so_and_hides_no_other(served: Served) -> None:
    async def story(looker: Looker) -> None:
        await looker.ask("h1", ("sessions", 96))
        keys = looker.served.catalogues.keys(looker.door.instance)
        await looker.served.store.set(keys.open("parent"), EVIL)
        page = await looker.page()
        assert page.status == 200
        assert "Waiting to be sent not known" in page.text
        assert "It cannot be read:" in page.text
        assert "Fullest: sessions, 96 %." in page.text
        for month in await looker.served.store.keys(keys.prefix + "days:*"):
            await looker.served.store.set(month, EVIL)
        page = await looker.page()
        assert "Denied today not known It cannot be read" in page.text
        assert "Fullest: sessions, 96 %." in page.text
        assert EVIL not in page.source

    at_looker(served, story, **PARENT)


def test_names_from_outside_are_shown_and_never_obeyed(served: Served) -> None:
    async def story(looker: Looker) -> None:
        page = await looker.page()
        assert ESCAPED in page.source
        assert EVIL not in page.source

    at_looker(served, story, name=EVIL)


def test_only_who_may_read_sees_it(served: Served) -> None:
    async def story(looker: Looker) -> None:
        page = await looker.page()
        assert (page.status, "ROLE_READ" in page.text) == (403, True)
        assert "Books" not in page.text
        looker.http.cookies.clear()
        assert (await looker.page()).status == 303

    at_looker(served, story, Role.ADMIN, Role.PRODUCER)


def _upstream(
    kind: str = "cmapi", away: int | None = 0, stopped: int | None = 0, attempts: int = 0
) -> Upstream:
    return Upstream("parent", kind, away, stopped, Seen(OutboxStanding(attempts=attempts)))


@pytest.mark.parametrize(
    ("upstream", "state"),
    [
        (_upstream(kind=""), "warn"),
        (_upstream(away=1, stopped=1), "bad"),
        (_upstream(away=1), "bad"),
        (_upstream(attempts=2), "warn"),
        (_upstream(away=None, stopped=None), "faint"),
        (_upstream(attempts=1), "good"),
    ],
)
def test_an_upstream_is_told_by_the_worst_that_is_known_of_it(
    upstream: Upstream, state: str
) -> None:
    assert _state_of(upstream)[0] == state
