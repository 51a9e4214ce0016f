"""CMAPI's requests as types: what the OpenAPI document and the JSON Schemas are made from.

Decided here: names, bounds and words of every member, as far as a schema can say them. Not decided
here: what is read; that is cmapi_request.py, by hand, and a test holds these types to it. What no
schema of ours says, but the decoder does: lengths are of UTF-8 bytes, not of characters, and no
text has half a surrogate pair; integers are written without a fraction (1.0 is none); an interval
is at most 3660 d; the signs of counts, and their sums for one name and version.
Source: SEMANTICS 2 and 10, protocols/cmapi.md 4.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from gateway.core.fingerprint import ID_BYTES_MAX
from gateway.core.model import COUNT_MAX, FEATURES_MAX, INTERVAL_DAYS_MAX, UNITS_MAX
from gateway.core.versions import VERSION_BYTES_MAX
from gateway.protocols.cmapi_request import (
    ENTRIES_MAX,
    HOST_BYTES_MAX,
    HOST_TYPES,
    INTEGER_MAX,
    INTEGER_MIN,
    NAME_BYTES_MAX,
    TEXT_BYTES_MAX,
)


def _in_any_case(word: str) -> str:
    return "".join(f"[{each}{each.lower()}]" if each.isalpha() else each for each in word)


_ISO: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z"

HostType: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^({'|'.join(map(_in_any_case, sorted(HOST_TYPES)))})$",
        description=f"In any case, one of {', '.join(sorted(HOST_TYPES))}.",
        examples=["string", "user"],
    ),
]
HostValue: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
        max_length=HOST_BYTES_MAX,
        description=f"Compared exactly; at most {HOST_BYTES_MAX} bytes, no control characters.",
    ),
]
FeatureName: TypeAlias = Annotated[
    str, Meta(pattern="^[A-Za-z0-9._:/ -]+$", min_length=1, max_length=NAME_BYTES_MAX)
]
Version: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[0-9]+([.][0-9]+)*$",
        max_length=VERSION_BYTES_MAX,
        description="Numbers joined by dots, compared number by number; `0` is any.",
    ),
]
Count: TypeAlias = Annotated[
    int,
    Meta(
        ge=-COUNT_MAX,
        le=COUNT_MAX,
        description="Negative, with `incremental`: a return or an undo. An integer without"
        " fraction. Entries of one name and version are summed.",
    ),
]
Flag: TypeAlias = bool | Literal["true", "false"] | None
Interval: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[0-9]+[smhdw]?$",
        description=f"No letter means seconds; at most {INTERVAL_DAYS_MAX}d. 0 is no preference.",
        examples=["0d", "30m", "3600"],
    ),
]
_Key: TypeAlias = Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
_Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_BYTES_MAX)]
_Integer: TypeAlias = Annotated[int, Meta(ge=INTEGER_MIN, le=INTEGER_MAX)]
Selectors: TypeAlias = Annotated[dict[_Key, _Text], Meta(max_length=ENTRIES_MAX)]
Vendor: TypeAlias = Annotated[dict[_Key, _Text | _Integer], Meta(max_length=ENTRIES_MAX)]
IdempotencyId: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[!-~]+$",
        max_length=ID_BYTES_MAX,
        description="The same id with the same meaning is answered again and counted once.",
    ),
]
Moment: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^{_ISO}$",
        description="ISO-8601, UTC, ms.",
        examples=["2026-03-01T10:00:00.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
Expiry: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^(permanent|{_ISO})$",
        description="ISO-8601, UTC, ms; or `permanent`.",
        examples=["permanent", "2026-12-31T23:00:00.000Z"],
    ),
]
Units: TypeAlias = Annotated[int, Meta(ge=0, le=UNITS_MAX)]
Seconds: TypeAlias = Annotated[int, Meta(ge=0, description="Seconds.")]


class Host(msgspec.Struct):
    """Whom the counts are served to."""

    type: HostType
    value: HostValue


class FeatureAsked(msgspec.Struct):
    """One feature that is wanted or consumed."""

    name: FeatureName
    version: Version | None = "0"
    count: Count | None = 1


class FeatureLookedAt(msgspec.Struct):
    """One feature of a preview, which ignores counts."""

    name: FeatureName
    version: Version | None = "0"


class AccessRequest(msgspec.Struct, kw_only=True):
    """What a host wants, consumes or hands back. Unknown members are ignored, null is absent."""

    hostId: Host
    features: Annotated[list[FeatureAsked], Meta(max_length=FEATURES_MAX)] | None = []
    incremental: Annotated[
        Flag,
        Meta(
            description="False: the list is the whole set of reusable features. True: it changes"
            " what is held. What is consumed adds up either way."
        ),
    ] = False
    partial: Annotated[
        Flag,
        Meta(description="False: all or nothing. True: each feature gets what there is of it."),
    ] = False
    borrow_interval: Interval | None = msgspec.field(default=None, name="borrow-interval")
    selectorsDictionary: Annotated[
        Selectors | None,
        Meta(description="Which lines may serve: each selector of a line must be equal, or `ANY`."),
    ] = {}
    vendorDictionary: Annotated[
        Vendor | None, Meta(description="Free words of the producer; part of the meaning.")
    ] = {}
    correlationId: IdempotencyId | None = None


class PreviewRequest(msgspec.Struct, kw_only=True):
    """What could a host get now? Without features: of everything. Changes nothing."""

    hostId: Host
    features: Annotated[list[FeatureLookedAt], Meta(max_length=FEATURES_MAX)] | None = []
    selectorsDictionary: Selectors | None = {}


Audience: TypeAlias = Annotated[str, Meta(description="The id of the instance in the path.")]
IssuedAt: TypeAlias = Annotated[
    int, Meta(description="Unix time in seconds, not long ago (`token.payload_max_age_s`).")
]


class SignedAccessRequest(AccessRequest, kw_only=True):
    """The payload of a signed access request: JWS compact, header `alg`, `kid`, `typ`, the last of
    them `access-request+jws`.
    """

    iat: IssuedAt
    jti: IdempotencyId
    aud: Audience


class SignedPreviewRequest(PreviewRequest, kw_only=True):
    """The payload of a signed preview request; header as of a signed access request."""

    iat: IssuedAt
    jti: IdempotencyId | None = None
    aud: Audience
