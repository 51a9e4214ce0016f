"""What every page answers, whatever is asked: forms that are none, paths that lead nowhere.

Law: RELIABILITY 3, OWASP ASVS 5. A form counts that a page of the same session gave, and no other
one; nothing is kept, framed, or loaded from elsewhere; what goes wrong is told in a page.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from gateway.core.errors import Unavailable
from gateway.core.model import Role
from gateway.service.page_sessions import PageSessions
from gateway.service.users import Users
from gateway.web.ui.browsers import POLICY
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.visitors import (
    XSS,
    XSS_IN_QUOTES,
    Visit,
    at_visitor,
    is_escaped,
    is_sent_to_login,
    text_of,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_form_without_the_word_of_its_session_is_refused(served: Served) -> None:
    async def story(ann: Visit) -> None:
        other = ann.stranger()
        await other.log_in()
        for xsrf in ("", "0", await other.xsrf(), (await ann.xsrf())[:-1]):
            answer = await ann.post("logout", xsrf=xsrf)
            assert answer.status_code == 403
            assert "not of your session" in text_of(answer)
        await ann.page()
        in_query = await ann.http.post(f"{ann.base}/logout?xsrf={await ann.xsrf()}", headers=FORM)
        assert in_query.status_code == 403

    at_visitor(served, story)


def test_a_form_of_nobody_is_sent_to_log_in_and_not_carried_out(served: Served) -> None:
    async def story(ann: Visit) -> None:
        stranger = ann.stranger()
        answer = await stranger.post("logout", xsrf=await ann.xsrf())
        assert is_sent_to_login(answer)
        assert httpx.URL(answer.headers["location"]).params["next"] == f"{ann.base}/"
        await ann.page()

    at_visitor(served, story)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (413, FORM, b"xsrf=" + b"x" * (2**20 + 1)),
        (415, {"Content-Type": "text/plain"}, b"xsrf=x"),
        (415, {"Content-Type": "application/json"}, b"{}"),
        (415, {}, b"xsrf=x"),
        (400, FORM, b"&".join(b"a=1" for _ in range(501))),
        (400, FORM, b"xsrf=%ff"),
        (400, FORM, b"xsrf=%00"),
        (400, FORM, "xsrf=\u00e4".encode()),
        (400, {"Content-Type": "multipart/form-data"}, b"--x--"),
        (400, {"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\n"),
    ],
    ids=str,
)
def test_a_form_that_cannot_be_read_is_refused_in_a_page(
    served: Served, status: int, headers: dict[str, str], body: bytes
) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.http.post(f"{ann.base}/logout", headers=headers, content=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert 'role="alert"' in answer.text
        await ann.page()

    at_visitor(served, story)


@pytest.mark.parametrize("query", [b"q=%ff", b"q=%00", b"q=" + b"x" * 300, b"a=1&" * 501])
def test_a_query_that_cannot_be_read_is_refused_in_a_page(served: Served, query: bytes) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.http.get(f"{ann.base}/licences?{query.decode()}")
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text

    at_visitor(served, story)


def test_no_answer_is_kept_framed_or_lets_in_anything_from_elsewhere(served: Served) -> None:
    async def story(ann: Visit) -> None:
        answers = [
            await ann.get(),
            await ann.get("nowhere"),
            await ann.http.get("/ui/login"),
            await ann.stranger().get(),
            await ann.log_in("wrong"),
            await ann.post("logout"),
            await ann.post("licences"),
            await ann.get("licences", q="x" * 300),
        ]
        assert [each.status_code for each in answers] == [200, 404, 200, 303, 401, 403, 405, 400]
        for answer in answers:
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert "location" in answer.headers or answer.text.startswith("<!doctype html>")
        assert "frame-ancestors 'none'" in POLICY
        assert "unsafe" not in POLICY
        assert "allow" in answers[6].headers

    at_visitor(served, story)


def test_a_deed_whose_outcome_is_not_known_is_told_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(ann: Visit) -> None:
        for outcome, sentence in (
            ("unknown", "It may have been done all the same"),
            ("applied_not_durable", "It may have been done all the same"),
            ("not_applied", "Nothing was changed"),
        ):

            async def fail(*_: object, outcome: str = outcome) -> None:
                raise Unavailable("The store gave no usable answer", outcome)  # type: ignore[arg-type]

            monkeypatch.setattr(Users, "remove", fail)
            answer = await ann.post("configuration/users/remove", name="x", xsrf=await ann.xsrf())
            assert answer.status_code == 503
            assert sentence in text_of(answer)

            monkeypatch.setattr(PageSessions, "know", fail)
            answer = await ann.get("configuration")
            assert answer.status_code == 503
            assert "Nothing was changed" in text_of(answer)
            assert "Log in" not in answer.text  # who is logged in stays so
            monkeypatch.undo()

    at_visitor(served, story, Role.READ, Role.ADMIN)


def test_a_page_that_is_not_there_is_told_in_a_page_without_markup(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for path in (f"/ui/{XSS}", f"{ann.base}/{XSS_IN_QUOTES}", "/ui/instances/"):
            answer = await ann.http.get(path)
            assert answer.status_code == 404
            assert "Not there" in text_of(answer)
            assert is_escaped(answer.text)
        api = await ann.http.get("/uix")
        assert api.json()["key"] == "gateway.notFound"

    at_visitor(served, story)


def test_head_is_answered_as_get_without_a_body(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for path in (f"{ann.base}/licences", "/ui/login", "/ui"):
            got, head = await ann.http.get(path), await ann.http.head(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-security-policy"] == POLICY

    at_visitor(served, story)


def test_files_are_kept_by_browsers_and_read_only(served: Served) -> None:
    async def story(ann: Visit) -> None:
        page = (await ann.get()).text
        found = [part.partition('"')[0] for part in page.split('"/ui/files/')[1:]]
        assert [each.rpartition("/")[2] for each in found] == [
            "style.css",
            "icon.svg",
            "refresh.js",
        ]
        for each in found:
            answer = await ann.http.get(f"/ui/files/{each}")
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            assert (await ann.http.post(f"/ui/files/{each}")).status_code == 405
        for wrong in ("0/style.css", f"{found[0].partition('/')[0]}/refresh.js", "x/..%2fdoors.py"):
            assert (await ann.http.get(f"/ui/files/{wrong}")).status_code == 404

    at_visitor(served, story)


def test_where_pages_are_turned_off_there_are_none(tmp_path: Path) -> None:
    async def story(ann: Visit) -> None:
        for path in ("/ui", "/ui/", "/ui/login", f"{ann.base}/", "/ui/x"):
            answer = await ann.http.get(path)
            assert (answer.status_code, answer.json()["key"]) == (404, "gateway.notFound")

    with door_serving(tmp_path, UI__ENABLED="false") as served:
        at_visitor(served, story, log_in=False)
