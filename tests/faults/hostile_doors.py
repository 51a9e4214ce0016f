"""Hostile requests to the doors of clients: CMAPI's, single and in batches, and their credentials.

Decided here: which honest request each begins with, how it is spoiled, and what may come back,
which is told by hostile_oracle.py. Not decided here: LicenseSpring's doors and administration
(hostile_desks.py), HTTP itself (hostile_wire.py). Each has an idempotency id of its own, so that an
answer whose request was counted before is known by its header.
"""

from __future__ import annotations

import base64
import json
import time
from functools import partial
from random import Random
from typing import Any, Final

from tests.faults import hostile_jws, hostile_values
from tests.faults.hostile_http import Answer, Books, Input, request
from tests.faults.hostile_jws import ALGORITHMS, REQUEST_TYP, Signed
from tests.faults.hostile_oracle import (
    Keys,
    payload_verdict,
    request_verdict,
    signed_header,
    token_verdict,
)
from tests.faults.hostile_site import BASE, HOSTILE, OTHER, Site

ENDPOINTS: Final = ("access_request", "access_request", "signed_access_request", "preview_request")
METERED: Final = {"sessions": "L1", "pages": "L2"}  # features of HOSTILE whose counts add up
JOSE, JSON, NDJSON = "application/jose", "application/json", "application/x-ndjson"
UNREADABLE: Final = b"\0\r\n\x0b\x0c"  # no header has these bytes


def honest(draw: Random) -> dict[str, Any]:
    """Give an access request with which nothing is wrong."""
    return {
        "hostId": {"type": "string", "value": f"h{draw.randrange(20)}"},
        "incremental": True,
        "partial": bool(draw.randrange(2)),
        "borrow-interval": "1h",
        "features": [
            {"name": draw.choice(("sessions", "pages", "editor")), "version": "1.0", "count": 1}
        ],
    }


def odd(draw: Random) -> bytes:
    """Give the body of an access request that is odd in one or two places."""
    said = honest(draw)
    match draw.randrange(5):
        case 0:
            return hostile_values.spoiled(draw, json.dumps(said).encode())
        case 1:
            return hostile_values.doubled(draw, said, tuple(said))
    for _ in range(draw.choice((1, 1, 1, 2))):
        _one_odd_member(draw, said)
    return json.dumps(said).encode()


def _one_odd_member(draw: Random, said: dict[str, Any]) -> None:
    value = hostile_values.value(draw)
    feature = {"name": "pages", "version": draw.choice(("1", "1.0", "0")), "count": 1}
    match draw.randrange(8):
        case 0 | 1:
            said[draw.choice(tuple(said))] = value
        case 2:
            said["hostId"] = {
                "type": "string",
                "value": "h1",
                draw.choice(("type", "value")): value,
            }
        case 3:
            said["features"] = [feature | {draw.choice(("name", "version", "count")): value}]
        case 4:
            many = draw.choice((2, 63, 64, 65, 400))
            said["features"] = [
                feature | {"count": draw.choice((1, 0, -1, 10**12))} for _ in range(many)
            ]
        case 5:
            entries = {
                hostile_values.text(draw): value,
                **{str(n): "x" for n in range(draw.choice((0, 63, 64)))},
            }
            said[draw.choice(("selectorsDictionary", "vendorDictionary"))] = entries
        case 6:
            said["correlationId"] = value
        case _:
            said[hostile_values.text(draw)] = value


# Bodies, with a good token ----------------------------------------------------------------------


def body(draw: Random, number: int, site: Site) -> Input:
    """An odd body behind a good token."""
    endpoint = draw.choice(ENDPOINTS)
    said = odd(draw)[: 2**16]
    headers = {"Authorization": f"Bearer {site.token}", "Content-Type": JSON}
    name = None
    if draw.randrange(2):
        name = headers["Idempotency-Key"] = f"b{number}"
    raw = request("POST", f"{BASE}/{HOSTILE}/{endpoint}", headers, said)
    allowed = _allowed(request_verdict(said), endpoint, fresh=name is not None)
    return Input(number, f"body {endpoint}", raw, allowed, True, counts=_counts(endpoint))


