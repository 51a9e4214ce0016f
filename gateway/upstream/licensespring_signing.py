"""How calls to the LicenseSpring cloud are signed, and how its answers are verified. Pure.

Decided here: the Authorization header over a Date, and the RSA signature over an answer's bytes.
The body of a call is not signed: what a signature grants is any call, for as long as its Date is
good. Not decided here: which Date that is (licensespring_calls.py).
Source: protocols/licensespring.md 2.2 and 3.1, with the published test vector.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

DATE_GOOD_MS: Final = 15 * 60_000  # so far may a Date be from the cloud's clock, to either side
SIGNATURE_CHARS_MAX: Final = 2_048  # of RSA keys of up to 8192 bits about 1,370


def authorization(api_key: str, shared_key: str, date: str) -> str:
    """Give the Authorization header for a call that carries this Date header."""
    signed = f"licenseSpring\ndate: {date}".encode()
    digest = hmac.new(shared_key.encode(), signed, hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode("ascii")
    return f'algorithm="hmac-sha256",headers="date",signature="{signature}",apiKey="{api_key}"'


def http_date(at_ms: int) -> str:
    """Write a moment as a Date header, RFC 7231, in whole seconds, rounded down."""
    return formatdate(at_ms // 1_000, usegmt=True)


def read_http_date(text: str) -> int | None:
    """Read a Date header in ms; None for what is none."""
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000
    except (ValueError, TypeError, OverflowError):
        return None


def is_signed(body: bytes, signature: str, key: rsa.RSAPublicKey) -> bool:
    """Say whether these very bytes were signed with the key: RSA PKCS #1 v1.5 over SHA-256."""
    if len(signature) > SIGNATURE_CHARS_MAX:
        return False
    try:
        key.verify(base64.b64decode(signature, validate=True), body, padding.PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
