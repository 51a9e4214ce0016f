"""The token of a LicenseSpring log-in: a JWT, HS256, with the claims that its clients look for.

Decided here: what it says, and that it is authenticated with a key of its own, derived from the
session key: neither kind of token is ever good for the other. Its header is one fixed text, so that
nothing in it chooses anything. Not decided here: what its user may do now (service/admin.py).
Source: protocols/licensespring.md 1 and 10, RFC 7515, RFC 7519.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from functools import partial
from typing import Final, Literal

import msgspec

from gateway.core.base64url import encode
from gateway.core.model import Role
from gateway.core.sessions import Session, SessionKey, opened, sealed

HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'

_HEADER_PART: Final = encode(HEADER)
_PURPOSE: Final = b"licensespring session"  # a session token's input to the same MAC has two dots


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    # In this order, and with these names, since it is written too.
    role: str
    username: str
    iss: str
    iat: int
    exp: int
    roles: str


_CLAIMS: Final = msgspec.json.Decoder(_Claims)


def role_of(roles: Collection[str]) -> Literal["admin", "user"]:
    """Say in the protocol's words what a user with these roles is."""
    return "admin" if Role.ADMIN.value in roles else "user"


def issue_floating(key: SessionKey, session: Session) -> str:
    """Write the token of a session, its roles in one order.

    Raises ValueError when it would be over SESSION_BYTES_MAX: no verifier of ours would take it.
    """
    claims = _Claims(
        role=role_of(session.roles),
        username=session.user,
        iss=session.instance,
        iat=session.issued_s,
        exp=session.expires_s,
        roles=",".join(sorted(session.roles)),
    )
    return sealed(_HEADER_PART, claims, partial(_mac, key))


def verify_floating(
    key: SessionKey, text: str | bytes, *, instance: str, now_s: float
) -> Session | None:
    """Judge a token for the instance `instance`, as `verify_session` does. Never raises."""
    payload = opened(_HEADER_PART, text, partial(_mac, key))
    if payload is None:
        return None
    try:
        claims = _CLAIMS.decode(payload)
    except (ValueError, RecursionError):
        return None
    if claims.iss != instance or not claims.iat <= claims.exp or now_s >= claims.exp:
        return None
    roles = frozenset(role for role in claims.roles.split(",") if role)
    return Session(claims.username, claims.iss, roles, claims.iat, claims.exp, xsrf="")


def _mac(key: SessionKey, data: bytes) -> bytes:
    return hmac.digest(key.mac(_PURPOSE), data, "sha256")
