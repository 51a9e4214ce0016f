"""An endpoint as a plain ASGI application: one answer, or one shape for every error.

Decided here: that each answer has a request id, and what of an error is logged. Not decided here:
what is read and answered, which is a function per endpoint, and how an answer is streamed
(streams.py). Source: SEMANTICS 10, INTERFACE 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

import structlog
from starlette.types import Message, Receive, Scope, Send

from gateway.core.errors import GatewayError, Unavailable
from gateway.core.metrics import Outcome, Protocol
from gateway.protocols import problem
from gateway.service.noted import Noted
from gateway.web.bodies import ClientGone, Crowded
from gateway.web.request_ids import RequestIds
from gateway.web.streams import NotTaken, Pieces, send_pieces, while_wanted

# Status, headers, body; a body in pieces is streamed, and has no length.
Answered = tuple[int, list[tuple[bytes, bytes]], bytes | Pieces]
Answer = Callable[[Scope, Receive, str], Awaitable[Answered]]  # the last one is the request id

JSON = (b"content-type", b"application/json")
NOTED = "gateway.noted"  # where in a scope the notes on its request are

_log = structlog.get_logger("gateway.access")


class Endpoint:
    """An ASGI application around a function that answers, or raises what problem.py knows.

    `protocol`: its requests are access requests, and counted as that protocol's.
    """

    def __init__(self, name: str, answer: Answer, protocol: Protocol | None = None) -> None:
        self.name, self.answer, self.protocol = name, answer, protocol
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._ids.next()
        noted = scope[NOTED] = Noted(request_id)
        try:
            status, headers, body = await self.answer(scope, receive, request_id)
        except ClientGone:
            return
        except GatewayError as error:
            note_failure(noted, error, request_id, _log)
            status, headers, body = as_answered(problem.render(error))
        except Exception:
            noted.outcome = Outcome.ERROR
            _log.exception("unexpected", request_id=request_id, kind=self.name)
            status, headers, body = as_answered(problem.render_internal(request_id))
        headers.append((b"gateway-request-id", request_id.encode()))
        if isinstance(body, bytes):
            headers.append((b"content-length", b"%d" % len(body)))
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        if not isinstance(body, bytes):
            async with aclosing(body):
                await self._stream(start, body, send, request_id)
            return
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, start: Message, body: Pieces, send: Send, request_id: str) -> None:
        """Send an answer in pieces; one that fails has no end, so that nobody takes it for whole.

        Its status is out by then. To the server an app that is done before its answer has ended has
        broken it off.
        """
        await send(start)
        try:
            await send_pieces(body, send)
        except NotTaken:
            _log.info("not_taken", request_id=request_id, kind=self.name)
        except GatewayError as error:
            _log.warning("broken_off", request_id=request_id, kind=self.name, reason=error.message)
        except Exception:
            _log.exception("broken_off", request_id=request_id, kind=self.name)


class StreamedEndpoint(Endpoint):
    """An endpoint without a request body that works only as long as its client is there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_wanted(super().__call__, scope, receive, send)


def note_failure(
    noted: Noted, error: GatewayError, request_id: str, log: structlog.stdlib.BoundLogger
) -> None:
    """Note what an answer failed with; that the store was away is logged too."""
    noted.failed(error)
    # A crowd is told of as one (shedding.py).
    if isinstance(error, Unavailable) and not isinstance(error, Crowded):
        log.warning(
            "store_unavailable",
            request_id=request_id,
            outcome=error.outcome,
            reason=error.message,
        )


def by_method(answers: Mapping[str, Answer]) -> Answer:
    """Answer by the request's method; the route lets no other one through."""

    async def answer(scope: Scope, receive: Receive, request_id: str) -> Answered:
        return await answers[scope["method"]](scope, receive, request_id)

    return answer


def as_answered(answer: problem.Answer) -> Answered:
    """Turn an answer of problem.py into one of an endpoint."""
    status, headers, body = answer
    return status, encoded(headers), body


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Give headers in the form of ASGI."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
