"""The way in and the way out: a log-in names an instance, since users are an instance's.

Decided here: that whatever is wrong with a log-in is told in the same words, and that after it only
a page of that instance is opened. Not decided here: how attempts are counted and judged
(service/admin.py).
"""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.errors import BadRequest, UserAuthFailed
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.cmapi_admin import USER_BYTES_MAX
from gateway.service.credentials import DEFAULT_INSTANCE
from gateway.web.bodies import ClientGone, Headers, Limits, read_body
from gateway.web.endpoints import NOTED, Answered, Endpoint, by_method
from gateway.web.ui.browsers import SAFE, SESSION_COOKIE, check_origin, content_type_of, cookie
from gateway.web.ui.doors import HTML, NEXT_MAX, Doors, frame_of, noted_as
from gateway.web.ui.forms import Form, read_form, read_query
from gateway.web.ui.visits import BASE, INSTANCES, Moved, Reply, Visit, address, base_of

LOGIN: Final = f"{BASE}/login"
FORM_LIMITS: Final = Limits(16 * 2**10, 5.0)


def routes(doors: Doors) -> list[BaseRoute]:
    """Give the routes of logging in and out."""
    login = _Login(doors)
    answers = {"GET": login.show, "HEAD": login.show, "POST": login.enter}
    return [
        Route(BASE, Endpoint("page_start", _start), methods=["GET"]),
        Route(f"{BASE}/", Endpoint("page_start", _start), methods=["GET"]),
        Route(LOGIN, Endpoint("page_login", by_method(answers)), methods=list(answers)),
        Route(f"{INSTANCES}/{{instance}}", Endpoint("page_start", _enter), methods=["GET"]),
        doors.deed("logout", "logout", login.leave),
    ]


async def _start(scope: Scope, receive: Receive, request_id: str) -> Answered:
    return 303, [*SAFE, (b"location", LOGIN.encode())], b""


async def _enter(scope: Scope, receive: Receive, request_id: str) -> Answered:
    path = f"{base_of(scope['path_params']['instance'])}/"
    return 303, [*SAFE, (b"location", path.encode())], b""


class _Login:
    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def show(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        try:
            query = read_query(scope["query_string"])
        except BadRequest:
            query = {}
        data = {name: query.get(name, "")[:NEXT_MAX] for name in ("instance", "next")}
        words = {name: "1" if query.get(name) else "" for name in ("ended", "over")}
        return self._page(scope, data | words)

    async def enter(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        form = Form()
        try:
            headers = Headers(scope)
            body = await read_body(receive, headers.content_length, FORM_LIMITS)
            check_origin(scope)
            form = read_form(content_type_of(scope), body)
            user, password = form.text("user"), form.text("password")
            if (
                not 1 <= len(user.encode()) <= USER_BYTES_MAX
                or not 1 <= len(password.encode()) <= PASSWORD_BYTES_MAX
            ):
                raise UserAuthFailed(user[:64])
            named = form.text("instance").strip() or DEFAULT_INSTANCE
            client = scope["client"][0] if scope.get("client") else ""
            session = await self._doors.sessions.begin(named, user, password, client)
        except ClientGone:
            raise
        except Exception as error:
            return self._refused(scope, form, error, request_id)
        scope[NOTED].instance = session.instance
        path = base_of(session.instance)
        text = self._doors.sessions.cookie(session)
        put = cookie(scope, SESSION_COOKIE, text, path)
        to = _next(form.text("next"), path)
        return 303, [*SAFE, (b"location", to.encode()), put], b""

    async def leave(self, visit: Visit) -> Reply:
        await self._doors.sessions.end(visit.who)
        return Moved(address(LOGIN, instance=visit.instance, ended="1"), ends=True)

    def _refused(self, scope: Scope, form: Form, error: Exception, request_id: str) -> Answered:
        status, headers, sentence = noted_as(scope, error, request_id)
        if isinstance(error, UserAuthFailed):
            sentence = "Instance, user and password do not fit together."
        data = {
            "instance": form.text("instance")[:64],
            "next": form.text("next")[:NEXT_MAX],
            "user": form.text("user")[:64],
            "sentence": sentence,
        }
        return self._page(scope, data, status, headers)

    def _page(
        self,
        scope: Scope,
        data: dict[str, str],
        status: int = 200,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> Answered:
        filled = {"user": "", "sentence": "", "ended": "", "over": "", "told": "", **data}
        frame = frame_of(scope, None)
        body = self._doors.renderer.render("login.html", {**frame, **filled})
        return status, [*SAFE, HTML, *(headers or [])], body


def _next(asked: str, path: str) -> str:
    """Say where to go: to the page asked for when it is one of this instance, else to the first."""
    plain = asked.isascii() and asked.isprintable() and "\\" not in asked and "/." not in asked
    return asked if plain and asked.startswith(f"{path}/") else f"{path}/"
