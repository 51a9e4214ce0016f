"""CMAPI's routes: ASGI in, a posted request to the service, ASGI out.

Decided here: the order in which HTTP itself is checked (size and time, media type, then the
service) and the headers of an answer. Source: SEMANTICS 8 and 10, INTERFACE 4.
"""

from __future__ import annotations

from functools import partial

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.metrics import Protocol
from gateway.core.moments import iso
from gateway.service.access import Access, Kind, Posted
from gateway.service.credentials import DEFAULT_INSTANCE
from gateway.web.bodies import Headers, Limits, read_body
from gateway.web.endpoints import JSON, NOTED, Answered, Endpoint

BASE = "/api/1.0/instances/{instance}"
SHORT = "/api/1.0"  # the old form of a local server, for reads: the default instance is meant

_JOSE = (b"content-type", b"application/jose")
_REPLAYED = (b"idempotency-replayed", b"true")


def routes(access: Access, limits: Limits) -> list[BaseRoute]:
    """Give the routes of CMAPI's licensing part."""
    return [
        Route(
            f"{BASE}/{kind.value}",
            Endpoint(kind.value, partial(_posted, kind, access, limits), Protocol.CMAPI),
            methods=["POST"],
        )
        for kind in Kind
    ]


def readable(path: str, endpoint: Endpoint) -> list[BaseRoute]:
    """Give the two routes of what is only read: under an instance's base, and in the short form."""
    return [Route(form + path, endpoint, methods=["GET"]) for form in (BASE, SHORT)]


def instance_of(scope: Scope) -> str:
    """Give the instance as named in the path; the short form means the default one."""
    named: str = scope["path_params"].get("instance", DEFAULT_INSTANCE)
    return named


async def _posted(
    kind: Kind, access: Access, limits: Limits, scope: Scope, receive: Receive, request_id: str
) -> Answered:
    headers = Headers(scope)
    body = await read_body(receive, headers.content_length, limits)
    posted = Posted(
        kind=kind,
        instance=instance_of(scope),
        body=body,
        jose=headers.is_jose(),
        authorization=headers.authorization,
        idempotency_key=headers.idempotency_key,
    )
    answer = await access.serve(posted, request_id, scope[NOTED])
    out = [
        _JOSE if answer.signed else JSON,
        (b"gateway-transaction-time", iso(answer.at_ms).encode()),
    ]
    if answer.replayed:
        out.append(_REPLAYED)
    return 200, out, answer.body
