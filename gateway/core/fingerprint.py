"""When two requests mean the same, and under which name an idempotency id is kept.

Decided here: what of a request counts for "same meaning", and its canonical encoding. Not decided
here: which id a request has, and what is done on a match or a mismatch (ledger.py). The encoding
outlives a deployment: change it, and retries that cross the upgrade are refused as mismatches; a
test pins its bytes. Source: SEMANTICS 9.
"""

from __future__ import annotations

import base64
import hashlib
import re
from operator import itemgetter
from typing import Final

import msgspec

from gateway.core.model import AccessRequest
from gateway.core.versions import canonical_version

FINGERPRINT_BYTES: Final = 16
ID_BYTES_MAX: Final = 255  # of an idempotency id, as a client sends it

_VISIBLE: Final = re.compile(rf"[!-~]{{1,{ID_BYTES_MAX}}}")
_BY_KEY: Final = itemgetter(0)
# msgpack, because every value carries its kind and its length: no two meanings share an encoding,
# and "1" is not 1.
_encode: Final = msgspec.msgpack.Encoder().encode


def fingerprint(request: AccessRequest) -> bytes:
    """Give FINGERPRINT_BYTES bytes, equal for requests of the same meaning and for no others.

    `request` is normalised: each feature and version once, units summed. Host, units by name and
    version, flags, interval, selectors and vendor dictionary count; order, spelling and correlation
    id do not. Pure.
    """
    meaning = (
        request.host.canonical,
        request.incremental,
        request.partial,
        request.interval_s,
        sorted(
            [(want.name, canonical_version(want.version), want.count) for want in request.wants]
        ),
        sorted(request.selectors.items()) if request.selectors else (),
        # By key alone: keys are unique, and a text does not compare with an integer.
        sorted(request.vendor.items(), key=_BY_KEY) if request.vendor else (),
    )
    return hashlib.sha256(_encode(meaning)).digest()[:FINGERPRINT_BYTES]


def dedupe_id(instance: str, idempotency_id: str) -> str:
    """Give the 22 characters that name an idempotency id of an instance in the store.

    Hashed, so that a client chooses neither the length nor the characters of a key; 128 bits, so
    that ids do not meet by chance. Neither argument may contain U+001F, which separates them. Pure.
    """
    digest = hashlib.sha256(f"{instance}\x1f{idempotency_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def visible_ascii(text: str) -> bool:
    """Say whether a text can be an idempotency id: 1 to ID_BYTES_MAX characters from `!` to `~`."""
    return _VISIBLE.fullmatch(text) is not None
