"""What a client checks of a signed answer before it believes a grant.

Decided here: which published keys may sign, and that type, signature, age, instance, host and id
are all checked. Not decided here: how the answer was got (request.py). Pure; times are seconds.
Source: protocols/cmapi.md 6, RFC 7517, RFC 8037 section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.core.base64url import b64url_decode
from gateway.core.errors import GatewayError, InvalidInput
from gateway.core.jws import parse, verify
from gateway.core.keys import PublicKey, load_public, public_der
from gateway.core.tokens import ANSWER_TYP, SKEW_S

ANSWER_BYTES_MAX: Final = 8 * 2**20
KEYS_MAX: Final = 64  # of a key set that are looked at


class AnswerRefused(GatewayError):
    """A signed answer that must not be believed; the message says why."""


def check_answer(
    content: bytes, jwks: Mapping[str, Any], *, expected: Mapping[str, Any], now_s: float
) -> bytes:
    """Give the payload of a signed answer: JSON, an object.

    `jwks` is the server's published key set; `expected` is what members of the payload must be
    (instance, host, request id). Raises AnswerRefused.
    """
    parsed = parse(content.strip(), max_bytes=ANSWER_BYTES_MAX)
    if parsed is None:
        raise AnswerRefused("The answer is not signed")
    kid = parsed.header.get("kid")
    if parsed.header.get("typ") != ANSWER_TYP:
        raise AnswerRefused(f"The answer is signed as something else than {ANSWER_TYP}")
    public = _published(jwks, kid)
    if public is None:
        raise AnswerRefused("The key that signed the answer is not among the server's keys")
    if not verify(parsed, parsed.header["alg"], public):
        raise AnswerRefused("The answer's signature is not valid")
    try:
        payload = msgspec.json.decode(parsed.payload, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise AnswerRefused("The signed answer is not a JSON object") from None
    for member, value in expected.items():
        if payload.get(member) != value:
            raise AnswerRefused(f"The signed answer is for another {member}")
    iat_s = payload.get("iat")
    if type(iat_s) is not int or abs(now_s - iat_s) > SKEW_S:
        raise AnswerRefused(f"The signed answer is not of now (more than {SKEW_S} s off)")
    return parsed.payload


def _published(jwks: Mapping[str, Any], kid: object) -> PublicKey | None:
    keys = jwks.get("keys")
    for jwk in keys[:KEYS_MAX] if isinstance(keys, list) else ():
        if isinstance(jwk, dict) and isinstance(kid, str) and jwk.get("kid") == kid:
            return _public(jwk)
    return None


def _public(jwk: Mapping[str, Any]) -> PublicKey | None:
    """Load a JSON Web Key of a kind we take, strong enough, or None."""
    key: PublicKey
    try:
        match jwk.get("kty"):
            case "RSA":
                key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
            case "EC" if jwk.get("crv") == "P-256":
                x, y = _number(jwk["x"]), _number(jwk["y"])
                key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            case "OKP" if jwk.get("crv") == "Ed25519":
                key = ed25519.Ed25519PublicKey.from_public_bytes(_bytes(jwk["x"]))
            case _:
                return None
        return load_public(public_der(key))  # which refuses what is weak
    except (KeyError, ValueError, InvalidInput):
        return None


def _number(text: object) -> int:
    return int.from_bytes(_bytes(text), "big")


def _bytes(text: object) -> bytes:
    data = b64url_decode(text) if isinstance(text, str) else None
    if data is None:
        raise ValueError("not base64url")
    return data
