"""The application: all routes, and one shape for every error of a protocol."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.convertors import StringConvertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.errors import GatewayError, MethodNotAllowed, NotFound
from gateway.protocols import licensespring_problem, problem
from gateway.web.endpoints import Endpoint
from gateway.web.exchanges import Exchange
from gateway.web.seeing import Seeing

# Gives the page that answers an error at a path, or None where no pages are.
Lost = Callable[[GatewayError, str], problem.Answer | None]

_log = structlog.get_logger("gateway.web")


def make_app(
    routes: list[BaseRoute], seeing: Seeing | None = None, lost: Lost | None = None
) -> ASGIApp:
    """Make the ASGI application from routes of the protocols, of operations and of pages.

    `seeing` is told of each request that was answered; `lost` answers those of browsers that no
    route is for.
    """

    async def http_error(request: Request, error: Exception) -> Response:
        return _http_error(request, error, lost)

    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: http_error, Exception: _surprise},
    )
    # `/x/` is another path than `/x`: a redirect would make a client send its credential twice.
    app.router.redirect_slashes = False
    whole = [_Whole.of(each) for each in routes if isinstance(each, Route) and _is_whole(each)]
    return _Front(app, whole, seeing or Seeing())


@dataclass(frozen=True, slots=True)
class _Front:
    """Hands a request straight to its endpoint where that is a whole ASGI application.

    Such an endpoint answers its own errors and needs nothing of what Starlette wraps around one: a
    twentieth of an access request's price. Whatever does not match exactly is Starlette's, which
    has the same routes: it alone says 404 and 405. Whoever answers, the request is over with it.
    """

    app: Starlette
    whole: list[_Whole]
    seeing: Seeing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(receive, send)
        try:
            for route in self.whole:
                found = route.path.match(scope["path"])
                if found is not None and scope["method"] in route.methods:
                    scope["endpoint"], scope["path_params"] = route.endpoint, found.groupdict()
                    await route.endpoint(scope, exchange.receive, exchange.send)
                    return
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            self.seeing.answered(scope, exchange)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What of such a route a request is held against; all its parameters are text."""

    path: re.Pattern[str]
    methods: frozenset[str]
    endpoint: ASGIApp

    @classmethod
    def of(cls, route: Route) -> _Whole:
        return cls(route.path_regex, frozenset(route.methods or ()), route.endpoint)


def _is_whole(route: Route) -> bool:
    """Say whether a route's endpoint is an ASGI application, not a function of a request."""
    texts = all(type(each) is StringConvertor for each in route.param_convertors.values())
    return texts and isinstance(route.endpoint, Endpoint) and route.app is route.endpoint


def _http_error(request: Request, error: Exception, lost: Lost | None) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    path = request.url.path[:200]
    wire: GatewayError = NotFound(f"There is no {path}", path)
    if error.status_code == 405:
        wire = MethodNotAllowed(f"{request.method} is not for {path}", request.method)
    page = None if lost is None else lost(wire, request.url.path)
    status, headers, body = page or _rendered(wire, request.url.path)
    return Response(body, status, {**headers, **(error.headers or {})})


def _rendered(error: GatewayError, path: str) -> problem.Answer:
    """Give an error in the shape that whoever asks a path can read."""
    if licensespring_problem.is_theirs(path):
        return licensespring_problem.render(error, path)
    return problem.render(error)


async def _surprise(request: Request, error: Exception) -> Response:
    request_id = secrets.token_urlsafe(16)
    path = request.url.path
    # Not with the path: it is a client's text, and may hold a secret.
    _log.error("unexpected", request_id=request_id, method=request.method, exc_info=error)
    if licensespring_problem.is_theirs(path):
        status, headers, body = licensespring_problem.render_internal(request_id, path)
    else:
        status, headers, body = problem.render_internal(request_id)
    return Response(body, status, headers)
