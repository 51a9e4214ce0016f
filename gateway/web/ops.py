"""Routes for operations: is it alive, may it get requests, which keys sign its answers, and what
all its routes take and answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

Reasons = Callable[[], Awaitable[list[str]]]

_KEPT = {"Cache-Control": "max-age=300"}  # seconds


def routes(reasons: Reasons, jwks: dict[str, object], openapi: bytes) -> list[BaseRoute]:
    """Give the routes; `reasons` lists why no request should come here now, `openapi` is JSON."""

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        found = await reasons()
        status = "ready" if not found else "not ready"
        return JSONResponse({"status": status, "reasons": found}, 503 if found else 200)

    async def keys(request: Request) -> Response:
        return JSONResponse(jwks, headers=_KEPT)

    async def contract(request: Request) -> Response:
        return Response(openapi, headers=_KEPT, media_type="application/json")

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/.well-known/jwks.json", keys),
        Route("/openapi.json", contract),
    ]
