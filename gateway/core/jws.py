"""JWS, compact serialisation only: bytes in, parts or a yes/no out, strictly.

Decided here: what a well-formed JWS is, which headers are refused, what a valid signature is.
Not decided here: which key may sign (keyring.py) and what the payload must say (tokens.py).
Whatever comes from outside is refused by a returned None or False and never raises.
Only one text is read as a given JWS, yet no text and no signature is ever an id: from a valid ECDSA
signature (r, s) anybody makes the valid (r, n - s).
Source: RFC 7515, RFC 7518 section 3, RFC 8037 section 3, RELIABILITY 3 items 3 to 5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.core.base64url import b64url_decode, b64url_encode, encode
from gateway.core.keys import ALGORITHMS, PrivateKey, PublicKey, algorithm_of

__all__ = ["Parsed", "b64url_decode", "b64url_encode", "parse", "sign", "verify"]

HEADER_BYTES_MAX: Final = 1024  # of the encoded protected header; an honest one has about 100
_HEADERS_CACHED_MAX: Final = 512

# Each lets the sender choose the key, the trust or the meaning; `crit` because we extend nothing.
_REFUSED_MEMBERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64"})

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PKCS1_V1_5: Final = padding.PKCS1v15()
_SHA256: Final = SHA256()
_ECDSA: Final = ec.ECDSA(_SHA256)
_HEADER: Final = msgspec.json.Decoder(dict[str, Any])


class Parsed(msgspec.Struct, frozen=True, eq=False):
    """A well-formed JWS of which nothing is verified yet.

    `header` is read-only, its `alg` one of ours; `signing_input` is what was signed, as received.
    """

    header: Mapping[str, Any]
    payload: bytes
    signing_input: bytes
    signature: bytes


def parse(text: bytes, *, max_bytes: int) -> Parsed | None:
    """Take a compact JWS apart, or None when it is not exactly one.

    Refused: over `max_bytes`, not three parts of strict base64url, a header that is no JSON object,
    is over HEADER_BYTES_MAX, has a name twice, names an algorithm that is not ours (`none` and HMAC
    with it) or brings its own key, certificate or extension. Never raises.
    """
    if len(text) > max_bytes:
        return None
    signing_input, _, signature_part = text.rpartition(b".")
    header_part, dot, payload_part = signing_input.partition(b".")
    if not dot or len(header_part) > HEADER_BYTES_MAX:
        return None
    header = _header(header_part)
    if header is None:
        return None
    # A fourth part would leave a dot in the payload's, and a dot is not of the alphabet.
    payload = b64url_decode(payload_part)
    signature = b64url_decode(signature_part)
    if payload is None or signature is None:
        return None
    return Parsed(header, payload, signing_input, signature)


def verify(parsed: Parsed, alg: str, public: PublicKey) -> bool:
    """Say whether `public` signed this with `alg`, the algorithm of the key's record.

    The header must name the same `alg`, and the key must be of its kind: the header chooses
    nothing. `public` was checked by `load_public`. Never raises.
    """
    if parsed.header["alg"] != alg:
        return False
    signature = parsed.signature
    try:
        if alg == "RS256" and isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, parsed.signing_input, _PKCS1_V1_5, _SHA256)
        elif alg == "ES256" and isinstance(public, ec.EllipticCurvePublicKey):
            if len(signature) != 64:
                return False
            r = int.from_bytes(signature[:32], "big")
            s = int.from_bytes(signature[32:], "big")
            if not (0 < r < _P256_ORDER and 0 < s < _P256_ORDER):
                return False
            public.verify(encode_dss_signature(r, s), parsed.signing_input, _ECDSA)
        elif alg == "EdDSA" and isinstance(public, ed25519.Ed25519PublicKey):
            if len(signature) != 64:
                return False
            public.verify(signature, parsed.signing_input)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def sign(header: dict[str, Any], payload: bytes, private: PrivateKey) -> bytes:
    """Sign a payload under exactly this header; the compact JWS as ASCII bytes.

    Raises ValueError when the header's `alg` is not the key's: the caller's mistake.
    """
    alg = algorithm_of(private)
    if header.get("alg") != alg:
        raise ValueError(f"The header's alg does not fit the key; expected {alg}")
    signing_input = encode(msgspec.json.encode(header)) + b"." + encode(payload)
    return signing_input + b"." + encode(_signature(signing_input, private))


def _signature(signing_input: bytes, private: PrivateKey) -> bytes:
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(signing_input, _PKCS1_V1_5, _SHA256)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(private.sign(signing_input, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return private.sign(signing_input)


# A client sends the same few headers all its life; a pure function of at most HEADER_BYTES_MAX
# bytes may remember them, and a flood of others only costs the decoding again.
@lru_cache(maxsize=_HEADERS_CACHED_MAX)
def _header(part: bytes) -> Mapping[str, Any] | None:
    """Decode a protected header, or None when `parse` must refuse it."""
    data = b64url_decode(part)
    if data is None:
        return None
    try:
        header = _HEADER.decode(data)
        # msgspec refuses what is not JSON, but of two equal names it sees the last; this sees both.
        json.loads(data, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return None
    if header.get("alg") not in ALGORITHMS or not _REFUSED_MEMBERS.isdisjoint(header):
        return None
    return MappingProxyType(header)


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member name is given twice")
