"""The one way in to every page: a session, its roles, its forms; and the one shape of an answer.

Decided here: whoever has no session is sent to log in and comes back after that; a form is read
when its session is known, and taken from a page of that session only; nothing is kept by a browser
or loaded from elsewhere; a refresh that nobody asked for does not keep a session alive. Not decided
here: what a page shows, and what is a sound request of a browser (browsers.py).
Source: RELIABILITY 3, OWASP ASVS 5 (sessions, CSRF, CSP).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.errors import GatewayError, TooManyRequests, Unauthorized, Unavailable
from gateway.core.metrics import Outcome
from gateway.core.model import Role
from gateway.protocols import problem
from gateway.service.admin import Who
from gateway.service.page_sessions import PageSessions
from gateway.web.bodies import ClientGone, Headers, LargeBodies, Limits
from gateway.web.endpoints import (
    NOTED,
    Answered,
    Endpoint,
    StreamedEndpoint,
    by_method,
    note_failure,
)
from gateway.web.ui.browsers import (
    REFRESH,
    SAFE,
    SESSION_COOKIE,
    TOLD_COOKIE,
    check_origin,
    content_type_of,
    cookie,
    cookie_of,
    file_name,
)
from gateway.web.ui.forms import Form, read_form, read_query
from gateway.web.ui.navigation import NAVIGATION
from gateway.web.ui.rendering import Renderer
from gateway.web.ui.visits import (
    BASE,
    INSTANCES,
    Moved,
    Reply,
    Sent,
    Visit,
    address,
    base_of,
)

HTML: Final = (b"content-type", b"text/html; charset=utf-8")
NEXT_MAX: Final = 1_000  # characters of an address to come back to
FORMS_BYTES_MAX: Final = 16 * 2**20  # of large forms under way in a process

Show = Callable[[Visit], Awaitable[Reply]]

_log = structlog.get_logger("gateway.pages")


@dataclass(frozen=True, slots=True)
class Doors:
    """Makes the routes of pages. `limits` are those of a form."""

    sessions: PageSessions
    renderer: Renderer
    limits: Limits
    bodies: LargeBodies = field(default_factory=lambda: LargeBodies(FORMS_BYTES_MAX))

    def page(self, path: str, name: str, show: Show, *roles: Role) -> BaseRoute:
        """Give the route of a page of an instance, such as `licences`, for whoever holds one of
        `roles`. `name` is the endpoint's, for the log.
        """
        return self._route(path, name, {"GET": show, "HEAD": show}, roles)

    def deed(self, path: str, name: str, do: Show, *roles: Role) -> BaseRoute:
        """Give the route that a form of a page is sent to."""
        return self._route(path, name, {"POST": do}, roles)

    def _route(
        self, path: str, name: str, shows: dict[str, Show], roles: tuple[Role, ...]
    ) -> BaseRoute:
        answers = {method: self._answer(show, roles) for method, show in shows.items()}
        # A page is made as long as somebody waits for it; a deed that has begun is done.
        kind = Endpoint if "POST" in shows else StreamedEndpoint
        endpoint = kind(f"page_{name}", by_method(answers))
        return Route(f"{INSTANCES}/{{instance}}/{path}", endpoint, methods=list(shows))

    def _answer(
        self, show: Show, roles: tuple[Role, ...]
    ) -> Callable[[Scope, Receive, str], Awaitable[Answered]]:
        async def answer(scope: Scope, receive: Receive, request_id: str) -> Answered:
            who: Who | None = None
            try:
                body = await self._body(scope, receive)
                named = scope["path_params"]["instance"]
                who = await self.sessions.know(named, cookie_of(scope, SESSION_COOKIE))
                scope[NOTED].instance = who.instance
                form = Form()
                if scope["method"] == "POST":
                    form = read_form(content_type_of(scope), body)
                    self.sessions.check_xsrf(who, form.text("xsrf"))
                # Not before: whoever lacks a role still is somebody, who may go elsewhere.
                who = self.sessions.permit(who, *roles)
                visit = Visit(who, read_query(scope["query_string"]), form, request_id, _now_ms())
                return self._written(scope, visit, await show(visit))
            except ClientGone:
                raise
            except Unauthorized:
                return to_login(scope)
            except Exception as error:
                return self._failed(scope, who, error, request_id)

        return answer

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            return b""
        body = await self.bodies.read(receive, Headers(scope).content_length, self.limits)
        check_origin(scope)
        return body

    def _written(self, scope: Scope, visit: Visit, reply: Reply) -> Answered:
        """Turn a page's reply into an answer; the session is used by it, unless a script asks."""
        cookies = []
        path = base_of(visit.instance)
        if isinstance(reply, Moved) and reply.ends:
            cookies.append(cookie(scope, SESSION_COOKIE, "", path, seconds=0))
        elif not any(name == REFRESH for name, _ in scope["headers"]):
            session = self.sessions.renewed(visit.who)
            if session is not None:
                cookies.append(cookie(scope, SESSION_COOKIE, self.sessions.cookie(session), path))
        if isinstance(reply, Moved):
            if reply.told:
                told = self.sessions.write_told(visit.who, reply.told)
                cookies.append(cookie(scope, TOLD_COOKIE, told, path, seconds=60))
            return 303, [*SAFE, (b"location", reply.path.encode()), *cookies], b""
        if isinstance(reply, Sent):
            named = f'attachment; filename="{file_name(reply.file)}"'.encode()
            kind = (b"content-type", reply.media_type.encode())
            return 200, [*SAFE, kind, (b"content-disposition", named), *cookies], reply.body
        said = cookie_of(scope, TOLD_COOKIE)
        told = self.sessions.read_told(visit.who, said) if said else ""
        if said:
            cookies.append(cookie(scope, TOLD_COOKIE, "", path, seconds=0))
        data = {**frame_of(scope, visit.who), "visit": visit, "told": told, **reply.data}
        return reply.status, [*SAFE, HTML, *cookies], self.renderer.render(reply.template, data)

    def _failed(self, scope: Scope, who: Who | None, error: Exception, request_id: str) -> Answered:
        """Show what went wrong, in a page; what nobody foresaw by its request id alone."""
        status, headers, sentence = noted_as(scope, error, request_id)
        data = {**frame_of(scope, who), "status": status, "sentence": sentence, "told": ""}
        begun = who is not None and scope["method"] == "POST"
        data["in_doubt"] = (
            begun and isinstance(error, Unavailable) and error.outcome != "not_applied"
        )
        return status, [*SAFE, HTML, *headers], self.renderer.render("failed.html", data)


