"""What browsers are told and asked beside a page: cookies, policies, where a form comes from.

Decided here: that a cookie is for one instance's pages, kept from scripts, and under TLS sent by no
other way; that a page is framed by nobody and runs what this gateway has, and no more; that a form
which a browser says comes from elsewhere is not taken. Not decided here: what a cookie says
(core/page_sessions.py). Source: RELIABILITY 3, OWASP ASVS 5, Fetch Metadata, RFC 6454.
"""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Final

from starlette.types import Scope

from gateway.core.errors import Forbidden

SESSION_COOKIE: Final = "gateway_session"
TOLD_COOKIE: Final = "gateway_told"
REFRESH: Final = b"gateway-refresh"  # a header: nobody asked for this page, a script did
FILE_NAME_MAX: Final = 128

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SAFE: Final = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    # Not none: a browser would then send forms as from nowhere.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


def check_origin(scope: Scope) -> None:
    """Raise Forbidden for a form that a browser says comes from a page of somebody else.

    Browsers leave out Sec-Fetch-Site where there is no TLS; then Origin has to be our own host. A
    client that says neither is no browser, and nobody can make it send a form.
    """
    headers = dict(scope["headers"])
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        if site not in (b"same-origin", b"none"):
            raise Forbidden("This form comes from another site", "sec-fetch-site")
        return
    origin = headers.get(b"origin")
    if (
        origin is not None
        and origin.lower().partition(b"://")[2] != headers.get(b"host", b"").lower()
    ):
        raise Forbidden(
            "This form comes from another site, or a proxy in between changed the Host header",
            "origin",
        )


def content_type_of(scope: Scope) -> str:
    """Give the media type of a form, with its parameters."""
    found: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return found.decode("latin-1")


def cookie_of(scope: Scope, name: str) -> str:
    """Give a cookie; empty when there is none. Of a repeated one the first counts: browsers send
    that of the longest path first.
    """
    for header, value in scope["headers"]:
        if header == b"cookie":
            pairs: list[str] = value.decode("latin-1").split(";")
            for pair in pairs:
                key, _, text = pair.strip().partition("=")
                if key == name:
                    return text.strip('"')
    return ""


def cookie(
    scope: Scope, name: str, value: str, path: str, *, seconds: int | None = None
) -> tuple[bytes, bytes]:
    """Write a cookie for a path, which ends with the browser or after some seconds."""
    jar: SimpleCookie = SimpleCookie()
    jar[name] = value
    morsel = jar[name]
    morsel["path"], morsel["httponly"], morsel["samesite"] = path, True, "Lax"
    if scope.get("scheme") == "https":
        morsel["secure"] = True
    if seconds is not None:
        morsel["max-age"] = seconds
    return b"set-cookie", morsel.OutputString().encode()


def file_name(text: str) -> str:
    """Give a name for a file on any disk, which ends no header: what is unsafe becomes a dash."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")
    return plain[-FILE_NAME_MAX:] or "download"
