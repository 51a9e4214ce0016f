"""The credentials that vectors name, made by another implementation of JWS than ours.

Each name of README.md is one entry of a table; `claims` of a step are laid over what an honest
client would say, null taking a claim away, `{"$now": s}` being seconds from now.
"""

from __future__ import annotations

import base64
import hmac
import time
from functools import cache
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.model import Key

TOKEN: Final = {"typ": "JWT"}
PAYLOAD: Final = {"typ": "access-request+jws"}

# name: algorithm, whose key, and the header beside alg
TOKENS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "token": ("RS256", "own", TOKEN),
    "token-lower": ("RS256", "own", TOKEN),
    "token-kid": ("RS256", "own", {**TOKEN, "kid": "own-RS256"}),
    "token-unknown-kid": ("RS256", "own", {**TOKEN, "kid": "nobody"}),
    "token-wrong-kid": ("RS256", "own", {**TOKEN, "kid": "own-ES256"}),
    "token-other": ("RS256", "other", TOKEN),
    "token-es256": ("ES256", "own", {**TOKEN, "kid": "own-ES256"}),
    "token-tampered": ("RS256", "own", TOKEN),
}
SIGNED: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "signed": ("ES256", "own", {**PAYLOAD, "kid": "own-ES256"}),
    "signed-eddsa": ("EdDSA", "own", {**PAYLOAD, "kid": "own-EdDSA"}),
    "signed-rs256": ("RS256", "own", {**PAYLOAD, "kid": "own-RS256"}),
    "signed-other": ("ES256", "other", {**PAYLOAD, "kid": "other-ES256"}),
    "signed-unknown-kid": ("ES256", "own", {**PAYLOAD, "kid": "nobody"}),
    "signed-wrong-alg": ("RS256", "own", {**PAYLOAD, "kid": "own-ES256"}),
    "signed-more": ("ES256", "own", {**PAYLOAD, "kid": "own-ES256", "cty": "json"}),
    "signed-no-kid": ("ES256", "own", PAYLOAD),
    "signed-typ-jwt": ("ES256", "own", {**TOKEN, "kid": "own-ES256"}),
    "signed-tampered": ("ES256", "own", {**PAYLOAD, "kid": "own-ES256"}),
    "signed-array": ("ES256", "own", {**PAYLOAD, "kid": "own-ES256"}),
}


@cache
def private(whose: str, alg: str) -> Any:
    """Give the private key of `own` or `other` for an algorithm, made once."""
    if alg == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if alg == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_der(whose: str, alg: str) -> bytes:
    public = private(whose, alg).public_key()
    encoded: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def keys_of(whose: str) -> tuple[Key, ...]:
    """Give the key records of an instance, one per algorithm, in the order of their kids."""
    return tuple(
        Key(f"{whose}-{alg}", alg, public_der(whose, alg)) for alg in ("ES256", "EdDSA", "RS256")
    )


def attach(
    credential: str, claims: dict[str, Any], instance: str, body: bytes
) -> tuple[dict[str, str], bytes]:
    """Give the headers and the body with which a credential is sent."""
    if credential in SIGNED:
        return {"Content-Type": "application/jose"}, signed(credential, claims, instance, body)
    if credential.startswith("jose-"):
        text = {"jose-garbage": b"a.b.c", "jose-empty": b""}[credential]
        return {"Content-Type": "application/jose"}, text
    headers = {"Content-Type": "application/json"}
    match credential:
        case "none":
            pass
        case "basic":
            headers["Authorization"] = "Basic " + base64.b64encode(b"h1:h1").decode()
        case "garbage":
            headers["Authorization"] = "Bearer a.b.c"
        case "token-lower":
            headers["Authorization"] = "bearer " + token(credential, claims)
        case _:
            headers["Authorization"] = "Bearer " + token(credential, claims)
    return headers, body


def token(credential: str = "token", claims: dict[str, Any] | None = None) -> str:
    """Make a capability token."""
    now_s = int(time.time())
    said = {"sub": "vectors", "roles": "ROLE_CAPABILITY", "iat": now_s, "exp": now_s + 600}
    content = _laid_over(said, claims or {})
    if credential == "token-none":
        return jwt.encode(content, "", algorithm="none")
    if credential == "token-hs256":
        return _confused(content)
    alg, whose, header = TOKENS[credential]
    made = jwt.encode(content, private(whose, alg), algorithm=alg, headers=header)
    return _tampered(made) if credential.endswith("tampered") else made


def signed(credential: str, claims: dict[str, Any], instance: str, body: bytes) -> bytes:
    """Make a signed payload of a request's JSON."""
    said = {**msgspec.json.decode(body), "iat": int(time.time()), "aud": instance}
    content: Any = _laid_over(said, claims)
    if credential == "signed-array":
        content = [content]
    alg, whose, header = SIGNED[credential]
    made = jwt.api_jws.encode(
        msgspec.json.encode(content), private(whose, alg), algorithm=alg, headers=header
    )
    return (_tampered(made) if credential.endswith("tampered") else made).encode()


def _laid_over(said: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
    laid = {**said, **{name: _value(value) for name, value in claims.items()}}
    return {name: value for name, value in laid.items() if claims.get(name, "") is not None}


def _value(value: Any) -> Any:
    if isinstance(value, dict) and "$now" in value:
        return int(time.time()) + value["$now"]
    return value


def _confused(content: dict[str, Any]) -> str:
    """Make an HS256 token whose secret is the public key: PyJWT, rightly, will not."""
    parts = [{"alg": "HS256", "typ": "JWT"}, content]
    text = b".".join(_base64url(msgspec.json.encode(part)) for part in parts)
    mac = hmac.digest(public_der("own", "RS256"), text, "sha256")
    return (text + b"." + _base64url(mac)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _tampered(made: str) -> str:
    """Change what was signed by one letter."""
    head, content, signature = made.split(".")
    return f"{head}.{content[:10]}{'A' if content[10] != 'A' else 'B'}{content[11:]}.{signature}"
