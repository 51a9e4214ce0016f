"""The keys of one instance, loaded once and ready to say who signed.

Decided here: which keys are tried for a JWS, and that refusing costs the same whatever the reason.
Which instance exists, and which keys it has, must not show in the time of a 401: where there is no
key to try, a stand-in is tried in its place and its answer is always no. An instance that does not
exist is an empty ring. Equal cost holds for RSA keys of 2048 bits, the size CMAPI names; a longer
key takes longer.
Source: SEMANTICS 10, RELIABILITY 3 items 5 and 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.core.errors import InvalidInput
from gateway.core.jws import Parsed, verify
from gateway.core.keys import PublicKey, algorithm_of, load_public
from gateway.core.model import RS256_KEYS_MAX, Key


class RingKey(msgspec.Struct, frozen=True, eq=False):
    """A loaded key of an instance; a stand-in (not `genuine`) is nobody's and confirms nothing."""

    kid: str
    alg: str
    public: PublicKey
    forwarder: bool = False
    genuine: bool = True
    until_s: float | None = None  # not in force from this moment on

    def confirms(self, now_s: float) -> bool:
        """Say whether a signature of this key is worth anything now."""
        return self.genuine and (self.until_s is None or now_s < self.until_s)


class KeyRing:
    """The keys of one instance; empty for an instance that does not exist.

    Raises InvalidInput, all problems at once, for a key that is damaged or weak, does not fit its
    `alg`, a kid given twice, or more than RS256_KEYS_MAX keys of RS256.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_kid: dict[str, RingKey] = {}
        problems: list[str] = []
        for key in keys:
            try:
                loaded = _load(key)
            except InvalidInput as error:
                problems += (f"key {key.kid}: {problem}" for problem in error.problems)
                continue
            if key.kid in self._by_kid:
                problems.append(f"key {key.kid}: this kid is given twice")
            self._by_kid[key.kid] = loaded
        self._rs256 = tuple(key for key in self._by_kid.values() if key.alg == "RS256")
        if len(self._rs256) > RS256_KEYS_MAX:
            problems.append(f"at most {RS256_KEYS_MAX} RS256 keys may be in force at once")
        if problems:
            raise InvalidInput(*problems)
        # Always as many as there may be, or the time of a refusal would tell how many there are.
        missing = RS256_KEYS_MAX - len(self._rs256)
        self._without_kid = self._rs256 + (stand_in("RS256"),) * missing

    def by_kid(self, kid: str) -> RingKey | None:
        """Find a key by its name, or None."""
        return self._by_kid.get(kid)

    def rs256(self) -> tuple[RingKey, ...]:
        """List the RS256 keys, at most RS256_KEYS_MAX, in the order they were given."""
        return self._rs256

    def signer(self, parsed: Parsed, *, now_s: float) -> RingKey | None:
        """Say which key of this ring, in force at `now_s`, signed; or None.

        With `kid` in the header only that key is tried, and only if its record has the header's
        `alg`; without it the RS256 keys are. The work of a refusal depends on the JWS alone, not on
        this ring: a key that is no longer in force is tried like any other, and confirms nothing.
        """
        header = parsed.header
        if "kid" in header:
            candidates: tuple[RingKey, ...] = (self._named(header["kid"], header["alg"]),)
        elif header["alg"] == "RS256":
            candidates = self._without_kid
        else:
            return None
        for key in candidates:
            if verify(parsed, key.alg, key.public) and key.confirms(now_s):
                return key
        return None

    def _named(self, kid: object, alg: str) -> RingKey:
        key = self._by_kid.get(kid) if isinstance(kid, str) else None
        return key if key is not None and key.alg == alg else stand_in(alg)


@cache
def stand_in(alg: str) -> RingKey:
    """Give the key that is tried where there is none: RS256 (2048 bits), ES256 or EdDSA.

    Made from fixed hashes, so that it costs no start-up time; no secret, since it confirms nothing.
    """
    public: PublicKey
    if alg == "RS256":
        # Two top bits set as in a product of two 1024-bit primes. Its factors are not known.
        modulus = int.from_bytes(b"".join(_digest(alg, part) for part in range(8)), "big")
        public = rsa.RSAPublicNumbers(65_537, modulus | 3 << 2046 | 1).public_key()
    elif alg == "ES256":
        scalar = int.from_bytes(_digest(alg, 0), "big") >> 1  # surely below the order of the curve
        public = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    else:
        public = ed25519.Ed25519PrivateKey.from_private_bytes(_digest(alg, 0)).public_key()
    return RingKey(kid="", alg=alg, public=public, genuine=False)


def _digest(alg: str, part: int) -> bytes:
    return hashlib.sha256(f"stand-in {alg} {part}".encode()).digest()


def _load(key: Key) -> RingKey:
    public = load_public(key.public)
    alg = algorithm_of(public)
    if alg != key.alg:
        raise InvalidInput(f"its record says {key.alg}, the key is one for {alg}")
    until_s = None if key.until_ms is None else key.until_ms / 1000
    return RingKey(kid=key.kid, alg=alg, public=public, forwarder=key.forwarder, until_s=until_s)
