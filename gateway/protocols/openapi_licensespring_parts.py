"""The words for operations of LicenseSpring clients, of either version.

Decided here: what their calls have in common: parameters, headers, refusals. Not decided here:
which there are (openapi_licensespring.py). Source: protocols/licensespring.md 1 and 2.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from gateway.core import errors
from gateway.protocols.licensespring_problem import V1, V2, FloatingRefused
from gateway.protocols.openapi_parts import (
    BODY,
    IDEMPOTENCY_KEY,
    REQUEST_ID,
    STORE,
    Content,
    Example,
    Given,
    Operation,
    Parameter,
    Security,
    json_of,
)

TAG: Final = "licensespring"
LICENSE_PATH: Final = f"{V2}/license/{{license}}"

COUNTED: Final = (REQUEST_ID, "Gateway-Transaction-Time", "Idempotency-Replayed")
SIGNED: Final = (*COUNTED, "LicenseSignature")
READ: Final = (REQUEST_ID,)
SECRET: Final = (REQUEST_ID, "Cache-Control")
ASKED: Final = (*BODY, FloatingRefused, errors.Unauthorized, *STORE)
LOGIN: Final = (errors.UserAuthFailed, errors.TooManyRequests, *STORE)
ADMIN: Final = (errors.Unauthorized, errors.Forbidden, *STORE)

LICENSE: Final = Parameter(
    "license", "path", str, "The id of the licence, as the list of licences has it.", "77"
)
PRODUCT: Final = Parameter("product", "query", str, "The product code.", "PROD")
ID: Final = Parameter(
    "license_id", "query", Annotated[int, Meta(ge=1)], "Which licence; else the newest one."
)


def body_of(type_: Any, value: dict[str, Any]) -> tuple[Content, ...]:
    """Give a body with its example."""
    return (json_of(type_, Example("one", "As clients send it", value)),)


def call(
    id_: str,
    path: str,
    summary: str,
    content: tuple[Content, ...],
    answer: Any,
    *,
    headers: tuple[str, ...] = COUNTED,
    description: str = "",
) -> Operation:
    """Give a call that is remembered under an idempotency key."""
    return Operation(
        id=id_,
        method="POST",
        path=path,
        tag=TAG,
        summary=summary,
        description=description,
        security=Security.FLOATING,
        parameters=(IDEMPOTENCY_KEY,) if path.startswith(V1) else (LICENSE, IDEMPOTENCY_KEY),
        content=content,
        given=(Given("Done", (json_of(answer),), headers=headers),),
        refusals=(*ASKED, errors.IdempotencyMismatch),
    )


def read(
    id_: str,
    path: str,
    summary: str,
    answer: Any,
    *parameters: Parameter,
    method: str = "GET",
    description: str = "",
) -> Operation:
    """Give a call without a body; `answer` None: it answers nothing."""
    given = Given("As it stands" if answer else "Nothing", (json_of(answer),) if answer else ())
    return Operation(
        id=id_,
        method=method,
        path=path,
        tag=TAG,
        summary=summary,
        description=description,
        security=Security.FLOATING,
        parameters=parameters,
        given=(Given(given.description, given.content, headers=READ),),
        refusals=ASKED,
    )


def everybody(
    id_: str, path: str, summary: str, content: tuple[Content, ...], answer: Any
) -> Operation:
    """Give a call that is about all users."""
    return Operation(
        id=id_,
        method="POST",
        path=path,
        tag=TAG,
        summary=summary,
        security=Security.FLOATING,
        parameters=(LICENSE,),
        content=content,
        given=(Given("Nobody has it any more", (json_of(answer),), headers=READ),),
        refusals=ASKED,
    )
