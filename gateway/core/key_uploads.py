"""The licensing key that CMAPI uploads: one at a time, in the place of the one before it.

Decided here: which bytes are such a key, and what an upload and a removal make of a catalogue. Keys
that came another way (`keys add`, a provisioning file) are left alone by both. A repeat of an
upload changes nothing more. Not decided here: who may upload (service/licensing_keys.py).
Source: protocols/cmapi.md 3.2, 7.1 and Q17.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.structs import replace

from gateway.core.errors import BadRequest, InvalidInput, InvalidPublicKey
from gateway.core.keys import load_public, public_der, thumbprint
from gateway.core.model import RS256_KEYS_MAX, Catalogue, Key

OVERLAP_MS_MAX: Final = 30 * 86_400_000


def licensing_key(der: bytes, kid: str | None = None) -> Key:
    """Read an upload: an RSA public key of 2048 to 8192 bits, DER SubjectPublicKeyInfo.

    `kid` is 1 to 255 visible ASCII; without it the key is named by its RFC 7638 thumbprint. Raises
    InvalidPublicKey.
    """
    try:
        public = load_public(der)
    except InvalidInput:
        raise InvalidPublicKey from None
    # `load_public` takes PEM and other kinds as well; CMAPI's door has one form.
    if not isinstance(public, rsa.RSAPublicKey) or public_der(public) != der:
        raise InvalidPublicKey
    return Key(kid or thumbprint(public), "RS256", der, uploaded=True)


def with_upload(
    catalogue: Catalogue, key: Key, *, named: bool, overlap_ms: int, now_ms: int
) -> Catalogue:
    """Put an uploaded key in the place of those uploaded before, which hold `overlap_ms` longer.

    None of those holds longer than it did already; with an overlap of 0 they are gone. A key that
    is here already and came another way stays as it is. `named`: the client chose the kid. Raises
    BadRequest when the kid is another key's, the key has another kid, or more than RS256_KEYS_MAX
    keys would be in force. Pure.
    """
    others, earlier = [], []
    for each in without_lapsed(catalogue, now_ms).keys:
        if not each.uploaded:
            others.append(each)
        elif each.public != key.public and overlap_ms > 0:
            until_ms = now_ms + overlap_ms
            if each.until_ms is not None:
                until_ms = min(each.until_ms, until_ms)
            earlier.append(replace(each, until_ms=until_ms))
    here = next((each for each in others if each.public == key.public), None)
    if here is None:
        if any(each.kid == key.kid for each in (*others, *earlier)):
            raise BadRequest("Another key has this kid; choose another one", "kid")
        others.append(key)
    elif named and here.kid != key.kid:
        raise BadRequest("This key was added another way, under another kid", "kid")
    keys = (*others, *earlier)
    if sum(each.alg == "RS256" for each in keys) > RS256_KEYS_MAX:
        raise BadRequest(
            f"Over {RS256_KEYS_MAX} RS256 keys would be in force; upload without an overlap, or"
            " revoke one",
            "overlap",
        )
    # In the order of kids, as provisioning keeps them: the same content is the same catalogue.
    return replace(catalogue, keys=tuple(sorted(keys, key=lambda each: each.kid)))


def without_uploads(catalogue: Catalogue) -> Catalogue:
    """Remove every uploaded key, also one that still holds for an overlap. Pure."""
    return replace(catalogue, keys=tuple(key for key in catalogue.keys if not key.uploaded))


def without_lapsed(catalogue: Catalogue, now_ms: int) -> Catalogue:
    """Remove the keys that are no longer in force, which only take the place of others. Pure."""
    keys = (key for key in catalogue.keys if key.until_ms is None or now_ms < key.until_ms)
    return replace(catalogue, keys=tuple(keys))