def _allowed(verdict: int | None, endpoint: str, *, fresh: bool) -> frozenset[int]:
    """Give the statuses for what is let in; an id that is not `fresh` may have been another's."""
    if verdict is None:
        return frozenset({200, 400, 422})
    if endpoint == "preview_request" and verdict == 400:
        return frozenset({200, 400})  # it asks for less
    return frozenset({200, 422}) if verdict == 200 and not fresh else frozenset({verdict})


def _counts(endpoint: str) -> Any:
    return None if endpoint == "preview_request" else partial(_counted, endpoint)


def _counted(endpoint: str, answer: Answer) -> Books:
    """Say what a single request was granted of what is metered; nothing if it was before."""
    if "idempotency-replayed" in answer.headers:
        return {}
    body = answer.body
    if endpoint == "signed_access_request":
        part = body.split(b".")[1]
        body = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    return granted(json.loads(body))


def granted(told: dict[str, Any]) -> Books:
    """Add up an answer's counts of what is metered."""
    books: Books = {}
    for each in told["features"]:
        if each["name"] in METERED:
            key = (HOSTILE, METERED[each["name"]])
            books[key] = books.get(key, 0) + each["count"]
    return books


# Credentials ------------------------------------------------------------------------------------


def payload(draw: Random, number: int, site: Site) -> Input:
    """A signed payload, spoiled."""
    endpoint = draw.choice(ENDPOINTS)
    said = honest(draw) | {"iat": int(time.time()), "jti": f"p{number}", "aud": HOSTILE}
    text = hostile_jws.spoiled(draw, _signed(draw, said), number)[: 2**16]
    verdict = payload_verdict(text, site.keys, instance=HOSTILE, now_s=time.time())
    let_in = verdict != 401
    allowed = _allowed(verdict, endpoint, fresh=False) if let_in else frozenset({401})
    if verdict is None:
        allowed |= {401}
    if endpoint == "preview_request" and verdict == 401 and _is_signed(text, site.keys):
        let_in, allowed = True, frozenset({200, 400, 401})  # a preview needs no jti
    headers = {"Content-Type": JOSE}
    if draw.randrange(8) == 0:
        headers["Authorization"] = f"Bearer {site.token}"  # which does not help
    raw = request("POST", f"{BASE}/{HOSTILE}/{endpoint}", headers, text)
    return Input(number, f"payload {endpoint}", raw, allowed, let_in, counts=_counts(endpoint))


def token(draw: Random, number: int, site: Site) -> Input:
    """A capability token, spoiled, before an honest body."""
    claims = {
        "sub": "h",
        "roles": "ROLE_CAPABILITY",
        "iat": int(time.time()) - 1,
        "exp": int(time.time()) + 7_200,
    }
    header = draw.choice(
        ({"alg": "RS256"}, {"alg": "RS256", "typ": "JWT"}, {"alg": "RS256", "kid": "own-RS256"})
    )
    text = hostile_jws.spoiled(draw, Signed(header, json.dumps(claims).encode()), number)
    text = text.strip(b" \t")[:16_000]  # a header's value begins and ends with what is seen
    verdict = token_verdict(text, site.keys, now_s=time.time())
    broken = any(byte in UNREADABLE for byte in text)
    allowed = (
        frozenset({400, 401})
        if broken
        else frozenset({200, 401, 403} if verdict is None else {verdict})
    )
    headers: dict[str, str | bytes] = {
        "Authorization": draw.choice((b"Bearer ", b"bearer ", b"BEARER ")) + text,
        "Content-Type": JSON,
        "Idempotency-Key": f"t{number}",
    }
    raw = request(
        "POST", f"{BASE}/{HOSTILE}/access_request", headers, json.dumps(honest(draw)).encode()
    )
    let_in = 200 in allowed
    return Input(number, "token", raw, allowed, let_in, broken, counts=_counts("access_request"))


