"""CMAPI's administration on the wire: the log-in and its token, the upload of a licensing key.

Decided here: which bodies and queries are read, and how answers are spelled. Not decided here: who
may ask and what becomes of it (service/), whether bytes are a key (core/key_uploads.py). No error
repeats a password. Source: protocols/cmapi.md 3.2, 3.3, 7.1 and Q17.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.fingerprint import visible_ascii
from gateway.core.intervals import parse_duration_ms
from gateway.core.key_uploads import OVERLAP_MS_MAX
from gateway.core.moments import iso
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.objects import read_object
from gateway.protocols.queries import read_query

USER_BYTES_MAX: Final = 255  # of a name as sent; one that exists has at most 64


class Login(msgspec.Struct, frozen=True):
    """The body of `/authorize`. Its repr does not hold the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


class Upload(msgspec.Struct, frozen=True):
    """The query of a key upload. `overlap_ms` 0: the key before it is gone at once."""

    kid: str | None = None
    overlap_ms: int = 0


def decode_login(body: bytes) -> Login:
    """Read `{"user", "password"}`, other members being unknown. Raises BadRequest. Pure."""
    decoded = read_object(body)
    return Login(
        _text(decoded, "user", USER_BYTES_MAX), _text(decoded, "password", PASSWORD_BYTES_MAX)
    )


def encode_session(token: str, expires_s: int) -> bytes:
    """Write the answer to a log-in: `{"expires", "token"}`."""
    return msgspec.json.encode({"expires": iso(expires_s * 1000), "token": token})


def decode_upload(query: bytes) -> Upload:
    """Read `kid` and `overlap` of a key upload's query, each once; others are unknown.

    An overlap is spelled like a `borrow-interval`, at most OVERLAP_MS_MAX. Raises BadRequest. Pure.
    """
    found = read_query(query, ("kid", "overlap"))
    kid = found.get("kid")
    if kid is not None and not visible_ascii(kid):
        raise BadRequest("kid must be 1 to 255 visible ASCII characters", "kid")
    overlap_ms = parse_duration_ms(found.get("overlap", "0"))
    if overlap_ms is None or overlap_ms > OVERLAP_MS_MAX:
        days = OVERLAP_MS_MAX // 86_400_000
        raise BadRequest(f"overlap must be a duration such as 1h, at most {days}d", "overlap")
    return Upload(kid, overlap_ms)


def encode_licensing_key(der: bytes) -> bytes:
    """Write the answer to a key upload: `{"publicKey": base64 of the DER}`."""
    return msgspec.json.encode({"publicKey": base64.b64encode(der).decode("ascii")})


def _text(members: dict[str, Any], name: str, bytes_max: int) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= bytes_max:
        raise BadRequest(f"{name} must be a text of 1 to {bytes_max} bytes", name)
    return value
