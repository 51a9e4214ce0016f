"""CMAPI's answers to access requests as types; cmapi_answer.py writes them, by hand.

Decided here: names, bounds and words of every member, as far as a schema can say them; the examples
of the OpenAPI document, which are executed, hold these types to the code.
Source: SEMANTICS 8, protocols/cmapi.md 5 and 6.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.core.model import UNITS_MAX, Code
from gateway.protocols.cmapi_wire import Expiry, Host, Moment, Seconds, Units, Version


class LineItem(msgspec.Struct):
    """What a line that served was sold as; null where that is not known."""

    productName: str | None
    productVersion: str | None
    activationId: str | None
    entitlementId: str | None


class _Feature(msgspec.Struct, kw_only=True):
    name: str
    version: Annotated[Version, Meta(description="Of the lines that served.")]
    maxCount: Annotated[
        Units | UnsetType,
        Meta(description="Capacity over the lines of this version; absent when unlimited."),
    ] = UNSET
    expires: Annotated[
        Moment | UnsetType,
        Meta(description="When the first of it lapses or expires; absent when it does not."),
    ] = UNSET
    finalExpiry: Expiry
    entitlementExpiry: Expiry
    vendorString: str | UnsetType = UNSET
    serialNumber: str | UnsetType = UNSET
    issuer: str | UnsetType = UNSET
    notice: str | UnsetType = UNSET
    renewInterval: Annotated[
        Seconds, Meta(description="Seconds until a renewal is advised; 0 for what is consumed.")
    ]
    lineItemsInfo: list[LineItem]


class FeatureGranted(_Feature, kw_only=True):
    """What the host has of one feature and line version."""

    count: Annotated[
        int,
        Meta(
            ge=-UNITS_MAX,
            le=UNITS_MAX,
            description="Consumed: what this request added, negative for an undo. Reusable: what"
            " the host now holds.",
        ),
    ]


class FeatureOffered(_Feature, kw_only=True):
    """What the host could get now of one feature and line version."""

    count: Annotated[
        Units | Literal["uncounted"],
        Meta(description="Held and available together; `uncounted` when unlimited."),
    ]


class Status(msgspec.Struct):
    """Why one feature was not fully served. `name` and `version` are as asked."""

    code: Code
    message: str
    name: str
    version: str


class AccessAnswer(msgspec.Struct, kw_only=True):
    """What was granted. A denial is an answer too: `statusList` tells it."""

    requestHostId: Host
    features: list[FeatureGranted]
    serverLicenseRenewInterval: Seconds
    statusList: Annotated[list[Status], Meta(description="Empty when all was served.")]


class PreviewAnswer(msgspec.Struct, kw_only=True):
    """What this host could get now; nothing was changed."""

    requestHostId: Host
    features: list[FeatureOffered]
    statusList: Annotated[list[Status], Meta(description="What was asked for and is not there.")]


class SignedAccessAnswer(AccessAnswer, kw_only=True):
    """The payload of a signed answer: JWS compact, `typ` `access-response+jws`, made with a key of
    `/.well-known/jwks.json`.
    """

    iat: Annotated[int, Meta(description="Unix time in seconds.")]
    instanceId: str
    requestId: Annotated[
        str, Meta(description="The request's idempotency id, else its `Gateway-Request-Id`.")
    ]
