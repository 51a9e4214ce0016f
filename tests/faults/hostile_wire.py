"""Hostile HTTP: heads that are odd, lengths that lie, targets that are not paths, noise.

Decided here: which oddity is harmless and what it is then answered, and which must never let
anybody in. What is nobody's request has no credential, in none of the requests that could be read
out of it: whatever way it is taken apart, no answer may be a 2xx.
"""

from __future__ import annotations

import json
from random import Random
from typing import Final

from tests.faults.hostile_doors import JSON, _counts, honest
from tests.faults.hostile_http import SILENCE, Input, request
from tests.faults.hostile_site import BASE, HOSTILE, Site

REFUSED: Final = frozenset({400, 401, 403, 404, 405, 408, 413, 415, 426, 431, SILENCE})
PATH: Final = f"{BASE}/{HOSTILE}/access_request"

# A header laid over an honest request, and the status that it is answered with.
_HEADERS: Final[tuple[tuple[str, str, int], ...]] = (
    ("Content-Type", "application/json; charset=utf-8", 200),
    ("Content-Type", "APPLICATION/JSON", 200),
    ("Content-Type", "application/json;" + "x" * 9_000, 200),
    ("Content-Type", "application/jose", 401),
    ("Content-Type", "application/jose+json", 415),
    ("Content-Type", "text/plain", 415),
    ("Content-Type", "multipart/form-data; boundary=" + "-" * 9_000, 415),
    ("Content-Type", "application/x-www-form-urlencoded", 415),
    ("Content-Type", "\x80\xff", 415),
    ("Content-Encoding", "gzip", 415),
    ("Content-Encoding", "identity", 415),
    ("Content-Encoding", "", 415),
    ("Transfer-Encoding", "chunked", 400),  # besides a length
    ("Transfer-Encoding", "gzip, chunked", 400),
    ("Transfer-Encoding", "identity", 400),
    ("Transfer-Encoding", "xchunked", 400),
    ("Content-Length", "-1", 400),
    ("Content-Length", "+1", 400),
    ("Content-Length", "0x10", 400),
    ("Content-Length", "1, 2", 400),
    ("Content-Length", "9" * 30, 400),
    ("Content-Length", "\xb2", 400),
    ("Content-Length", "100000", 413),
    ("Content-Length", "0", 400),  # no body; what follows is no request
    ("Idempotency-Key", "", 400),
    ("Idempotency-Key", "a b", 400),
    ("Idempotency-Key", "x" * 256, 400),
    ("Idempotency-Key", "\xe9", 400),
    ("Idempotency-Key", "a\tb", 400),
    ("Host", "a\x7f", 200),
    ("Host", "evil.example", 200),
    ("X-Odd", "a\0b", 400),
    ("X Odd", "a", 400),
    ("X-Odd ", "a", 400),
    ("", "a", 400),
    ("X-Odd", "\x80\xff" * 100, 200),
    ("X-Odd", "y" * 20_000, 200),
    ("Expect", "100-continue", 200),
    ("Expect", "x", 200),
    ("Upgrade", "h2c", 200),
    ("Upgrade", "websocket", 200),
    ("Range", "bytes=" + "0-1," * 2_000, 200),
    ("X-Forwarded-For", "1.2.3.4, " * 900 + "x", 200),
    ("X-Forwarded-For", "\x80", 200),
    ("X-Forwarded-Host", "evil.example", 200),
    ("X-HTTP-Method-Override", "DELETE", 200),
    ("X-Original-URL", "/readyz", 200),
    ("Forwarded", "for=1.2.3.4;by=x", 200),
    ("Accept-Encoding", "gzip;q=\x80", 200),
    ("Cookie", "a" * 9_000, 200),
    ("Connection", "close, keep-alive, x", 200),
    ("Connection", "authorization", 200),
    ("Trailer", "Authorization", 200),
)  # fmt: skip
_TARGETS: Final = (
    f"http://x{PATH}", f"//x{PATH}", f"/{PATH}", PATH + "/", PATH + "//", "/./" + PATH,
    "/x/.." + PATH,
    f"{BASE}/X/../{HOSTILE}/access_request", f"{BASE}/{HOSTILE}/../../../livez", PATH + "%00",
    PATH + "%20",
    PATH + "%0d%0aX:%20y", PATH.replace("/", "%2f"), PATH.replace("a", "%61"), PATH.upper(),
    PATH + ";x=y", PATH + "?",
    PATH + "?" + "a=b&" * 900, PATH + "#x", "*", "x:80", "access_request", "", "?", "%", "%zz",
    "/%ff%fe", "/\\..\\",
    "/" + "a" * 20_000, "/" + "%41" * 5_000, "/" + "a/" * 5_000, "\x80\xff", "/\x01", "/a b",
    "/ui/../x", "/metrics/x",
    f"{BASE}/{HOSTILE}/clients", f"{BASE}/%7e/clients", f"{BASE}//clients",
    f"{BASE}/{HOSTILE}/features/1",
    "/api/v4/add_consumption", "/api/v5/license/77/consumption/add", "/api/v5/sync/trigger",
    "/auth/", "/api/v5",
)  # fmt: skip
_METHODS: Final = (
    "GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "post", "PRI", "X" * 3_000, "",
    "A B", "POST\0", "\x80",
)  # fmt: skip
_VERSIONS: Final = (
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/9.9",
    "http/1.1",
    "HTTP/1.1x",
    "HTTP/11",
    "",
    "X",
)


