"""base64url as RFC 7515 writes it: no padding, and one text for each sequence of bytes.

Decided here: what is a base64url text. Python's own decoders skip foreign characters, stop at
padding and drop stray bits, so that many texts mean the same bytes; here all but one are refused.
Source: RFC 4648 sections 3.5 and 5, RFC 7515 section 2, RELIABILITY 3 item 4.
"""

from __future__ import annotations

import binascii
from typing import Final

_STANDARD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL_SAFE: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
# All that is foreign, "+", "/" and "=" included, becomes "!", which the strict decoder refuses.
_TO_STANDARD: Final = bytes(
    _STANDARD[_URL_SAFE.index(byte)] if byte in _URL_SAFE else ord("!") for byte in range(256)
)

_PADDING: Final = (b"", None, b"==", b"=")  # by length modulo 4; no text has the length 4k + 1
# The last character of a short group carries 4 or 2 bits that belong to no byte; they are 0.
_LAST: Final = (_URL_SAFE, b"", _URL_SAFE[::16], _URL_SAFE[::4])


def b64url_encode(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return encode(data).decode("ascii")


def encode(data: bytes) -> bytes:
    """Write bytes as base64url without padding, as ASCII bytes."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL_SAFE).rstrip(b"=")


def b64url_decode(text: str | bytes) -> bytes | None:
    """Read base64url without padding, or None for any text that `b64url_encode` does not write.

    Refused: padding, white space, the standard alphabet, a length of 4k + 1, and non-zero trailing
    bits. Never raises.
    """
    if isinstance(text, str):
        if not text.isascii():
            return None
        text = text.encode("ascii")
    group = len(text) % 4
    padding = _PADDING[group]
    if padding is None or (text and text[-1] not in _LAST[group]):
        return None
    try:
        return binascii.a2b_base64(text.translate(_TO_STANDARD) + padding, strict_mode=True)
    except binascii.Error:
        return None
