"""The table of operations, second part: log-in, licensing keys, and what is operated.

Decided here: what an administrator's program, a balancer and a verifier of signed answers see.
Source: protocols/cmapi.md 3.2, 3.3, 6 and 7, INTERFACE 4.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from gateway.core import errors
from gateway.core.fingerprint import ID_BYTES_MAX
from gateway.core.key_uploads import OVERLAP_MS_MAX
from gateway.core.model import Role
from gateway.protocols import house_wire as wire
from gateway.protocols import openapi_examples as examples
from gateway.protocols.openapi_parts import (
    BASE,
    BODY,
    CREDENTIAL,
    INSTANCE,
    OCTETS,
    OPENMETRICS,
    REQUEST_ID,
    STORE,
    TEXT,
    Content,
    Given,
    Operation,
    Parameter,
    Security,
    json_of,
    key_removed,
    refused_content,
)

TAG: Final = "administration"
OPERATIONS_TAG: Final = "operations"
_KEY_ROLES: Final = (Role.ADMIN, Role.PRODUCER)
_REMOVED: Final = key_removed()

ADMINISTRATION: Final = (
    Operation(
        id="authorize",
        method="POST",
        path=f"{BASE}/authorize",
        tag=TAG,
        summary="Log in",
        description="Attempts are limited per user and per address.",
        parameters=(INSTANCE,),
        content=(json_of(wire.Login, examples.LOGIN),),
        given=(Given("A token", (json_of(wire.Session),), headers=(REQUEST_ID, "Cache-Control")),),
        refusals=(*BODY, errors.UserAuthFailed, errors.TooManyRequests, *STORE),
    ),
    Operation(
        id="uploadLicensingKey",
        method="POST",
        path=f"{BASE}/rest_licensing_keys",
        tag=TAG,
        summary="Trust a key for capability tokens",
        description="It replaces the key uploaded before, at once or after `overlap`.",
        security=Security.SESSION,
        roles=_KEY_ROLES,
        parameters=(
            INSTANCE,
            Parameter(
                "kid",
                "query",
                Annotated[str, Meta(pattern="^[!-~]+$", max_length=ID_BYTES_MAX)],
                "The name of the key; its RFC 7638 thumbprint when absent.",
            ),
            Parameter(
                "overlap",
                "query",
                Annotated[str, Meta(pattern="^[0-9]+[smhdw]?$")],
                "How long the key before it stays valid, at most"
                f" {OVERLAP_MS_MAX // 86_400_000}d; 0 when absent.",
            ),
        ),
        content=(Content(OCTETS, None),),
        given=(Given("The key is trusted", (json_of(wire.LicensingKey),), headers=(REQUEST_ID,)),),
        refusals=(*BODY, *CREDENTIAL, errors.InvalidPublicKey, *STORE),
    ),
    Operation(
        id="removeLicensingKeys",
        method="DELETE",
        path=f"{BASE}/rest_licensing_keys",
        tag=TAG,
        summary="Trust no uploaded key any more",
        description="Success is a 410, whether or not there was a key.",
        security=Security.SESSION,
        roles=_KEY_ROLES,
        parameters=(INSTANCE,),
        given=(
            Given(
                _REMOVED.description,
                (refused_content(_REMOVED),),
                status=_REMOVED.status,
                headers=_REMOVED.headers,
            ),
        ),
        refusals=(*CREDENTIAL, *STORE),
    ),
)


def _look(id: str, path: str, summary: str, *given: Given, description: str = "") -> Operation:
    return Operation(
        id=id,
        method="GET",
        path=path,
        tag=OPERATIONS_TAG,
        summary=summary,
        description=description,
        given=given,
    )


OPERATING: Final = (
    _look("livez", "/livez", "Is the process alive?", Given("It is", (json_of(wire.Alive),))),
    _look(
        "readyz",
        "/readyz",
        "May requests come here?",
        Given("They may", (json_of(wire.Readiness),)),
        Given(
            "They should not, for the reasons given",
            (json_of(wire.Readiness),),
            status=503,
            headers=("Retry-After",),
        ),
    ),
    _look(
        "metrics",
        "/metrics",
        "What this gateway counts, all its workers together",
        Given(
            "In the text format of Prometheus, or as OpenMetrics for who accepts that",
            (Content(TEXT, str), Content(OPENMETRICS, str)),
        ),
    ),
    _look(
        "signingKeys",
        "/.well-known/jwks.json",
        "Which keys sign answers",
        Given("The key set", (json_of(wire.PublicKeys),), headers=("Cache-Control",)),
    ),
    _look(
        "contract",
        "/openapi.json",
        "This document",
        Given("OpenAPI 3.1", (json_of(dict[str, Any]),), headers=("Cache-Control",)),
    ),
)
