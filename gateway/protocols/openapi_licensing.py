"""The table of operations, first part: access requests, their signed form, previews.

Decided here: what a client of CMAPI sees of each. Not decided here: what requests mean.
Source: SEMANTICS 8 to 10, protocols/cmapi.md 3.1 and 6.
"""

from __future__ import annotations

from typing import Final

from gateway.core import errors
from gateway.core.tokens import ANSWER_TYP, REQUEST_TYP
from gateway.protocols import answer_wire
from gateway.protocols import cmapi_wire as wire
from gateway.protocols import openapi_examples as examples
from gateway.protocols.batch_wire import BatchLine, BatchRefused, BatchServed, SignedBatch
from gateway.protocols.cmapi_batch import BATCH_BYTES_MAX, LINES_MAX
from gateway.protocols.openapi_parts import (
    BASE,
    BODY,
    CREDENTIAL,
    IDEMPOTENCY_KEY,
    INSTANCE,
    JOSE,
    NDJSON,
    REQUEST_ID,
    STORE,
    Content,
    Given,
    Jws,
    Lines,
    Operation,
    Security,
    json_of,
)

TAG: Final = "licensing"
_COUNTED: Final = (REQUEST_ID, "Gateway-Transaction-Time", "Idempotency-Replayed")
_REFUSALS: Final = (*BODY, *CREDENTIAL, errors.TooManyRequests, *STORE)


_ASKED: Final = (
    json_of(wire.AccessRequest, *examples.ACCESS),
    Content(JOSE, Jws(REQUEST_TYP, wire.SignedAccessRequest)),
)
_COMMON: Final = "With `application/jose` the body is its own credential: no token is needed."

OPERATIONS: Final = (
    Operation(
        id="access",
        method="POST",
        path=f"{BASE}/access_request",
        tag=TAG,
        summary="Ask for features, report consumption, hand back",
        description=f"A denial is an answer: 200 with a `statusList`. {_COMMON}",
        security=Security.CAPABILITY,
        parameters=(INSTANCE, IDEMPOTENCY_KEY),
        content=_ASKED,
        given=(
            Given(
                "What was granted, and why not more",
                (json_of(answer_wire.AccessAnswer, *examples.GRANTED),),
                headers=_COUNTED,
            ),
        ),
        refusals=(*_REFUSALS, errors.IdempotencyMismatch),
    ),
    Operation(
        id="signedAccess",
        method="POST",
        path=f"{BASE}/signed_access_request",
        tag=TAG,
        summary="The same, with a signed answer",
        description="The same request, the same effect: an id that was used at one of the two"
        f" endpoints is known at the other. Refusals are plain JSON and unsigned. {_COMMON}",
        security=Security.CAPABILITY,
        parameters=(INSTANCE, IDEMPOTENCY_KEY),
        content=_ASKED,
        given=(
            Given(
                "What was granted, signed by the gateway",
                (Content(JOSE, Jws(ANSWER_TYP, answer_wire.SignedAccessAnswer)),),
                headers=_COUNTED,
            ),
        ),
        refusals=(*_REFUSALS, errors.IdempotencyMismatch),
    ),
    Operation(
        id="preview",
        method="POST",
        path=f"{BASE}/preview_request",
        tag=TAG,
        summary="See what a host could get now",
        description=f"Changes nothing, remembers nothing, needs no id. {_COMMON}",
        security=Security.CAPABILITY,
        parameters=(INSTANCE,),
        content=(
            json_of(wire.PreviewRequest, *examples.PREVIEW),
            Content(JOSE, Jws(REQUEST_TYP, wire.SignedPreviewRequest)),
        ),
        given=(
            Given(
                "What there is",
                (json_of(answer_wire.PreviewAnswer, *examples.OFFERED),),
                headers=(REQUEST_ID, "Gateway-Transaction-Time"),
            ),
        ),
        refusals=_REFUSALS,
    ),
    Operation(
        id="accessBatch",
        method="POST",
        path=f"{BASE}/access_requests",
        tag=TAG,
        summary="Many access requests at once",
        description=f"Up to {LINES_MAX} lines or {BATCH_BYTES_MAX // 2**20} MiB, applied in order;"
        " each is answered as it would have been by itself, and its correlation id is its"
        f" idempotency id. {_COMMON}",
        security=Security.CAPABILITY,
        parameters=(INSTANCE,),
        content=(
            Content(NDJSON, Lines((BatchLine,)), (examples.BATCH,)),
            Content(JOSE, Jws(REQUEST_TYP, SignedBatch)),
        ),
        content_required=False,  # a batch may be empty
        given=(
            Given(
                "An answer for each line, in the same order",
                (Content(NDJSON, Lines((BatchServed, BatchRefused)), (examples.BATCHED,)),),
                headers=(REQUEST_ID,),
            ),
        ),
        refusals=_REFUSALS,
    ),
)
