"""Routes for operations: is it alive, may it get requests, what does it count, which keys sign its
answers, and what all its routes take and answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.web.metrics import Scrapes

Reasons = Callable[[], Awaitable[list[str]]]

_KEPT = {"Cache-Control": "max-age=300"}  # seconds
_RETRY = {"Retry-After": "1"}


def routes(
    reasons: Reasons, jwks: dict[str, object], openapi: bytes, scrapes: Scrapes
) -> list[BaseRoute]:
    """Give the routes; `reasons` lists why no request should come here now, `openapi` is JSON."""

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        found = await reasons()
        if found:
            return JSONResponse({"status": "not ready", "reasons": found}, 503, _RETRY)
        return JSONResponse({"status": "ready", "reasons": []})

    async def metrics(request: Request) -> Response:
        media_type, body = scrapes.answer(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type})

    async def keys(request: Request) -> Response:
        return JSONResponse(jwks, headers=_KEPT)

    async def contract(request: Request) -> Response:
        return Response(openapi, headers=_KEPT, media_type="application/json")

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/.well-known/jwks.json", keys),
        Route("/openapi.json", contract),
    ]