def stranger(draw: Random, number: int, site: Site) -> Input:
    """An honest body with a good credential of somebody else's, or with none, or elsewhere."""
    credentials: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YW5uOmNvcnJlY3QgaG9yc2U="},
        {"Authorization": f"Bearer {site.session}"},
        {"Authorization": f"Bearer {site.floating}"},
        {"Authorization": f"bearer{site.token}"},
        {"Authorization": f"Token {site.token}"},
        {"X-Authorization": f"Bearer {site.token}"},
        {"Cookie": f"token={site.token}"},
    )
    instance = HOSTILE
    credential = draw.choice(credentials)
    if draw.randrange(3) == 0:
        credential = {"Authorization": f"Bearer {site.token}"}
        instance = draw.choice((OTHER, "DESK", "NOWHERE", "~", "hostile", "HOSTILE%00",
        "%7Bp001%7D", "%ff", "..",
                                "HOSTILE%20", "HOSTILE.", "%48OSTILE%2e", "x" * 64, "x" * 65,
                                "x" * 5_000))  # fmt: skip
    endpoint = draw.choice((*ENDPOINTS, "access_requests"))
    kind = NDJSON if endpoint == "access_requests" else JSON
    content = json.dumps(honest(draw) | {"correlationId": f"s{number}"}).encode()
    raw = request(
        "POST", f"{BASE}/{instance}/{endpoint}", credential | {"Content-Type": kind}, content
    )
    return Input(number, f"stranger {endpoint}", raw, frozenset({401}))


# Batches ----------------------------------------------------------------------------------------


def batch(draw: Random, number: int, site: Site) -> Input:
    """A batch of honest and odd lines behind a good token: each line answers for itself."""
    many = draw.choice((0, 1, 2, 5, 20))
    lines = []
    for place in range(many):
        name = draw.choice((f"n{number}-{place}", f"n{number}-0"))
        if draw.randrange(2):
            lines.append(json.dumps(honest(draw) | {"correlationId": name}).encode())
        else:
            lines.append(odd(draw)[:30_000])
    said = draw.choice((b"\n", b"\r\n", b"\n\n")).join(lines)
    headers = {"Authorization": f"Bearer {site.token}", "Content-Type": NDJSON}
    raw = request("POST", f"{BASE}/{HOSTILE}/access_requests", headers, said)
    told = [line for line in said.split(b"\n") if line.strip(b" \t\r")]
    return Input(number, "batch", raw, frozenset({200}), True, counts=partial(_counted_lines, told))


def signed_batch(draw: Random, number: int, site: Site) -> Input:
    """A batch as a signed payload, spoiled."""
    lines = [honest(draw) | {"correlationId": f"m{number}-{place}"} for place in range(3)]
    said = {"iat": int(time.time()), "jti": f"m{number}", "aud": HOSTILE, "requests": lines}
    text = hostile_jws.spoiled(draw, _signed(draw, said), number)
    let_in = _is_signed(text, site.keys)
    allowed = frozenset({200, 400, 401} if let_in else {401})
    raw = request("POST", f"{BASE}/{HOSTILE}/access_requests", {"Content-Type": JOSE}, text)
    return Input(number, "signed batch", raw, allowed, let_in, counts=partial(_counted_lines, None))


def _counted_lines(lines: list[bytes] | None, answer: Answer) -> Books:
    """Say what the lines of a batch were granted; where they are known, each as it must be."""
    told = [json.loads(line) for line in answer.body.splitlines()]
    books: Books = {}
    for each in told:
        assert each["status"] in (200, 400, 413, 422), each
        if each["status"] == 200 and not each["replayed"]:
            for key, units in granted(each["response"]).items():
                books[key] = books.get(key, 0) + units
    if lines is not None:
        assert len(told) == len(lines), (len(told), len(lines))
        for line, each in zip(lines, told, strict=True):
            if request_verdict(line) == 400:
                assert each["status"] == 400, (line, each)
    return books


def _signed(draw: Random, said: dict[str, Any]) -> Signed:
    alg = draw.choice((*ALGORITHMS, "EdDSA", "ES256", "EdDSA", "ES256"))  # RS256 takes its time
    header = {"alg": alg, "kid": f"own-{alg}", "typ": REQUEST_TYP}
    return Signed(header, json.dumps(said).encode())


def _is_signed(text: bytes, keys: Keys) -> bool:
    try:
        return signed_header(text, keys, named=True) is not None
    except ValueError:
        return True
