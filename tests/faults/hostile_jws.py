"""Signed texts that mean no good, made from honest ones: of access requests and of tokens.

Decided here: how a JWS is spoiled, which is nearly always after it was rightly signed or with the
signature made anew, so that the refusal has one reason. Not decided here: what is to become of it
(hostile_oracle.py). Signed with nothing of the gateway's.
"""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.faults import hostile_values
from tests.vectors.credentials import private

REQUEST_TYP: Final = "access-request+jws"
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
OTHER_ALGORITHMS: Final = (
    "none", "None", "", "HS256", "HS512", "RS384", "PS256", "ES256K", "ES384", "Ed25519", "rs256",
    "RS256 ",
    "RS256\0", "dir", None, 1, ["RS256"], {"RS256": 1}, True,
)  # fmt: skip
STRANGE_MEMBERS: Final = (
    ("jwk", {"kty": "oct", "k": "AA"}), ("jku", "http://127.0.0.1/"), ("x5u", "http://127.0.0.1/"),
    ("x5c", ["AA"]), ("crit", ["exp"]), ("crit", []), ("b64", False), ("zip", "DEF"), ("cty",
    "JWT"),
    ("x5t", "AA"), ("nonce", "1"), ("exp", 0), ("", ""), ("ALG", "none"), ("kid\0", "a"),
)  # fmt: skip
TYPES: Final = (
    "JWT", "jwt", "at+jwt", "access-response+jws", "access-request+JWS", "", None, 1, [],
    "application/jwt",
    "access-request+jws\0", " access-request+jws",
)  # fmt: skip


@dataclass(frozen=True)
class Signed:
    """An honest text: what it says, and whose key signs it."""

    header: dict[str, Any]
    payload: bytes
    whose: str = "own"

    def text(self) -> bytes:
        return _signed(json.dumps(self.header).encode(), self.payload, self._key())

    def _key(self) -> Any:
        return private(self.whose, self.header["alg"])


def oracle_keys(*kids: str, whose: str = "own") -> dict[str, tuple[str, Any]]:
    """Give the public keys of an instance as joserfc reads them, by kid."""
    kinds = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}
    return {
        f"{whose}-{alg}": (alg, kind.import_key(_public_pem(private(whose, alg))))
        for alg, kind in kinds.items()
        if not kids or f"{whose}-{alg}" in kids
    }


def spoiled(draw: Random, honest: Signed, number: int) -> bytes:
    """Spoil an honest text in one way; its `number` says which of its bytes is flipped."""
    way = _WAYS[draw.randrange(len(_WAYS))]
    return way(draw, honest, number)


def _flipped(draw: Random, honest: Signed, number: int) -> bytes:
    text = bytearray(honest.text())
    text[number % len(text)] ^= 1 << draw.randrange(8)
    return bytes(text)


def _another_byte(draw: Random, honest: Signed, number: int) -> bytes:
    text = honest.text()
    place = number % len(text)
    other = draw.choice((b"", b"A", b"-", b"+", b"/", b"=", b" ", b".", b"\xc3\xa9"))
    return text[:place] + other + text[place + draw.randrange(2) :]


def _header_member(draw: Random, honest: Signed, number: int) -> bytes:
    """Say another alg, kid or typ, or more than that, and sign it all the same."""
    header, key = dict(honest.header), honest._key()
    match draw.randrange(6):
        case 0:
            header["alg"] = draw.choice((*OTHER_ALGORITHMS, *ALGORITHMS))
        case 1:
            header["kid"] = draw.choice(
                ("own-RS256", "own-ES256", "own-EdDSA", "other-ES256", "nobody", "", None, 1, [],
                 hostile_values.value(draw))
            )  # fmt: skip
        case 2:
            header["typ"] = draw.choice(TYPES)
        case 3:
            name, value = draw.choice(STRANGE_MEMBERS)
            header[name] = value
        case 4:
            header.pop(draw.choice(tuple(header)))
        case _:
            header = draw.choice(
                (header, {}, [header], None, "RS256", {**header, "x": "y" * 2_000})
            )
    return _signed(json.dumps(header).encode(), honest.payload, key)


def _header_text(draw: Random, honest: Signed, number: int) -> bytes:
    """Write the header's JSON in an odd way, and sign it all the same."""
    header = json.dumps(honest.header).encode()
    if draw.randrange(2):
        header = hostile_values.doubled(draw, honest.header, tuple(honest.header))
    else:
        header = hostile_values.spoiled(draw, header)
    return _signed(header[:1_500], honest.payload, honest._key())


