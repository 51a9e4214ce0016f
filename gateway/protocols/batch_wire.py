"""The bodies of a batch as types; cmapi_batch.py reads and writes them, by hand.

Decided here: members, bounds and words, as far as a schema can say them; a test holds these types
to the code. Source: INTERFACE 4.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.protocols.answer_wire import AccessAnswer
from gateway.protocols.cmapi_batch import LINES_MAX
from gateway.protocols.cmapi_wire import (
    AccessRequest,
    Audience,
    IdempotencyId,
    IssuedAt,
)
from gateway.protocols.house_wire import Error


class BatchLine(AccessRequest, kw_only=True):
    """An access request as a line of a batch; no other line has its correlation id."""

    correlationId: IdempotencyId


class SignedBatch(msgspec.Struct, kw_only=True):
    """The payload of a signed batch: JWS compact, `typ` `access-request+jws`."""

    iat: IssuedAt
    jti: Annotated[IdempotencyId, Meta(description="The batch's own; the id of no line.")]
    aud: Audience
    requests: Annotated[list[BatchLine], Meta(max_length=LINES_MAX)]


class BatchServed(msgspec.Struct, kw_only=True):
    """The answer to a line that was applied, now or before."""

    correlationId: str
    status: Literal[200]
    replayed: Annotated[bool, Meta(description="It was applied before, and is counted once.")]
    response: AccessAnswer


class BatchRefused(msgspec.Struct, kw_only=True):
    """The answer to a line that was refused, as it would have been by itself."""

    correlationId: Annotated[str | None, Meta(description="Null where the line has none.")]
    status: Annotated[int, Meta(ge=400, le=599)]
    replayed: Literal[False]
    response: Error
