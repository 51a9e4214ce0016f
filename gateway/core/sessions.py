"""The administrator's token: made by this gateway, HS512, and judged by it.

Decided here: what the token says, and that only a text which this gateway could have written is
read as one. Its key is a type of its own and takes part in nothing else, so that no public key is
ever a MAC's secret; the algorithm is not read from the token, whose header is one fixed text.
Not decided here: who the user is today and what it may do (service/admin.py). Times are seconds.
Source: protocols/cmapi.md 7.1, RFC 7515, RFC 7519, RELIABILITY 3 items 4 and 5.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.core.base64url import b64url_decode, encode

SESSION_S: Final = 86_400
SESSION_BYTES_MAX: Final = 2_048  # of a token; an honest one has about 500
SECRET_BYTES: Final = 64  # as long as what HS512 gives (RFC 7518 section 3.2)

HEADER: Final = b'{"typ":"JWT","alg":"HS512"}'
_HEADER_PART: Final = encode(HEADER)


class SessionKey:
    """The secret that session tokens are authenticated with, of exactly SECRET_BYTES bytes.

    Raises ValueError for another length. Its repr and its str do not hold the secret.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a session key has {SECRET_BYTES} bytes")
        self._secret = secret

    def mac(self, data: bytes) -> bytes:
        """Give the HMAC-SHA-512 of `data`."""
        return hmac.digest(self._secret, data, "sha512")


class Session(msgspec.Struct, frozen=True):
    """A verified token: who logged in at which instance, and with which roles at that time."""

    user: str
    instance: str
    roles: frozenset[str]
    issued_s: int
    expires_s: int
    xsrf: str


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    # In this order, and with these names, since it is written too.
    sub: str
    iss: str
    iat: int
    exp: int
    roles: str
    xsrfToken: str


_CLAIMS: Final = msgspec.json.Decoder(_Claims)


def issue_session(key: SessionKey, session: Session) -> str:
    """Write the token of a session, its roles in one order.

    Raises ValueError when it would be over SESSION_BYTES_MAX: no verifier of ours would take it.
    """
    claims = _Claims(
        sub=session.user,
        iss=session.instance,
        iat=session.issued_s,
        exp=session.expires_s,
        roles=",".join(sorted(session.roles)),
        xsrfToken=session.xsrf,
    )
    return sealed(_HEADER_PART, claims, key.mac)


def verify_session(
    key: SessionKey, text: str | bytes, *, instance: str, now_s: float
) -> Session | None:
    """Judge a token for the instance `instance`, or None.

    Only the header that `issue_session` writes is taken, so nothing in it chooses anything. The MAC
    comes first and takes constant time; then the claims: `iss` is the instance, `exp` is not over
    (this gateway wrote it, so there is no skew to allow for). Never raises.
    """
    payload = opened(_HEADER_PART, text, key.mac)
    if payload is None:
        return None
    try:
        claims = _CLAIMS.decode(payload)
    except (ValueError, RecursionError):
        return None
    if claims.iss != instance or not claims.iat <= claims.exp or now_s >= claims.exp:
        return None
    roles = frozenset(role for role in claims.roles.split(",") if role)
    return Session(claims.sub, claims.iss, roles, claims.iat, claims.exp, claims.xsrfToken)


Mac = Callable[[bytes], bytes]


def sealed(header_part: bytes, claims: msgspec.Struct, mac: Mac) -> str:
    """Write a token of ours under the one header of its kind, authenticated by `mac`.

    Raises ValueError when it would be over SESSION_BYTES_MAX: no verifier of ours would take it.
    """
    signing_input = header_part + b"." + encode(msgspec.json.encode(claims))
    text = signing_input + b"." + encode(mac(signing_input))
    if len(text) > SESSION_BYTES_MAX:
        raise ValueError(f"a session token has at most {SESSION_BYTES_MAX} bytes")
    return text.decode("ascii")


def opened(header_part: bytes, text: str | bytes, mac: Mac) -> bytes | None:
    """Give the claims, as JSON, of a token that `sealed` wrote under this header with this `mac`;
    None for any other text. Never raises.
    """
    if isinstance(text, str):
        if not text.isascii():
            return None
        text = text.encode("ascii")
    if len(text) > SESSION_BYTES_MAX:
        return None
    signing_input, _, mac_part = text.rpartition(b".")
    given, _, payload_part = signing_input.partition(b".")
    payload, said = b64url_decode(payload_part), b64url_decode(mac_part)
    if given != header_part or payload is None or said is None:
        return None
    return payload if hmac.compare_digest(said, mac(signing_input)) else None
