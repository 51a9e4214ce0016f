"""The application: all routes, and one shape for every error."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.errors import GatewayError, MethodNotAllowed, NotFound
from gateway.protocols import problem

_log = structlog.get_logger("gateway.web")


def make_app(routes: list[BaseRoute]) -> ASGIApp:
    """Make the ASGI application from routes of the protocols and of operations."""
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_error, Exception: _surprise},
    )
    # `/x/` is another path than `/x`: a redirect would make a client send its credential twice.
    app.router.redirect_slashes = False
    return _Front(app, [each for each in routes if isinstance(each, Route) and _whole(each)])


@dataclass(frozen=True, slots=True)
class _Front:
    """Hands a request straight to its endpoint where that is a whole ASGI application.

    Such an endpoint answers its own errors and needs nothing of what Starlette wraps around one: a
    fortieth of an access request's price. Whatever does not match exactly is Starlette's, which has
    the same routes: it alone says 404 and 405.
    """

    app: Starlette
    whole: list[Route]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route in self.whole:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                await route.app(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _whole(route: Route) -> bool:
    """Say whether a route's endpoint is an ASGI application, not a function of a request."""
    return route.app is route.endpoint


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    path = request.url.path[:200]
    wire: GatewayError = NotFound(f"There is no {path}", path)
    if error.status_code == 405:
        wire = MethodNotAllowed(f"{request.method} is not for {path}", request.method)
    status, headers, body = problem.render(wire)
    return Response(body, status, {**headers, **(error.headers or {})})


async def _surprise(request: Request, error: Exception) -> Response:
    request_id = secrets.token_urlsafe(16)
    _log.error("unexpected", request_id=request_id, path=request.url.path, exc_info=error)
    status, headers, body = problem.render_internal(request_id)
    return Response(body, status, headers)
