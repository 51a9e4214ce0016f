"""Somebody at the pages of an instance over plain HTTP, as a browser without scripts is there.

Decided here: how one logs in, looks at a page, fills in a form of it and is led on. Each visitor
has cookies of its own. Attempts to log in are forgotten after each story: all are of one address.

    def test_a_key_is_revoked(served: Served) -> None:
        async def story(ann: Visitor) -> None:
            sent = await ann.send("configuration/keys", "keys/revoke", kid="own")
            assert "own is revoked" in await ann.follow(sent)

        at_visitor(served, story, Role.READ, Role.ADMIN)
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from gateway.core.model import Catalogue, Role, User
from tests.vectors.served import NO_TLS, Served
from tests.web.desks import HASH, PASSWORD
from tests.web.doors import Door, at
from tests.web.ui.forms import Sheet, forms_of

# Tried in each name that comes from outside; none of it may be on a page as it is here.
XSS = "<script>alert(1)</script>"
XSS_IN_QUOTES = '"><img src=x onerror=alert(1)>'


class Visitor:
    """A user with a browser. `http` follows nothing by itself and keeps its own cookies."""

    def __init__(self, door: Door, http: httpx.AsyncClient, user: str = "ann") -> None:
        self.door, self.http, self.user = door, http, user

    @property
    def base(self) -> str:
        """The path of the instance's pages, without a slash at its end."""
        return f"/ui/instances/{self.door.instance}"

    async def log_in(self, password: str = PASSWORD, **more: str) -> httpx.Response:
        """Send the form of the log-in page."""
        form = {"instance": self.door.instance, "user": self.user, "password": password}
        return await self.http.post("/ui/login", data=form | more)

    async def get(self, page: str = "", /, **query: str) -> httpx.Response:
        """Ask for a page of the instance, such as `licences`, or for a whole path from `/`."""
        return await self.http.get(self.path(page), params=query or None)

    async def page(self, page: str = "", /, **query: str) -> str:
        """Give what is read on a page, which is there: `text_of` it."""
        answer = await self.get(page, **query)
        assert answer.status_code == 200, text_of(answer)
        return text_of(answer)

    async def form(self, page: str, action: str, /, **query: str) -> Sheet:
        """Find the form of a page that is sent to `action`, a page or a whole path."""
        answer = await self.get(page, **query)
        found = [each for each in forms_of(answer.text) if self._leads_to(each, action)]
        assert found, text_of(answer)
        return found[0]

    async def send(
        self,
        page: str,
        action: str,
        *,
        query: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
        **said: str | list[str],
    ) -> httpx.Response:
        """Fill in the form of a page that is sent to `action`, and send it with its xsrf."""
        sheet = await self.form(page, action, **(query or {}))
        return await self.send_sheet(sheet, files=files, **said)

    async def send_sheet(
        self, sheet: Sheet, *, files: Mapping[str, Any] | None = None, **said: str | list[str]
    ) -> httpx.Response:
        """Send a form with some members said otherwise than they stand in it."""
        data: dict[str, Any] = {}
        for name, value in sheet.fields:
            data.setdefault(name, []).append(value)
        data |= said
        if sheet.method == "get":
            return await self.http.get(sheet.action, params=data)
        return await self.http.post(sheet.action, data=data, files=files)

    async def post(self, action: str, **said: str) -> httpx.Response:
        """Send a form that no page gave: with no xsrf unless it is said."""
        return await self.http.post(self.path(action), data={"unasked": ""} | said)

    async def follow(self, answer: httpx.Response) -> str:
        """Go where a deed leads to; give what is read there."""
        assert answer.status_code == 303, text_of(answer)
        return text_of(await self.http.get(answer.headers["location"]))

    async def xsrf(self) -> str:
        """Give what every form of this session brings."""
        return (await self.form("", "logout")).text("xsrf")

    def path(self, page: str) -> str:
        return page if page.startswith("/") else f"{self.base}/{page}"

    def _leads_to(self, sheet: Sheet, action: str) -> bool:
        return sheet.action.partition("?")[0] == self.path(action)


