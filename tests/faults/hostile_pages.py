"""Hostile requests to the pages: odd queries, forms that are none, cookies of nobody.

Decided here: what is asked of which page, how it is spoiled, and what may come back. Nothing that
is sent fits a user, a key, a batch or a file that there is: what a sound form does is its page's
tests'. Not decided here: how a session begins (hostile_site.py).
"""

from __future__ import annotations

from random import Random
from typing import Final
from urllib.parse import quote_from_bytes

from tests.faults import hostile_values
from tests.faults.hostile_http import Input, request
from tests.faults.hostile_site import DESK, Site
from tests.web.ui.pages import PLACES

BASE: Final = f"/ui/instances/{DESK}"
FORM: Final = "application/x-www-form-urlencoded"
PARTS: Final = "multipart/form-data"
_NAMES: Final = (
    *("id", "q", "page", "sort", "host", "line", "feature", "period", "from", "to", "view"),
    *("format", "kid", "name", "address", "action", "reason", "seen", "upstream", "password"),
    *("roles", "file", "text", "timezone", "confirm", "all", "show", "waiting", "product"),
)
_WORDS: Final = (
    *("", "0", "-1", "1e9", "9" * 40, "today", "last-year", "2026-02-30", "0000-00-00", "csv"),
    *("json", "L1", "../L1", "string:h1", "ROLE_ADMIN", "x" * 201, "<script>alert(1)</script>"),
    *('"><img src=x onerror=alert(1)>', "a\r\nSet-Cookie: a=b", "\u202e", "{{7*7}}", "%00"),
)
_ASKED: Final = tuple(each.path for each in PLACES if not each.deed)
_DONE: Final = tuple(each.path for each in PLACES if each.deed and each.path != "logout")
_INSIDE: Final = frozenset({200, 303, 400, 404, 409, 422})


def page(draw: Random, number: int, site: Site) -> Input:
    """A page or a deed, odd; now and then by nobody, or with a form of somebody else."""
    if draw.randrange(3):
        target = f"{BASE}/{draw.choice(_ASKED)}?{_pairs(draw).decode()}"
        if draw.randrange(4):
            raw = request("GET", target, {"Cookie": f"gateway_session={site.cookie}"})
            return Input(number, "page", raw, _INSIDE, True)
        raw = request("GET", target, {"Cookie": _cookie(draw, site)})
        return Input(number, "page, nobody", raw, frozenset({303}))
    target = f"{BASE}/{draw.choice(_DONE)}"
    pairs = _pairs(draw)
    kind, body = draw.choice(((FORM, pairs), (f"{PARTS}; boundary=x", _parts(draw))))
    if draw.randrange(6) == 0:
        place = draw.randrange(len(body) + 1)
        body = body[:place] + draw.choice((b"", b"\0", b"\xff", b"\r\n--x", b"&" * 600))
    headers: dict[str, str | bytes] = {"Content-Type": kind, "Cookie": _cookie(draw, site)}
    match draw.randrange(4):
        case 0:
            raw = request("POST", target, headers, body)
            return Input(number, "deed, nobody", raw, frozenset({303}))
        case 1:
            headers["Cookie"] = f"gateway_session={site.cookie}"
            headers["Sec-Fetch-Site"] = draw.choice(("cross-site", "same-site", "", "x"))
            raw = request("POST", target, headers, b"xsrf=" + site.xsrf.encode())
            return Input(number, "deed, elsewhere", raw, frozenset({403}))
        case 2:
            headers["Cookie"] = f"gateway_session={site.cookie}"
            raw = request("POST", target, headers, body)
            return Input(number, "deed, no word", raw, frozenset({400, 403, 415}))
        case _:
            headers["Cookie"] = f"gateway_session={site.cookie}"
            headers["Content-Type"] = FORM
            raw = request("POST", target, headers, pairs + b"&xsrf=" + site.xsrf.encode())
            return Input(number, "deed", raw, _INSIDE, True)


def way_in(draw: Random, number: int, site: Site) -> Input:
    """The log-in page with anything in its address; and paths that lead nowhere, by any method."""
    if draw.randrange(2):
        raw = request("GET", f"/ui/login?{_pairs(draw, ('instance', 'next', 'over')).decode()}", {})
        return Input(number, "page, login", raw, frozenset({200}), True)
    text = quote_from_bytes(draw.choice(hostile_values.TEXTS).encode() or b"x", safe="")
    path = draw.choice(
        (f"/ui/{text}", f"{BASE}/{text}", f"/ui/files/{text}/style.css", "/ui/files")
    )
    method = draw.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"))
    raw = request(method, path, {})
    # A newline at the end of a path is none to the router: that is a page, for somebody else.
    return Input(number, "page, nowhere", raw, frozenset({303, 404, 405}))


def _pairs(draw: Random, names: tuple[str, ...] = _NAMES) -> bytes:
    """Write members, percent-encoded, some of them rightly."""
    found = []
    for _ in range(draw.choice((1, 1, 2, 4))):
        value = draw.choice(_WORDS).encode() if draw.randrange(3) else draw.randbytes(8)
        text = quote_from_bytes(value, safe=draw.choice(("", "/", "~{}|")))
        text = draw.choice((text, text, text, text + "%", "%zz" + text))
        found.append(f"{draw.choice(names)}={text}")
    return "&".join(found).encode()


def _parts(draw: Random) -> bytes:
    """Write members as parts, the last of which may be a file, or not end."""
    found = b""
    for _ in range(draw.choice((0, 1, 3))):
        name = draw.choice((*_NAMES, "xsrf", 'a"b', ""))
        more = draw.choice(("", '; filename="x"', "; filename*=utf-8''x", "\r\nX: y"))
        value = draw.choice(_WORDS).encode() if draw.randrange(3) else draw.randbytes(40)
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        found += head.encode() + value + b"\r\n"
    return found + draw.choice((b"--x--\r\n", b"--x--", b"--x", b""))


def _cookie(draw: Random, site: Site) -> str | bytes:
    """Give a cookie that is nobody's."""
    place = draw.randrange(len(site.cookie))
    other = "A" if site.cookie[place] != "A" else "B"
    changed = site.cookie[:place] + other + site.cookie[place + 1 :]
    return draw.choice(
        (
            f"gateway_session={changed}",
            f"gateway_session={site.session}",
            f"gateway_session={site.floating}",
            f"gateway_told={site.cookie}",
            "gateway_session=",
            "gateway_session",
            b"gateway_session=\xff\xfe",
            "=; ;;",
            "gateway_session=" + "x" * 5_000,
        )
    )
