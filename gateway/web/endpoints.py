"""An endpoint as a plain ASGI application: one answer, or one shape for every error.

Decided here: that each answer has a request id, and what of an error is logged. Not decided here:
what is read and answered; that is a function per endpoint. Source: SEMANTICS 10, INTERFACE 4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import structlog
from starlette.types import Receive, Scope, Send

from gateway.core.errors import GatewayError, Unavailable
from gateway.protocols import problem
from gateway.web.bodies import BodyTooLarge, ClientGone, drain
from gateway.web.request_ids import RequestIds

# Status, headers, body; a body in pieces is streamed, and has no length.
Answered = tuple[int, list[tuple[bytes, bytes]], bytes | AsyncIterator[bytes]]
Answer = Callable[[Scope, Receive, str], Awaitable[Answered]]  # the last one is the request id

JSON = (b"content-type", b"application/json")

_log = structlog.get_logger("gateway.access")


class Endpoint:
    """An ASGI application around a function that answers, or raises what problem.py knows."""

    def __init__(self, name: str, answer: Answer) -> None:
        self.name, self.answer = name, answer
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._ids.next()
        unread = False
        try:
            status, headers, body = await self.answer(scope, receive, request_id)
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
            unread = isinstance(error, BodyTooLarge)
            status, headers, body = as_answered(problem.render(error))
        except Exception:
            _log.exception("unexpected", request_id=request_id, kind=self.name)
            status, headers, body = as_answered(problem.render_internal(request_id))
        headers.append((b"gateway-request-id", request_id.encode()))
        if isinstance(body, bytes):
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if unread:
            # All of the answer, but not its end: that would close the connection.
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await drain(receive)
            body = b""
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body})
            return
        try:
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Exception:
            # The status is out. To break off is all that is left: nobody shall take it for whole.
            _log.exception("broken_off", request_id=request_id, kind=self.name)
            raise
        await send({"type": "http.response.body", "body": b""})


def by_method(answers: Mapping[str, Answer]) -> Answer:
    """Answer by the request's method; the route lets no other one through."""

    async def answer(scope: Scope, receive: Receive, request_id: str) -> Answered:
        return await answers[scope["method"]](scope, receive, request_id)

    return answer


def as_answered(answer: problem.Answer) -> Answered:
    """Turn an answer of problem.py into one of an endpoint."""
    status, headers, body = answer
    return (
        status,
        [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        body,
    )