def lost(renderer: Renderer) -> Callable[[GatewayError, str], problem.Answer | None]:
    """Give what answers a path of the pages that no page is at, with a page; None elsewhere."""

    def answer(error: GatewayError, path: str) -> problem.Answer | None:
        if path != BASE and not path.startswith(f"{BASE}/"):
            return None
        status, _, sentence = told_of(error, "")
        data = {**frame_of({"path": path}, None), "status": status, "sentence": sentence}
        data["in_doubt"] = False
        headers = {name.decode(): value.decode() for name, value in (*SAFE, HTML)}
        return status, headers, renderer.render("failed.html", data | {"told": ""})

    return answer


def noted_as(
    scope: Scope, error: Exception, request_id: str
) -> tuple[int, list[tuple[bytes, bytes]], str]:
    """Note and log what went wrong, as endpoints do, and give what is told of it."""
    if not isinstance(error, GatewayError):
        scope[NOTED].outcome = Outcome.ERROR
        _log.error("unexpected", request_id=request_id, exc_info=error)
    else:
        note_failure(scope[NOTED], error, request_id, _log)
    return told_of(error, request_id)


def frame_of(scope: Scope, who: Who | None) -> dict[str, Any]:
    """Give what the frame around every page is filled with; `who` None: nobody is logged in."""
    base = "" if who is None else base_of(who.instance)
    here = scope["path"].removeprefix(base).strip("/") if base else ""
    return {
        "base": base,
        "who": who,
        "xsrf": "" if who is None else who.session.xsrf,
        "navigation": () if who is None else NAVIGATION,
        "here": here,
        "timezone": "UTC" if who is None else who.index.catalogue.timezone,
    }


def told_of(error: Exception, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], str]:
    """Give status, headers and words for what went wrong."""
    if not isinstance(error, GatewayError):
        return 500, [], f"Something went wrong here. The log tells more of request {request_id}."
    try:
        status = problem.render(error)[0]
    except LookupError:
        status = 400  # what people typed, as at a command line
    headers = []
    if isinstance(error, TooManyRequests | Unavailable):
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    return status, headers, error.message


def to_login(scope: Scope) -> Answered:
    """Send whoever has no session to log in, and back to this page after that."""
    named = scope["path_params"]["instance"]
    looks = scope["method"] in ("GET", "HEAD")
    back = scope["path"] if looks else f"{base_of(named)}/"
    query = scope["query_string"].decode("latin-1")
    if looks and query and len(back) + len(query) < NEXT_MAX:
        back = f"{back}?{query}"
    # It was good once: somebody was away for too long, and is told that.
    over = "1" if cookie_of(scope, SESSION_COOKIE) else ""
    path = address(f"{BASE}/login", instance=named[:64], next=back[:NEXT_MAX], over=over)
    return 303, [*SAFE, (b"location", path.encode())], b""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
