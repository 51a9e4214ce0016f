"""Passwords of administrators: hashed with Scrypt, compared in constant time.

Decided here: the function, its cost, the one text a hash is kept as, and which passwords are taken.
The work of a refusal does not depend on whether there was a hash: where there is none, DECOY is
tried in its place and confirms nothing. Not decided here: how often one may try (service/admin.py).
The salt is an argument. No error holds a password or a hash.
Source: protocols/cmapi.md 7.1, RFC 7914.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.core.base64url import b64url_decode, b64url_encode
from gateway.core.errors import InvalidInput

PASSWORD_BYTES_MIN: Final = 8
PASSWORD_BYTES_MAX: Final = 1_024
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
COST_N: Final = 2**15  # with r = 8: 32 MiB and some 70 ms, less than which nobody guesses either
COST_R: Final = 8
COST_P: Final = 1

# What a kept hash may ask of us: a record from elsewhere must not take the memory of this process.
N_MIN: Final = 2**14
N_MAX: Final = 2**17  # 128 MiB
P_MAX: Final = 4
# HMAC, inside Scrypt, fills its key up with NULs: "secret" and "secret\0" would be one password.
_NUL: Final = b"\0"
_TEXT: Final = re.compile(r"scrypt\$([1-9][0-9]{0,6})\$8\$([1-4])\$([\w-]{22,86})\$([\w-]{43})")


class _Kept(msgspec.Struct, frozen=True):
    """A hash taken apart. `n`, `p` are Scrypt's cost and parallelism; its r is COST_R."""

    n: int
    p: int
    salt: bytes
    digest: bytes


def hash_password(password: bytes, salt: bytes) -> str:
    """Hash a new password to `scrypt$<n>$<r>$<p>$<salt>$<hash>`, the last two in base64url.

    `salt` is SALT_BYTES fresh random bytes. Raises InvalidInput for a password under
    PASSWORD_BYTES_MIN or over PASSWORD_BYTES_MAX bytes, that is not UTF-8 or holds a NUL,
    ValueError for a salt of another length. Takes some 70 ms of one core and 32 MiB.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    if not PASSWORD_BYTES_MIN <= len(password) <= PASSWORD_BYTES_MAX:
        raise InvalidInput(
            f"A password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes,"
            f" not {len(password)}"
        )
    try:
        password.decode()
    except UnicodeDecodeError:
        # It could never be sent: it comes as a JSON text. `from None`: that error quotes it.
        raise InvalidInput("A password must be UTF-8") from None
    if _NUL in password:
        raise InvalidInput("A password holds no NUL")
    digest = _scrypt(COST_N, COST_P, salt).derive(password)
    costs = f"scrypt${COST_N}${COST_R}${COST_P}"
    return f"{costs}${b64url_encode(salt)}${b64url_encode(digest)}"


def verify_password(kept: str, password: bytes) -> bool:
    """Say whether `kept` is a hash of `password`.

    A text that is no hash of ours, or asks for more than the bounds above, is answered like a wrong
    password and after the same work. The comparison takes constant time. Never raises.
    """
    parts = _parts(kept)
    genuine = parts is not None
    if parts is None:
        parts = _DECOY_PARTS
    try:
        _scrypt(parts.n, parts.p, parts.salt).verify(password, parts.digest)
    except InvalidKey:
        return False
    # What is out of bounds is hashed all the same, so that its refusal is like any other.
    fits = len(password) <= PASSWORD_BYTES_MAX and _NUL not in password
    return genuine and fits and kept != DECOY


def _scrypt(n: int, p: int, salt: bytes) -> Scrypt:
    return Scrypt(salt=salt, length=HASH_BYTES, n=n, r=COST_R, p=p)


def _parts(kept: str) -> _Kept | None:
    """Take a hash apart, or None when it is not exactly one within the bounds."""
    found = _TEXT.fullmatch(kept) if kept.isascii() else None
    if found is None:
        return None
    n, p = int(found[1]), int(found[2])
    salt, digest = b64url_decode(found[3]), b64url_decode(found[4])
    if not N_MIN <= n <= N_MAX or n & (n - 1) or p > P_MAX or salt is None or digest is None:
        return None
    return _Kept(n, p, salt, digest)


def _digest_of(part: str) -> bytes:
    return hashlib.sha256(f"no user's password, {part}".encode()).digest()


# The hash that is tried where there is no user. Nobody's: that some password gave just this digest
# would be an accident of 2**-256, and it is refused even then.
_DECOY_PARTS: Final = _Kept(COST_N, COST_P, _digest_of("salt")[:SALT_BYTES], _digest_of("hash"))
DECOY: Final = "$".join(
    ["scrypt", str(COST_N), str(COST_R), str(COST_P)]
    + [b64url_encode(part) for part in (_DECOY_PARTS.salt, _DECOY_PARTS.digest)]
)
