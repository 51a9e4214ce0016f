"""The batch's route: ASGI in, a posted batch to the service, ASGI out.

Decided here: the order in which HTTP itself is checked, as for single requests, and that lines
which the store did not answer are logged once for all of them. An Idempotency-Key means nothing
here: the id of a line is its correlation id. Source: INTERFACE 4, SEMANTICS 10.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.metrics import Protocol
from gateway.service.batch import Batch, PostedBatch
from gateway.web import bodies
from gateway.web.bodies import Headers, LargeBodies, Limits
from gateway.web.cmapi import BASE, instance_of
from gateway.web.endpoints import NOTED, Answered, Endpoint

_NDJSON: Final = (b"content-type", bodies.NDJSON.encode())

_log = structlog.get_logger("gateway.access")


def routes(batch: Batch, limits: Limits, large_bodies: LargeBodies) -> list[BaseRoute]:
    """Give the route of batches; `limits` are those of one whole body, `large_bodies` of all."""
    answer = partial(_posted, batch, limits, large_bodies)
    endpoint = Endpoint("access_requests", answer, Protocol.CMAPI_BATCH)
    return [Route(f"{BASE}/access_requests", endpoint, methods=["POST"])]


async def _posted(
    batch: Batch,
    limits: Limits,
    large_bodies: LargeBodies,
    scope: Scope,
    receive: Receive,
    request_id: str,
) -> Answered:
    headers = Headers(scope)
    body = await large_bodies.read(receive, headers.content_length, limits)
    jose = headers.is_jose(bodies.NDJSON)
    posted = PostedBatch(instance_of(scope), body, jose, headers.authorization)
    answers = await batch.serve(posted, scope[NOTED])
    if answers.unavailable:
        first = answers.unavailable[0]
        _log.warning(
            "store_unavailable",
            request_id=request_id,
            lines=len(answers.unavailable),
            outcome=first.outcome,
            reason=first.message,
        )
    return 200, [_NDJSON], answers.body
