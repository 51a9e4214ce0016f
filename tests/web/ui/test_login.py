"""The way in to the pages, as somebody who means ill tries it.

Law: RELIABILITY 3. Whatever is wrong is told in the same words; what is asked for leads to no other
site, into no header and into no page as markup; a form of another site logs nobody in.
"""

from __future__ import annotations

import pytest

from tests.vectors.served import Served
from tests.web.desks import PASSWORD
from tests.web.ui.visitors import (
    XSS,
    XSS_IN_QUOTES,
    Visit,
    at_visitor,
    cookies_of,
    is_escaped,
    is_sent_to_login,
    text_of,
)

SESSION = "gateway_session"
WRONG = "Instance, user and password do not fit together."


def test_whoever_has_no_session_logs_in_and_comes_back(served: Served) -> None:
    async def story(ann: Visit) -> None:
        asked = await ann.get("licences", q="a b&c", page="1")
        assert is_sent_to_login(asked)
        sheet = await ann.form(asked.headers["location"], "/ui/login")
        assert sheet.text("instance") == ann.door.instance
        sent = await ann.send_sheet(sheet, user="ann", password=PASSWORD)
        assert sent.status_code == 303
        assert sent.headers["location"] == f"{ann.base}/licences?q=a+b%26c&page=1"
        assert "ann" in (await ann.http.get(sent.headers["location"])).text

    at_visitor(served, story, log_in=False)


@pytest.mark.parametrize("path", ["/ui", "/ui/"])
def test_the_bare_address_leads_to_the_login(served: Served, path: str) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.http.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/login")
        below = await ann.http.get(ann.base)
        assert (below.status_code, below.headers["location"]) == (303, f"{ann.base}/")

    at_visitor(served, story, log_in=False)


@pytest.mark.parametrize(
    "said",
    [
        {"password": "wrong"},
        {"password": ""},
        {"password": "x" * 5_000},
        {"user": "nobody"},
        {"user": ""},
        {"user": "x" * 500},
        {"instance": "NOWHERE"},
        {"instance": "../../etc"},
        {"instance": XSS_IN_QUOTES, "user": XSS, "next": XSS_IN_QUOTES},
    ],
    ids=str,
)
def test_whatever_is_wrong_with_a_login_is_told_in_the_same_words(
    served: Served, said: dict[str, str]
) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.log_in(**{"user": "ann", "password": PASSWORD} | said)
        assert answer.status_code == 401
        assert WRONG in text_of(answer)
        assert is_escaped(answer.text)
        assert PASSWORD not in answer.text
        assert "set-cookie" not in answer.headers
        assert is_sent_to_login(await ann.get())

    at_visitor(served, story, log_in=False)


def test_too_many_attempts_are_refused_also_with_the_right_password(served: Served) -> None:
    async def story(ann: Visit) -> None:
        for _ in range(30):
            answer = await ann.log_in("wrong")
            if answer.status_code == 429:
                break
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        right = await ann.log_in()
        assert right.status_code == 429
        assert "set-cookie" not in right.headers

    at_visitor(served, story, log_in=False)


@pytest.mark.parametrize(
    "asked",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "{base}.evil.example/",
        "{base}/../OTHER/",
        "{base}/%0d%0aSet-Cookie:x=1\r\nSet-Cookie: x=1",
        "{base}/\tx",
        "{base}/\\..\\x",
        "/ui/instances/OTHER/",
        "/api/1.0/openapi.json",
        "{base}/\u00e4",
    ],
)
def test_a_login_leads_to_no_other_place_than_a_page_of_its_instance(
    served: Served, asked: str
) -> None:
    async def story(ann: Visit) -> None:
        answer = await ann.log_in(next=asked.format(base=ann.base))
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{ann.base}/"
        assert list(cookies_of(answer)) == [SESSION]

    at_visitor(served, story, log_in=False)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_a_form_of_another_site_logs_nobody_in_and_changes_nothing(
    served: Served, headers: dict[str, str]
) -> None:
    async def story(ann: Visit) -> None:
        right = {"instance": ann.door.instance, "user": "ann", "password": PASSWORD}
        answer = await ann.http.post("/ui/login", data=right, headers=headers)
        assert answer.status_code == 403
        assert "another site" in text_of(answer)
        assert "set-cookie" not in answer.headers
        await ann.log_in()
        form = {"xsrf": await ann.xsrf()}
        answer = await ann.http.post(f"{ann.base}/logout", data=form, headers=headers)
        assert answer.status_code == 403
        await ann.page()

    at_visitor(served, story, log_in=False)


@pytest.mark.parametrize("site", ["same-origin", "none", None])
def test_a_form_of_our_own_is_taken(served: Served, site: str | None) -> None:
    async def story(ann: Visit) -> None:
        headers = {"Origin": served.url} if site is None else {"Sec-Fetch-Site": site}
        right = {"instance": ann.door.instance, "user": "ann", "password": PASSWORD}
        answer = await ann.http.post("/ui/login", data=right, headers=headers)
        assert answer.status_code == 303

    at_visitor(served, story, log_in=False)
