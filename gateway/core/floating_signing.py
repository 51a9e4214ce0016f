"""The signature of LicenseSpring's answers, v2: RSASSA-PKCS1-v1_5 with SHA-256 over the body.

Decided here: what is signed, and which key may sign. Not decided here: where the key is
(store/chain.py), which answers are signed (web/). Source: protocols/licensespring.md 2.2, RFC 8017.
"""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class AnswerSigner:
    """Signs answers with the key of the leaf certificate that clients have. Shows no key."""

    __slots__ = ("_key",)

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key

    def sign(self, body: bytes) -> str:
        """Give base64 of the signature over the very bytes of a body; always the same for them."""
        made = self._key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(made).decode("ascii")
