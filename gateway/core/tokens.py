"""The two credentials of an access request, judged and made: capability token and signed payload.

Decided here: what a verified JWS must say, and when, to be one of the two.
Not decided here: which of them an instance takes, the 403 for a missing role, replay (`jti` is an
idempotency id), caching. The signature comes first, the claims second; a refusal is None without a
reason, because all reasons are one 401. Times are seconds, `now_s` is the caller's clock.
Source: SEMANTICS 9 and 10, RFC 7519.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypedDict

import msgspec

from gateway.core.errors import BadRequest, InvalidInput
from gateway.core.jws import parse, sign
from gateway.core.keyring import KeyRing
from gateway.core.keys import PrivateKey, algorithm_of

ROLE_CAPABILITY: Final = "ROLE_CAPABILITY"
REQUEST_TYP: Final = "access-request+jws"
ANSWER_TYP: Final = "access-response+jws"
TOKEN_BYTES_MAX: Final = 8_192
SIGNED_BYTES_MAX: Final = 6 * 2**20  # over what a batch may have; each path has a lower bound
SKEW_S: Final = 60
PAYLOAD_AGE_S_MAX: Final = 300
_ROLES_CACHED_MAX: Final = 256  # each is part of a token, and so bounded

_ID: Final = re.compile(r"[\x21-\x7e]{1,255}")


class Token(msgspec.Struct, frozen=True):
    """A verified capability token. `kid` is the key that signed it, named in the token or not."""

    sub: str
    exp_s: float | None  # as the token says, without skew; None: does not lapse
    roles: frozenset[str]
    kid: str
    forwarder: bool = False
    until_s: float | None = None  # its key is not in force from this moment on

    @property
    def capable(self) -> bool:
        """Whether the token carries the role that access requests need."""
        return ROLE_CAPABILITY in self.roles


class SignedPayload(msgspec.Struct, frozen=True, eq=False):
    """A verified signed payload: `claims` is the whole object, `body` the bytes it came from."""

    claims: dict[str, Any]
    body: bytes
    jti: str | None  # 1–255 visible ASCII
    kid: str
    forwarder: bool


class _TokenClaims(msgspec.Struct):
    # msgspec takes no boolean, string or null for a float, and JSON has neither NaN nor infinity.
    sub: str = ""
    exp: float | msgspec.UnsetType = msgspec.UNSET
    nbf: float | msgspec.UnsetType = msgspec.UNSET
    iat: float | msgspec.UnsetType = msgspec.UNSET
    roles: Any = None


class _BatchClaims(TypedDict, total=False):
    iat: Any
    jti: Any
    aud: Any
    requests: msgspec.Raw


_TOKEN_CLAIMS: Final = msgspec.json.Decoder(_TokenClaims)
_PAYLOAD_CLAIMS: Final = msgspec.json.Decoder(dict[str, Any])
_BATCH_CLAIMS: Final = msgspec.json.Decoder(_BatchClaims)


def verify_token(
    text: str | bytes,
    ring: KeyRing,
    *,
    now_s: float,
    skew_s: int = SKEW_S,
    require_exp: bool = True,
) -> Token | None:
    """Judge a bearer token for the instance whose keys are `ring`, or None.

    RS256 only. `exp` is demanded unless `require_exp` is false, and honoured either way; `nbf` is
    honoured. A token without the role is still a token: ask `capable`. Never raises.
    """
    if isinstance(text, str):
        if not text.isascii():
            return None
        text = text.encode("ascii")
    parsed = parse(text, max_bytes=TOKEN_BYTES_MAX)
    if parsed is None or not _is_token_header(parsed.header):
        return None
    key = ring.signer(parsed, now_s=now_s)
    if key is None:
        return None
    try:
        claims = _TOKEN_CLAIMS.decode(parsed.payload)
    except (ValueError, RecursionError):
        return None
    exp_s = None if claims.exp is msgspec.UNSET else claims.exp
    if require_exp and exp_s is None:
        return None
    if exp_s is not None and now_s >= exp_s + skew_s:
        return None
    if claims.nbf is not msgspec.UNSET and now_s < claims.nbf - skew_s:
        return None
    roles = _roles(claims.roles)
    return Token(claims.sub, exp_s, roles, key.kid, key.forwarder, key.until_s)


def mint_token(
    private: PrivateKey, *, sub: str, now_s: float, ttl_s: int, kid: str | None = None
) -> str:
    """Make a capability token that lapses `ttl_s` after `now_s`.

    Raises InvalidInput when the key is not an RSA key: CMAPI knows RS256 only.
    """
    if algorithm_of(private) != "RS256":
        raise InvalidInput("A capability token is signed with RS256; give an RSA private key")
    issued_s = int(now_s)
    claims = {"sub": sub, "roles": ROLE_CAPABILITY, "iat": issued_s, "exp": issued_s + ttl_s}
    header = {"alg": "RS256", "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    return sign(header, msgspec.json.encode(claims), private).decode("ascii")


def verify_payload(
    body: bytes,
    ring: KeyRing,
    *,
    instance_id: str,
    now_s: float,
    max_age_s: int = PAYLOAD_AGE_S_MAX,
    ahead_s: int = SKEW_S,
    jti_required: bool = True,
    batch: bool = False,
) -> SignedPayload | None:
    """Judge a signed payload for the instance `instance_id` whose keys are `ring`, or None.

    Of a `batch`, `requests` stays the JSON text that it is (msgspec.Raw), and other members than
    its and those of a credential are not in `claims`: some megabytes are not decoded at one go.
    A `jti` that is there, in a payload that is valid otherwise, but not 1–255 visible ASCII is
    BadRequest and no matter of credentials (SEMANTICS 9); a retry does not help. Nothing else
    raises.
    """
    parsed = parse(body, max_bytes=SIGNED_BYTES_MAX)
    if parsed is None or not _is_request_header(parsed.header):
        return None
    key = ring.signer(parsed, now_s=now_s)
    if key is None:
        return None
    try:
        claims: dict[str, Any] = (
            dict(_BATCH_CLAIMS.decode(parsed.payload))
            if batch
            else _PAYLOAD_CLAIMS.decode(parsed.payload)
        )
    except (ValueError, RecursionError):
        return None
    iat_s = claims.get("iat")
    # `type`, not isinstance: True is an int. Compared, not subtracted: it may not fit a float.
    if type(iat_s) is not int or not now_s - max_age_s <= iat_s <= now_s + ahead_s:
        return None
    if claims.get("aud") != instance_id:
        return None
    jti = claims.get("jti")
    if jti is None and jti_required:
        return None
    if jti is not None and not (isinstance(jti, str) and _ID.fullmatch(jti)):
        raise BadRequest("jti is not 1 to 255 visible ASCII characters", "jti")
    return SignedPayload(claims, parsed.payload, jti, key.kid, key.forwarder)


def sign_payload(private: PrivateKey, kid: str, claims: dict[str, Any]) -> bytes:
    """Sign an access request; `claims` is the whole object, `iat`, `jti` and `aud` included."""
    header = {"alg": algorithm_of(private), "kid": kid, "typ": REQUEST_TYP}
    return sign(header, msgspec.json.encode(claims), private)


def sign_answer(private: PrivateKey, kid: str, payload: bytes) -> bytes:
    """Sign the JSON of an access answer (protocols/cmapi.md section 6)."""
    return sign({"alg": algorithm_of(private), "kid": kid, "typ": ANSWER_TYP}, payload, private)


def _is_token_header(header: Mapping[str, Any]) -> bool:
    """Say whether a header may be a token's; members that we do not know are tolerated."""
    typ = header.get("typ", "JWT")
    return header["alg"] == "RS256" and isinstance(typ, str) and typ.upper() == "JWT"


def _is_request_header(header: Mapping[str, Any]) -> bool:
    """Say whether a header is exactly `alg`, `kid`, `typ`; `parse` has vouched for `alg`."""
    return (
        len(header) == 3 and header.get("typ") == REQUEST_TYP and isinstance(header.get("kid"), str)
    )


def _roles(value: object) -> frozenset[str]:
    """Read roles from a comma string or an array of strings; any other shape gives none."""
    if isinstance(value, str):
        return _listed(value)
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        return frozenset()
    return _named(value)


# Clients of a product send the same few lists: who remembers tokens keeps one set for all of them.
@lru_cache(maxsize=_ROLES_CACHED_MAX)
def _listed(text: str) -> frozenset[str]:
    return _named(text.split(","))


def _named(roles: list[str]) -> frozenset[str]:
    return frozenset(stripped for role in roles if (stripped := role.strip(" ")))
