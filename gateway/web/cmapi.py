"""CMAPI's routes: ASGI in, a posted request to the service, ASGI out.

Decided here: the order in which HTTP itself is checked (size and time, media type, then the
service) and the headers of an answer. Source: SEMANTICS 8 and 10, INTERFACE 4.
"""

from __future__ import annotations

import structlog
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from gateway.core.errors import GatewayError, Unavailable
from gateway.core.moments import iso
from gateway.protocols import problem
from gateway.service.access import Access, Kind, Posted
from gateway.web.bodies import ClientGone, Headers, Limits, read_body
from gateway.web.request_ids import RequestIds

BASE = "/api/1.0/instances/{instance}"
_log = structlog.get_logger("gateway.access")

_JSON = (b"content-type", b"application/json")
_JOSE = (b"content-type", b"application/jose")
_REPLAYED = (b"idempotency-replayed", b"true")


def routes(access: Access, limits: Limits) -> list[BaseRoute]:
    """Give the routes of CMAPI's licensing part."""
    return [
        Route(f"{BASE}/{kind.value}", AccessEndpoint(kind, access, limits), methods=["POST"])
        for kind in Kind
    ]


class AccessEndpoint:
    """One of the three endpoints, as a plain ASGI application."""

    def __init__(self, kind: Kind, access: Access, limits: Limits) -> None:
        self.kind, self.access, self.limits = kind, access, limits
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._ids.next()
        try:
            start, body = await self._answer(scope, receive, request_id)
        except ClientGone:
            return
        except GatewayError as error:
            if isinstance(error, Unavailable):
                _log.warning(
                    "store_unavailable",
                    request_id=request_id,
                    outcome=error.outcome,
                    reason=error.message,
                )
            status, headers, body = problem.render(error)
            start = _start(status, headers, request_id)
        except Exception:
            _log.exception("unexpected", request_id=request_id, kind=self.kind.value)
            status, headers, body = problem.render_internal(request_id)
            start = _start(status, headers, request_id)
        start["headers"].append((b"content-length", b"%d" % len(body)))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Scope, receive: Receive, request_id: str
    ) -> tuple[Message, bytes]:
        headers = Headers(scope)
        body = await read_body(receive, headers.content_length, self.limits)
        posted = Posted(
            kind=self.kind,
            instance=scope["path_params"]["instance"],
            body=body,
            jose=headers.is_jose(),
            authorization=headers.authorization,
            idempotency_key=headers.idempotency_key,
        )
        answer = await self.access.serve(posted, request_id)
        out = [
            _JOSE if answer.signed else _JSON,
            (b"gateway-request-id", request_id.encode()),
            (b"gateway-transaction-time", iso(answer.at_ms).encode()),
        ]
        if answer.replayed:
            out.append(_REPLAYED)
        return {"type": "http.response.start", "status": 200, "headers": out}, answer.body


def _start(status: int, headers: dict[str, str], request_id: str) -> Message:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"gateway-request-id", request_id.encode()))
    return {"type": "http.response.start", "status": status, "headers": pairs}
