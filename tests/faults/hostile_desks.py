"""Hostile requests to LicenseSpring's doors and to those of administrators.

Decided here: which honest request each begins with, how it is spoiled, and what may come back.
Bodies that are let in and are no request are a 400, or an answer: these protocols are tolerant, and
what they tolerate is their tests'. Not decided here: CMAPI's clients (hostile_doors.py).
"""

from __future__ import annotations

import base64
import json
from functools import partial
from random import Random
from typing import Any, Final
from urllib.parse import quote_from_bytes

from tests.faults import hostile_values
from tests.faults.hostile_http import Answer, Books, Input, request
from tests.faults.hostile_site import BASE, DESK, FLOATING, NAME, Site
from tests.vectors.credentials import public_der

JSON, OCTETS = "application/json", "application/octet-stream"

# Call -> of v1 and of v2, and the line that it consumes.
_CALLS: Final = (
    ("register", "user/register", None),
    ("unregister", "user/unregister", None),
    ("borrow", "user/borrow", None),
    ("add_consumption", "consumption/add", "units"),
    ("add_consumption", "consumption/add", "units"),
    ("add_feature_consumption", "consumption/feature/add", "pages"),
    ("featureRegister", "feature/register", None),
    ("featureRelease", "feature/release", None),
)
_READS: Final = (
    "", "/features", "/features/summaries", "/features/1", "/features/1/clients", "/clients",
    "/policies",
    "/reservationgroups", "/usage", "/usage/denials", "/usage/peaks", "/usage/capacity",
    "/requests/x",
)  # fmt: skip
_QUERIES: Final = (
    "limit", "after", "activeOnly", "period", "from", "to", "by", "feature", "format", "compare",
    "forecast",
    "kid", "overlap",
)  # fmt: skip
_WORDS: Final = (
    "", "0", "1", "-1", "10000", "10001", "1e9", "9" * 40, "today", "last-year", "ever", "day",
    "line,code",
    "csv", "json", "2026-02-30", "9999-12-31", "0000-00-00", "2026-01-01", "true", "1h", "31d",
    "1-1", "sessions",
)  # fmt: skip


def floating(draw: Random, number: int, site: Site) -> Input:
    """A call of a LicenseSpring client, odd; now and then nobody is logged in."""
    v1, v2, line = draw.choice(_CALLS)
    said: dict[str, Any] = {"consumptions": draw.choice((1, "2", 3)), "feature": "pages"}
    if draw.randrange(2):
        path, said = f"/api/v4/{v1}", said | {"product": "PROD", "user": f"u{draw.randrange(9)}"}
    else:
        named = _path(draw) if draw.randrange(5) == 0 else "77"
        path, said = f"/api/v5/license/{named}/{v2}", said | {"username": f"u{draw.randrange(9)}"}
    content = _odd(draw, said, ("license_id", "borrowed_until", "borrow_until", "allow_overages"))
    headers = {"Content-Type": JSON, "Idempotency-Key": f"f{number}"}
    if draw.randrange(6) == 0:
        raw = request("POST", path, headers, content)
        return Input(number, "floating, nobody", raw, frozenset({401, 404}))
    headers["Authorization"] = f"Bearer {site.floating}"
    raw = request("POST", path, headers, content)
    counts = partial(_consumed, line, content) if line is not None else None
    return Input(number, "floating", raw, frozenset({200, 400, 404}), True, counts=counts)


def _consumed(line: str, content: bytes, answer: Answer) -> Books:
    """Say what a consumption counted, as asked: it is granted whole or not at all."""
    asked = json.loads(content).get("consumptions") if content.strip() else None
    return {(FLOATING, line): 1 if asked is None else int(asked)}


def floating_read(draw: Random, number: int, site: Site) -> Input:
    """A read of a LicenseSpring client, or what is done for everybody, oddly asked."""
    path = draw.choice(
        ("/api/v4/license", "/api/v4/addProduct", "/api/v5/license", "/api/v5/license/77/user",
         "/api/v5/license/77/feature", "/api/v5/auth/me", f"/api/v5/license/{_path(draw)}")
    )  # fmt: skip
    query = draw.choice(("?product=PROD", "?PROD",
    f"?product={_path(draw)}&license_id={_path(draw)}",
                         f"?{_path(draw)}", "?" + "&" * 40, "?" + "a" * 5_000))  # fmt: skip
    if draw.randrange(4) == 0:
        raw = request("GET", path + query, {})
        return Input(number, "floating read, nobody", raw, frozenset({401, 404}))
    raw = request("GET", path + query, {"Authorization": f"Bearer {site.floating}"})
    return Input(number, "floating read", raw, frozenset({200, 400, 404, 405}), True)


