"""RSA signatures and X.509 chains checked with whole numbers alone: no library of the gateway's.

Decided here: what `LicenseSignature` and a chain must be for clients to take them. The arithmetic
is RFC 8017's: a signature to the power of e is the padded digest. DER is read as far as a
certificate of RSA keys needs it. Source: protocols/licensespring.md 2.2, RFC 5280, RFC 8017.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_BASIC_CONSTRAINTS = bytes.fromhex("0603551d13")
_EXTENDED_USAGE = bytes.fromhex("0603551d25")
_SERVER_AUTH = bytes.fromhex("06082b06010505070301")
_TRUE = bytes.fromhex("0101ff")


class Rsa(NamedTuple):
    """A public key."""

    n: int
    e: int

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Say whether this is RSASSA-PKCS1-v1_5 with SHA-256 over the very bytes of a content."""
        size = (self.n.bit_length() + 7) // 8
        if len(signature) != size:
            return False
        digest = _SHA256_INFO + hashlib.sha256(content).digest()
        padded = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
        return pow(int.from_bytes(signature, "big"), self.e, self.n).to_bytes(size, "big") == padded


class Certificate(NamedTuple):
    """What clients look at of a certificate."""

    signed: bytes  # what its issuer signed
    signature: bytes
    issuer: bytes
    subject: bytes
    key: Rsa
    authority: bool
    usage: bytes | None  # the extended one


def read_chain(pem: str) -> list[Certificate]:
    """Read the certificates of a PEM file, in their order."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem, re.S)
    return [_certificate(base64.b64decode("".join(each.split()))) for each in found]


def problems_of(chain: list[Certificate]) -> list[str]:
    """List what a client would not take of a chain: leaf, intermediate, root."""
    found = []
    if len(chain) != 3:
        return [f"{len(chain)} certificates"]
    leaf, middle, root = chain
    for name, issued, issuer in (
        ("leaf", leaf, middle),
        ("middle", middle, root),
        ("root", root, root),
    ):
        if issued.issuer != issuer.subject:
            found.append(f"{name} names another issuer")
        if not issuer.key.verifies(issued.signature, issued.signed):
            found.append(f"{name} is not signed by the next one")
    if leaf.authority or not middle.authority or not root.authority:
        found.append("the leaf alone is no authority")
    if leaf.usage is not None and _SERVER_AUTH not in leaf.usage:
        found.append("the leaf is not for servers")
    found += [
        f"{each.key.n.bit_length()} bits" for each in chain if each.key.n.bit_length() != 2048
    ]
    return found


def _certificate(der: bytes) -> Certificate:
    (whole,) = _parts(der)
    signed, _, signature = _parts(whole.content)
    members = [each for each in _parts(signed.content) if each.tag != 0xA0]  # the version
    _, _, issuer, _, subject, key, *rest = members
    extensions = next((each for each in rest if each.tag == 0xA3), None)
    found = {} if extensions is None else _extensions(extensions.content)
    return Certificate(
        signed.whole,
        signature.content[1:],  # after the number of unused bits
        issuer.whole,
        subject.whole,
        _key(key),
        _TRUE in found.get(_BASIC_CONSTRAINTS, b""),
        found.get(_EXTENDED_USAGE),
    )


class _Part(NamedTuple):
    tag: int
    content: bytes
    whole: bytes


def _parts(der: bytes) -> list[_Part]:
    return list(_walk(der))


def _walk(der: bytes) -> Iterator[_Part]:
    at = 0
    while at < len(der):
        start, tag, size = at, der[at], der[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(der[at : at + count], "big")
            at += count
        yield _Part(tag, der[at : at + size], der[start : at + size])
        at += size


def _key(info: _Part) -> Rsa:
    _, bits = _parts(info.content)
    (numbers,) = _parts(bits.content[1:])
    n, e = _parts(numbers.content)
    return Rsa(int.from_bytes(n.content, "big"), int.from_bytes(e.content, "big"))


def _extensions(der: bytes) -> dict[bytes, bytes]:
    (listed,) = _parts(der)
    found = {}
    for extension in _parts(listed.content):
        name, *_, value = _parts(extension.content)
        found[name.whole] = value.content
    return found
