"""The session of somebody at the pages: what its cookie says, and until when it is good.

Decided here: a cookie is authenticated with a key of its own, derived from the session key, so that
it is never good as a token of an API, nor the other way round; it ends SESSION_S after the log-in,
and IDLE_S after it was last used. Its header is one fixed text, so that nothing in it chooses
anything. Not decided here: what its user may do now (service/admin.py), and which sessions were
ended by logging out (store/ended_sessions.py). Times are seconds. Source: RELIABILITY 3.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Final

import msgspec

from gateway.core.base64url import encode
from gateway.core.sessions import Session, SessionKey, opened, sealed

SESSION_S: Final = 43_200  # 12 hours
IDLE_S: Final = 1_800
RENEWED_S: Final = 60  # a cookie that is younger is not written anew

HEADER: Final = b'{"alg":"HS256","typ":"page"}'

_HEADER_PART: Final = encode(HEADER)
_PURPOSE: Final = b"page session"  # a session token's input to the same MAC has two dots
_TOLD_PART: Final = encode(b'{"alg":"HS256","typ":"told"}')


class PageSession(Session, frozen=True):
    """A verified cookie. `id` stays the same while it is renewed; it is good until `idle_s`."""

    id: str
    idle_s: int


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    sub: str
    iss: str
    iat: int
    exp: int
    idle: int
    sid: str
    roles: str
    xsrf: str


class _Told(msgspec.Struct, forbid_unknown_fields=True):
    sid: str
    text: str


_CLAIMS: Final = msgspec.json.Decoder(_Claims)
_TOLD: Final = msgspec.json.Decoder(_Told)


def begin_page_session(session: Session, session_id: str, now_s: float) -> PageSession:
    """Make a session at the pages of one that a log-in began."""
    ends_s = session.issued_s + SESSION_S
    return PageSession(
        user=session.user,
        instance=session.instance,
        roles=session.roles,
        issued_s=session.issued_s,
        expires_s=ends_s,
        xsrf=session.xsrf,
        id=session_id,
        idle_s=min(ends_s, int(now_s) + IDLE_S),
    )


def renewed(session: PageSession, now_s: float) -> PageSession | None:
    """Give the session as used now; None when that is not worth a new cookie."""
    idle_s = min(session.expires_s, int(now_s) + IDLE_S)
    if idle_s < session.idle_s + RENEWED_S:
        return None
    return msgspec.structs.replace(session, idle_s=idle_s)


def issue_page_session(key: SessionKey, session: PageSession) -> str:
    """Write the cookie of a session, its roles in one order.

    Raises ValueError when it would be over SESSION_BYTES_MAX: no verifier of ours would take it.
    """
    claims = _Claims(
        sub=session.user,
        iss=session.instance,
        iat=session.issued_s,
        exp=session.expires_s,
        idle=session.idle_s,
        sid=session.id,
        roles=",".join(sorted(session.roles)),
        xsrf=session.xsrf,
    )
    return sealed(_HEADER_PART, claims, partial(_mac, key))


def verify_page_session(
    key: SessionKey, text: str | bytes, *, instance: str, now_s: float
) -> PageSession | None:
    """Judge a cookie for the instance `instance`: it is whole, of this instance, and neither over
    nor idle for too long. Never raises.
    """
    payload = opened(_HEADER_PART, text, partial(_mac, key))
    if payload is None:
        return None
    try:
        claims = _CLAIMS.decode(payload)
    except (ValueError, RecursionError):
        return None
    if claims.iss != instance or now_s >= min(claims.exp, claims.idle):
        return None
    return PageSession(
        user=claims.sub,
        instance=claims.iss,
        roles=frozenset(role for role in claims.roles.split(",") if role),
        issued_s=claims.iat,
        expires_s=claims.exp,
        xsrf=claims.xsrf,
        id=claims.sid,
        idle_s=claims.idle,
    )


def write_told(key: SessionKey, session: PageSession, text: str) -> str:
    """Write what the next page of a session says once. Raises ValueError when it is too long."""
    return sealed(_TOLD_PART, _Told(session.id, text), partial(_mac, key))


def read_told(key: SessionKey, session: PageSession, text: str) -> str:
    """Read what `write_told` wrote for this session; empty for any other text. Never raises."""
    payload = opened(_TOLD_PART, text, partial(_mac, key))
    try:
        told = None if payload is None else _TOLD.decode(payload)
    except (ValueError, RecursionError):
        return ""
    return told.text if told is not None and told.sid == session.id else ""


def _mac(key: SessionKey, data: bytes) -> bytes:
    return hmac.digest(key.mac(_PURPOSE), data, "sha256")