class Visit(Visitor):
    """Ann, and whoever else comes to her instance."""

    def __init__(self, door: Door, http: httpx.AsyncClient, user: str = "ann") -> None:
        super().__init__(door, http, user)
        self.browsers = [http]

    def _browser(self) -> httpx.AsyncClient:
        self.browsers.append(_browser(self.door.served))
        return self.browsers[-1]

    async def join(self, user: str, *roles: Role, log_in: bool = True) -> Visitor:
        """Give another user of the instance, made with these roles and logged in."""
        made = User(user, HASH, tuple(role.value for role in roles))
        others = [each for each in (await self.catalogue()).users if each.name != user]
        await self.put(users=(*others, made))
        visitor = Visitor(self.door, self._browser(), user)
        if log_in:
            answer = await visitor.log_in()
            assert answer.status_code == 303, text_of(answer)
        return visitor

    def stranger(self, user: str = "ann") -> Visitor:
        """Give somebody with a browser of its own who is not logged in."""
        return Visitor(self.door, self._browser(), user)

    async def put(self, **changes: Any) -> Catalogue:
        """Write the next catalogue from behind."""
        return await self.door.put(**changes)

    async def catalogue(self) -> Catalogue:
        found = await self.door.served.catalogues.read(self.door.instance)
        assert found is not None
        return found.catalogue

    async def ask(self, host: str, *features: tuple[str, int], borrow: str = "1h") -> Any:
        """Let a host ask for features; give the answer."""
        body = {
            "hostId": {"type": "string", "value": host},
            "borrow-interval": borrow,
            "features": [{"name": name, "count": count} for name, count in features],
        }
        answer = await self.door.knock(body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def returned(self, cookie: str, name: str = "gateway_session") -> Visitor:
        """Give a stranger who brings this cookie to the instance's pages, and no other one."""
        other = self.stranger()
        other.http.cookies.set(name, cookie, "127.0.0.1", self.base)
        return other

    async def state(self) -> dict[str, Any]:
        """Give all that the store has of the instance, to see that nothing moved. That its books
        were brought up to a moment, as each look at them may do, is no move.
        """
        store: Any = self.door.served.store
        found: dict[str, Any] = {}
        for key in sorted(await self.door.served.keys()):
            if f":{self.door.instance}:" in key and ":l:" not in key:
                found[key] = await store.dump(key)
                if key.endswith(":ledger"):
                    found[key] = await store.hgetall(key)
                    found[key].pop(b"last_ms", None)
        return found


def at_visitor(
    served: Served,
    story: Callable[[Visit], Awaitable[None]],
    *roles: Role,
    log_in: bool = True,
    **changes: Any,
) -> None:
    """Run a story of ann's at an instance of a test's own, where she has READ unless other roles
    are named; `changes` are of its catalogue.
    """

    async def told(door: Door) -> None:
        held = tuple(role.value for role in roles or (Role.READ,))
        await door.put(**{"users": (User("ann", HASH, held),)} | changes)
        ann = Visit(door, _browser(served))
        try:
            if log_in:
                answer = await ann.log_in()
                assert answer.status_code == 303, text_of(answer)
            await story(ann)
        finally:
            for browser in ann.browsers:
                await browser.aclose()
            for key in await served.keys():
                if ":l:" in key:
                    await served.store.delete(key)

    at(served, told)


def text_of(answer: httpx.Response | str) -> str:
    """Give what is read in a page's main part, in one line, its numbers without thin spaces."""
    source = answer if isinstance(answer, str) else answer.text
    main = source.partition("<main")[2].partition(">")[2].partition("</main>")[0] or source
    plain = html.unescape(re.sub(r"<[^>]*>", " ", main)).replace("\u202f", "")
    return re.sub(r"\s+([.,:;])", r"\1", " ".join(plain.split()))


def is_sent_to_login(answer: httpx.Response) -> bool:
    """Say whether an answer asks to log in."""
    at_login = answer.headers.get("location", "").startswith("/ui/login?")
    return answer.status_code == 303 and at_login


def cookies_of(answer: httpx.Response) -> dict[str, str]:
    """Give the Set-Cookie headers of an answer by name."""
    found = answer.headers.get_list("set-cookie")
    return {each.partition("=")[0]: each for each in found}


def is_escaped(page: str, *texts: str) -> bool:
    """Say whether none of these texts is in the source of a page as it is."""
    return not any(text in page for text in texts or (XSS, XSS_IN_QUOTES))


def _browser(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.url, timeout=60, verify=NO_TLS)