def login(draw: Random, number: int, site: Site) -> Input:
    """A log-in with a name or a password that is none, by any way, from any address."""
    headers: dict[str, str | bytes] = {
        "Content-Type": JSON,
        "X-Forwarded-For": draw.choice(
            (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", "::1", "x",
            "1.2.3.4, 5",
             "127.0.0.1", "[::1]:99999", ",,,", "%eth0", "9" * 5_000)
        ),
    }  # fmt: skip
    value = hostile_values.value(draw)
    name, password = draw.choice(
        ((NAME, value), (value, "x" * 12), (NAME, "wrong horse"), (value, value))
    )
    allowed = frozenset({400, 401, 429})
    match draw.randrange(3):
        case 0:
            said = json.dumps({"user": name, "password": password}).encode()
            raw = request("POST", f"{BASE}/{DESK}/authorize", headers, said)
        case 1:
            said = json.dumps({"username": name, "password": password}).encode()
            raw = request("POST", "/api/v5/auth/login", headers, said)
        case _:
            said = f"{name}:{password}".encode("utf-8", "surrogatepass")
            text = draw.choice((base64.b64encode(said), base64.b64encode(said) + b"=", b"!" * 40))
            headers["Authorization"] = b"Basic " + text[:9_000]
            raw = request("GET", "/auth", headers)
    return Input(number, "login", raw, allowed)


def administration(draw: Random, number: int, site: Site) -> Input:
    """What administrators may do, oddly asked; now and then by somebody who may not."""
    headers = {"Authorization": f"Bearer {site.session}"}
    may = bool(draw.randrange(4))
    if not may:
        headers["Authorization"] = "Bearer " + draw.choice(
            (site.token, site.floating, "", _tampered(draw, site.session), "a.b.c")
        )
    method, path, content = _administered(draw)
    if content:
        headers["Content-Type"] = OCTETS if "keys?" in path else JSON
    allowed = frozenset({200, 400, 404, 410} if may else {401, 404})
    raw = request(method, f"{BASE}/{DESK}{path}", headers, content)
    return Input(number, f"administration {method}", raw, allowed, may)


def _administered(draw: Random) -> tuple[str, str, bytes]:
    match draw.randrange(12):
        case 0:
            policies = {"gateway.requireExp": True, "gateway.requireSignedPayload": False}
            return "PATCH", "/policies", _odd(draw, policies, ("licensing.none", ""))
        case 1:
            der = bytearray(public_der("other", "RS256"))
            der[draw.randrange(40)] ^= 1 << draw.randrange(8)
            key = draw.choice(
                (bytes(der), bytes(der[: draw.randrange(len(der))]), draw.randbytes(300))
            )
            return "POST", f"/rest_licensing_keys?{draw.choice(_QUERIES)}={_path(draw)}", key
        case 2:
            return "DELETE", f"/clients/{_path(draw)}", b""
        case 3:
            return "GET", f"/requests/{_path(draw)}", b""
        case 4:
            return "GET", f"/features/{_path(draw)}{draw.choice(('', '/clients'))}", b""
        case _:
            pairs = [f"{draw.choice(_QUERIES)}={draw.choice((draw.choice(_WORDS), _path(draw)))}"
                     for _ in range(draw.choice((1, 1, 2, 3)))]  # fmt: skip
            return "GET", f"{draw.choice(_READS)}?{'&'.join(pairs)}", b""


def _tampered(draw: Random, text: str) -> str:
    place = draw.randrange(len(text))
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def _odd(draw: Random, said: dict[str, Any], more: tuple[str, ...]) -> bytes:
    """Write a body with something odd in it."""
    names = (*said, *more)
    match draw.randrange(5):
        case 0:
            return hostile_values.spoiled(draw, json.dumps(said).encode())[: 2**16]
        case 1:
            return hostile_values.doubled(draw, said, names)
        case 2:
            said = {name: each for name, each in said.items() if draw.randrange(3)}
        case _:
            said = said | {draw.choice(names): hostile_values.value(draw)}
    return json.dumps(said).encode()


def _path(draw: Random) -> str:
    """Give a piece of a path or a query: any bytes, percent-encoded, some of them rightly."""
    data = draw.choice(hostile_values.TEXTS).encode() if draw.randrange(3) else draw.randbytes(8)
    text = quote_from_bytes(data, safe=draw.choice(("", "/", "~{}|")))
    return draw.choice((text, text, text + "%", "%zz" + text, text.replace("%", "%25"))) or "x"
