"""The bodies beside access requests as types: errors, log-ins, licensing keys, operations.

Decided here: members, bounds and words of what protocols/cmapi_admin.py, problem.py and web/ops.py
read and write; a test holds these types to them. Source: SEMANTICS 10, protocols/cmapi.md 3, 5.6,
6 and 7.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.cmapi_admin import USER_BYTES_MAX
from gateway.protocols.cmapi_wire import Moment

_Base64url: TypeAlias = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$")]


class Error(msgspec.Struct):
    """The one shape of every refusal."""

    key: Annotated[
        str, Meta(pattern="^gateway[.][A-Za-z]+$", description="Which refusal: for programs.")
    ]
    message: Annotated[str, Meta(description="Why: for people.")]
    arguments: Annotated[
        list[str], Meta(description="What the message speaks of, such as the member at fault.")
    ]


class Login(msgspec.Struct):
    """A name and a password."""

    user: Annotated[str, Meta(min_length=1, max_length=USER_BYTES_MAX)]
    password: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=PASSWORD_BYTES_MAX,
            extra_json_schema={"format": "password", "writeOnly": True},
        ),
    ]


class Session(msgspec.Struct):
    """A token for administration: sent as `Authorization: Bearer`, good until it expires."""

    expires: Moment
    token: Annotated[str, Meta(description="JWT, HS512; only this gateway can check it.")]


class LicensingKey(msgspec.Struct):
    """The key that is trusted now."""

    publicKey: Annotated[
        str,
        Meta(
            description="DER SubjectPublicKeyInfo in base64.",
            extra_json_schema={"contentEncoding": "base64"},
        ),
    ]


class Alive(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"]


class Readiness(msgspec.Struct):
    """Whether requests should come here now, and why not."""

    status: Literal["ready", "not ready"]
    reasons: list[str]


class PublicKey(msgspec.Struct, kw_only=True):
    """A public key as of RFC 7517; which members there are depends on `kty`."""

    kty: Literal["OKP", "EC", "RSA"]
    use: Literal["sig"]
    alg: Literal["EdDSA", "ES256", "RS256"]
    kid: str
    crv: Literal["Ed25519", "P-256"] | UnsetType = UNSET
    x: _Base64url | UnsetType = UNSET
    y: _Base64url | UnsetType = UNSET
    n: _Base64url | UnsetType = UNSET
    e: _Base64url | UnsetType = UNSET


class PublicKeys(msgspec.Struct):
    """The keys that signed answers are checked with."""

    keys: list[PublicKey]