def _swapped_key(draw: Random, honest: Signed, number: int) -> bytes:
    """Sign with another's key, another kind of key, or with what everybody knows for a secret."""
    header = json.dumps(honest.header).encode()
    match draw.randrange(4):
        case 0:
            return _signed(header, honest.payload, private("other", honest.header["alg"]))
        case 1:
            return _signed(header, honest.payload, private("own", draw.choice(ALGORITHMS)))
        case 2:
            said = json.dumps({**honest.header, "alg": draw.choice(("HS256", "none"))}).encode()
            text = _base64url(said) + b"." + _base64url(honest.payload)
            secret = draw.choice((b"", b"secret", _public_pem(honest._key()).encode()))
            mac = hmac.digest(secret, text, "sha256")
            return text + b"." + draw.choice((b"", _base64url(mac)))
        case _:
            size = draw.choice((0, 1, 63, 64, 65, 256, 512))
            forged = draw.choice((bytes(size), b"\xff" * size, draw.randbytes(size)))
            return honest.text().rpartition(b".")[0] + b"." + _base64url(forged)


def _rewritten(draw: Random, honest: Signed, number: int) -> bytes:
    """Write the same bytes in another way: padded, in the other alphabet, with what is skipped."""
    parts = honest.text().split(b".")
    at = draw.randrange(3)
    match draw.randrange(6):
        case 0:
            parts[at] += b"=" * (-len(parts[at]) % 4 or draw.randrange(1, 3))
        case 1:
            parts[at] = parts[at].replace(b"-", b"+").replace(b"_", b"/")
        case 2:
            white = draw.choice((b" ", b"\n", b"\r\n", b"\t", b"\0", b"\x0b"))
            place = draw.choice((0, len(parts[at]), draw.randrange(len(parts[at]))))
            parts[at] = parts[at][:place] + white + parts[at][place:]
        case 3:
            alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            last = alphabet[alphabet.index(parts[at][-1]) ^ draw.choice((1, 2, 3))]
            parts[at] = parts[at][:-1] + bytes(
                (last,)
            )  # bits that belong to no byte, if it has some
        case 4:
            parts = draw.choice((parts[:2], parts[1:], [*parts, b""], [*parts, parts[0]], [b"",
            *parts],
                                 parts[::-1], [parts[0], b"", parts[2]]))  # fmt: skip
        case _:
            names = ("protected", "payload", "signature")
            said = {name: part.decode() for name, part in zip(names, parts, strict=True)}
            return json.dumps(said).encode()
    return b".".join(parts)


def _twin(draw: Random, honest: Signed, number: int) -> bytes:
    """Turn an ECDSA signature (r, s) into its twin (r, n - s): valid too, and the same request."""
    text, _, part = honest.text().rpartition(b".")
    raw = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if honest.header["alg"] == "ES256":
        raw = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    else:
        raw = raw[::-1]
    return text + b"." + _base64url(raw)


def _payload_text(draw: Random, honest: Signed, number: int) -> bytes:
    """Sign a payload that is spoiled as a text."""
    said = json.loads(honest.payload)
    changed = (
        hostile_values.doubled(draw, said, tuple(said))
        if draw.randrange(3)
        else hostile_values.spoiled(draw, honest.payload)
    )
    header = json.dumps(honest.header).encode()
    return _signed(header, changed[:40_000], honest._key())


def _payload_member(draw: Random, honest: Signed, number: int) -> bytes:
    """Sign a payload with a member that is missing or odd, most often one of the credential's."""
    said = json.loads(honest.payload)
    credential = [name for name in ("iat", "jti", "aud", "exp", "nbf", "roles") if name in said]
    name = draw.choice(credential if draw.randrange(4) else [*said, "x"])
    if draw.randrange(4) == 0:
        said.pop(name, None)
    elif name == "iat":
        said[name] = draw.choice((said[name] - 4_000, said[name] + 4_000, float(said[name]),
        str(said[name]),
                                  True, None, -1, 10**400, [said[name]]))  # fmt: skip
    elif name == "jti" and draw.randrange(2):
        said[name] = draw.choice(("", " ", "a b", "é", "x" * 256, "a\n", "{p001}", 1, [], None))
    elif name == "aud":
        said[name] = draw.choice(
            ("OTHER", "", "~", "hostile", [said[name]], None, said[name] + "\0")
        )
    else:
        said[name] = hostile_values.value(draw)
    header = json.dumps(honest.header).encode()
    return _signed(header, json.dumps(said).encode()[:40_000], honest._key())


def _noise(draw: Random, honest: Signed, number: int) -> bytes:
    return draw.choice((b"", b".", b"..", b"...", b"a.b.c", b"." * 9_000, b"e30.e30.e30",
                        draw.randbytes(300), b"A" * 9_000, honest.text() * 2))  # fmt: skip


_WAYS: Final = (
    _flipped, _flipped, _flipped, _another_byte, _header_member, _header_member, _header_text,
    _swapped_key, _rewritten, _twin, _payload_text, _payload_member, _payload_member, _noise,
)  # fmt: skip


def _signed(header: bytes, payload: bytes, key: Any) -> bytes:
    text = _base64url(header) + b"." + _base64url(payload)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(text, padding.PKCS1v15(), SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = decode_dss_signature(key.sign(text, ec.ECDSA(SHA256())))
        signature = b"".join(each.to_bytes(32, "big") for each in numbers)
    else:
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        signature = key.sign(text)
    return text + b"." + _base64url(signature)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _public_pem(key: Any) -> str:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()
