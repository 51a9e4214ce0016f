"""Keys: which ones we take, which one algorithm each stands for, and how they are written.

Decided here: RSA of 2048 to 8192 bits is RS256, P-256 is ES256, Ed25519 is EdDSA; nothing else is a
key. Strength is checked once, on loading, so that verification need not.
Not decided here: whose key it is (keyring.py) and where a private key is kept.
Error texts never hold key material.
Source: SEMANTICS 10, RFC 7517, RFC 7638, RFC 8037 section 2, protocols/cmapi.md sections 6 and 7.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.core.base64url import b64url_encode
from gateway.core.errors import InvalidInput

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
KEY_BYTES_MAX: Final = 16_384  # of a key file or an upload
RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192  # above, one forged token would cost milliseconds to refuse
RSA_EXPONENT_MIN: Final = 65_537
RSA_EXPONENT_MAX: Final = 2**32 - 1  # a long exponent makes each verification slow for no gain

_KINDS: Final = "RSA of at least 2048 bits, EC on P-256, or Ed25519"


def load_public(data: bytes) -> PublicKey:
    """Read a public key from PEM or DER SubjectPublicKeyInfo.

    At most KEY_BYTES_MAX bytes. Raises InvalidInput; its sentence says what to give instead.
    """
    if len(data) > KEY_BYTES_MAX:
        raise InvalidInput(f"A public key file has at most {KEY_BYTES_MAX} bytes")
    pem = b"-----BEGIN " in data
    if _is_private(data, pem):
        raise InvalidInput("This is a private key; give the public half and keep this one secret")
    load = serialization.load_pem_public_key if pem else serialization.load_der_public_key
    try:
        key = load(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(
            f"Not a usable public key; expected SubjectPublicKeyInfo, PEM or DER, of {_KINDS}"
        ) from None
    if isinstance(key, rsa.RSAPublicKey) and not _is_spki(data, pem, key):
        raise InvalidInput("This RSA public key is PKCS#1; expected SubjectPublicKeyInfo")
    return _checked(key)


def load_private(pem: bytes) -> PrivateKey:
    """Read a private key from unencrypted PKCS#8 PEM.

    At most KEY_BYTES_MAX bytes. Raises InvalidInput; its text holds nothing of what was read.
    """
    if len(pem) > KEY_BYTES_MAX:
        raise InvalidInput(f"A private key file has at most {KEY_BYTES_MAX} bytes")
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem:
        raise InvalidInput("The private key is encrypted; expected unencrypted PKCS#8 PEM")
    if b"-----BEGIN PUBLIC KEY-----" in pem:
        raise InvalidInput("This is a public key; expected the private key as PKCS#8 PEM")
    if b"-----BEGIN PRIVATE KEY-----" not in pem:
        raise InvalidInput(
            "Not a private key in PKCS#8 PEM (it begins -----BEGIN PRIVATE KEY-----)"
        )
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: the library's own text may quote what it could not read.
        raise InvalidInput(
            "The private key is damaged or of a kind that is not supported"
        ) from None
    if not isinstance(key, PrivateKey):
        raise InvalidInput(f"A private key of another kind; expected {_KINDS}")
    _checked(key.public_key())
    return key


def generate(alg: str) -> PrivateKey:
    """Make a fresh private key for RS256 (2048 bits), ES256 or EdDSA.

    Raises InvalidInput for another name. The only randomness of this floor, and it is the library's
    own, from the operating system.
    """
    match alg:
        case "RS256":
            return rsa.generate_private_key(RSA_EXPONENT_MIN, RSA_BITS_MIN)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
    raise InvalidInput(f"Unknown algorithm {alg!r}; expected one of {', '.join(ALGORITHMS)}")


def algorithm_of(key: PublicKey | PrivateKey) -> str:
    """Name the one algorithm that a key signs or verifies with: RS256, ES256 or EdDSA."""
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return "ES256"
    return "EdDSA"


def public_der(key: PublicKey) -> bytes:
    """Write a public key as DER SubjectPublicKeyInfo, the form in which it is kept."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_pem(key: PublicKey) -> bytes:
    """Write a public key as PEM SubjectPublicKeyInfo."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem(key: PrivateKey) -> bytes:
    """Write a private key as unencrypted PKCS#8 PEM: for a file of mode 0600, never for a log."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def thumbprint(public: PublicKey) -> str:
    """Name a key by its content: base64url of SHA-256 over its required members (RFC 7638)."""
    # The members in lexicographic order and no white space are what RFC 7638 section 3 hashes.
    canonical = msgspec.json.encode(_members(public), order="sorted")
    return b64url_encode(hashlib.sha256(canonical).digest())


def jwk(public: PublicKey, kid: str) -> dict[str, str]:
    """Describe a public key as a JSON Web Key for signatures (RFC 7517), named `kid`."""
    return _members(public) | {"use": "sig", "alg": algorithm_of(public), "kid": kid}


def _members(public: PublicKey) -> dict[str, str]:
    """Give the members that make the key, and no others."""
    if isinstance(public, rsa.RSAPublicKey):
        rsa_numbers = public.public_numbers()
        return {"kty": "RSA", "n": _unsigned(rsa_numbers.n), "e": _unsigned(rsa_numbers.e)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        # Coordinates keep their leading zeros (RFC 7518 section 6.2.1.2), RSA numbers have none.
        x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
        return {"kty": "EC", "crv": "P-256", "x": b64url_encode(x), "y": b64url_encode(y)}
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(public.public_bytes_raw())}


def _unsigned(number: int) -> str:
    return b64url_encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _is_private(data: bytes, pem: bool) -> bool:
    if pem:
        return b"PRIVATE KEY-----" in data
    try:
        serialization.load_der_private_key(data, password=None)
    except TypeError:  # it is one, and encrypted
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _is_spki(data: bytes, pem: bool, key: rsa.RSAPublicKey) -> bool:
    """Say whether an RSA key came in the form we take; the library takes the older one as well."""
    return b"-----BEGIN PUBLIC KEY-----" in data if pem else data == public_der(key)


def _checked(key: object) -> PublicKey:
    """Return the key when it is strong enough for us, or raise InvalidInput."""
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
                raise InvalidInput(
                    f"The RSA key has {key.key_size} bits;"
                    f" expected {RSA_BITS_MIN} to {RSA_BITS_MAX}"
                )
            if not RSA_EXPONENT_MIN <= numbers.e <= RSA_EXPONENT_MAX or numbers.e % 2 == 0:
                raise InvalidInput(
                    f"The RSA key's exponent is unsafe;"
                    f" expected an odd one, {RSA_EXPONENT_MIN} to {RSA_EXPONENT_MAX}"
                )
            if numbers.n % 2 == 0:
                raise InvalidInput(
                    "The RSA key's modulus is even, so it is no product of two primes"
                )
        case ec.EllipticCurvePublicKey():
            if not isinstance(key.curve, ec.SECP256R1):
                raise InvalidInput(f"The EC key is on {key.curve.name}; expected P-256 (secp256r1)")
        case ed25519.Ed25519PublicKey():
            pass
        case _:
            raise InvalidInput(f"A key of another kind; expected {_KINDS}")
    return key