def headers(draw: Random, number: int, site: Site) -> Input:
    """An odd header in an honest request: what it is answered is known."""
    name, value, status = draw.choice(_HEADERS)
    content = json.dumps(honest(draw)).encode()
    said = {
        "Authorization": f"Bearer {site.token}",
        "Content-Type": JSON,
        "Idempotency-Key": f"w{number}",
    }
    said[name] = value
    raw = request("POST", PATH, said, content)
    allowed = {status} | ({401, 404, SILENCE} if name == "Content-Length" else set())
    let_in = status == 200
    counts = _counts("access_request") if let_in else None
    return Input(
        number, f"header {name}", raw, frozenset(allowed), let_in, not let_in, counts=counts
    )


def head(draw: Random, number: int, site: Site) -> Input:
    """A head that is odd as a whole, without a credential."""
    content = json.dumps(honest(draw)).encode()
    method, target, version = "POST", PATH, "HTTP/1.1"
    match draw.randrange(4):
        case 0:
            method = draw.choice(_METHODS)
        case 1:
            version = draw.choice(_VERSIONS)
        case _:
            target = draw.choice(_TARGETS)
            method = draw.choice(("POST", "GET", "DELETE"))
    lines = [f"{method} {target} {version}", "Host: x", "Content-Type: application/json"]
    lines.append(f"Content-Length: {len(content)}")
    for _ in range(draw.choice((0, 0, 1, 2, 900))):
        name, value, _ = draw.choice(_HEADERS)
        lines.insert(draw.randrange(1, len(lines) + 1), f"{name}: {value[:200]}")
    end = draw.choice(("\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n "))
    raw = end.join([*lines, "", ""]).encode("latin-1")[:60_000] + content
    return Input(number, "head", raw, REFUSED, alone=True)


def framing(draw: Random, number: int, site: Site) -> Input:
    """A body whose length is told oddly, and behind it what could be read as another request."""
    second = request("POST", PATH, {"Content-Type": JSON}, b"{}")
    chunked = "Transfer-Encoding: chunked"
    length, sent = draw.choice((
        (chunked, b"2\r\n{}\r\n0\r\n\r\n"), (chunked,
        b"2;a=b\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n"),
        (chunked, b"0\r\n\r\n"), (chunked, b"2\r\n{}xx0\r\n\r\n"), (chunked, b"zz\r\n"), (chunked,
        b"-2\r\n{}\r\n0\r\n\r\n"),
        (chunked, b"0x2\r\n{}\r\n0\r\n\r\n"), (chunked, b"f" * 40 + b"\r\n{}"), (chunked,
        b"2\n{}\n0\n\n"),
        (chunked, b"2" + b";" * 20_000 + b"\r\n{}\r\n0\r\n\r\n"), (chunked,
        b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 9_000),
        (chunked + "\r\nContent-Length: 2", b"0\r\n\r\n"), ("Content-Length: 2\r\n" + chunked,
        b"{}"),
        ("Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"), ("Transfer-Encoding: gzip", b"{}"),
        ("Transfer-Encoding:\x0bchunked", b"0\r\n\r\n"), ("Transfer-Encoding : chunked",
        b"0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n"),
        ("Content-Length: 2\r\nContent-Length: 2", b"{}"),
        ("Content-Length: 2\r\nContent-Length: 3", b"{}"),
        ("Content-Length: 40", b"{}"), ("Content-Length: 1", b"{}"), ("Content-Length: 0", b"{}"),
        ("X: y", b"{}"),
        ("Content-Length: 2\n\tX: y", b"{}"), ("Content-Length:\r\n 2", b"{}"),
    ))  # fmt: skip
    lines = (f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/json", length)
    raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + sent
    raw += draw.choice((b"", second, second * 3, second[: draw.randrange(len(second))]))
    return Input(number, "framing", raw, REFUSED, alone=True)


def noise(draw: Random, number: int, site: Site) -> Input:
    """Bytes that are no request, or the preface of HTTP/2 and then none."""
    good = request("POST", PATH, {"Content-Type": JSON}, b"{}")
    changed = bytearray(good)
    for _ in range(draw.choice((1, 2, 9))):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    raw = draw.choice((
        draw.randbytes(draw.choice((1, 20, 3_000))), bytes(changed), good[: draw.randrange(1,
        len(good))],
        b"\r\n" * draw.choice((1, 2, 5_000)) + good,
        b"\x16\x03\x01\x02\x00\x01" + draw.randbytes(200),
        b"GET " + b"A" * 50_000, b"*1\r\n$4\r\nPING\r\n", b"\0" * 3_000,
    ))  # fmt: skip
    # What is not over may still become a request: nobody hears anything of it.
    return Input(number, "noise", raw, REFUSED, alone=True)
