"""Access requests at the door: bounds while a body is read, paths, methods, media types, names.

What requests mean is the vectors' business; here it is what a careless client or a stranger can do
with plain HTTP. Source: SEMANTICS 2 and 10.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.vectors.served import Served
from tests.web.doors import (
    ACCESS,
    BODY_BYTES_MAX,
    BODY_TIMEOUT_S,
    GOOD,
    Door,
    at,
    chunk,
    door_serving,
    impatient_serving,
    speak,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Served]:
    with impatient_serving(tmp_path) as opened:
        yield opened


# Size and time --------------------------------------------------------------------------------


def test_a_body_announced_too_large_is_refused_before_it_comes(served: Served) -> None:
    async def story(door: Door) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield door.head(f"Content-Length: {BODY_BYTES_MAX + 1}")

        status, body = await speak(served, parts())
        assert (status, body["key"]) == (413, "gateway.tooLarge")
        assert body["arguments"] == [str(BODY_BYTES_MAX)]

    at(served, story)


def test_a_client_that_is_still_sending_hears_why_it_is_refused(served: Served) -> None:
    async def story(door: Door) -> None:
        for size in (BODY_BYTES_MAX + 1, 1_000_000, 8_000_000):
            answer = await door.knock(b" " * size)
            assert (answer.status_code, answer.json()["key"]) == (413, "gateway.tooLarge")

    at(served, story)


def test_a_stream_is_refused_as_soon_as_it_is_too_large(served: Served) -> None:
    """It does not say how long it is, and it never ends."""

    async def story(door: Door) -> None:
        sent = 0

        async def parts() -> AsyncIterator[bytes]:
            nonlocal sent
            yield door.head("Transfer-Encoding: chunked")
            while True:
                yield chunk(b" " * 8192)
                sent += 8192
                await asyncio.sleep(0)

        status, body = await speak(served, parts())
        assert (status, body["key"]) == (413, "gateway.tooLarge")
        assert await door.used() == {}

    at(served, story)


def test_a_stream_of_the_bound_itself_is_taken(served: Served) -> None:
    async def story(door: Door) -> None:
        content = json.dumps(GOOD).encode().ljust(BODY_BYTES_MAX)

        async def parts() -> AsyncIterator[bytes]:
            yield door.head("Transfer-Encoding: chunked")
            for begin in range(0, len(content), 10_000):
                yield chunk(content[begin : begin + 10_000])
            yield chunk(b"")

        status, _ = await speak(served, parts())
        assert (status, await door.used()) == (200, {"sessions|0": 1})

    at(served, story)


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_a_body_that_does_not_come_in_time_is_given_up(impatient: Served, drip: bool) -> None:
    """A client that sends a byte now and then gains nothing by it."""

    async def story(door: Door) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield door.head("Content-Length: 1000")
            yield b'{"hostId"'
            while drip:
                yield b" "
                await asyncio.sleep(BODY_TIMEOUT_S / 20)

        began_s = time.monotonic()
        status, body = await speak(impatient, parts())
        assert (status, body["key"]) == (408, "gateway.requestTimeout")
        # What drips would take 25 s.
        assert BODY_TIMEOUT_S <= time.monotonic() - began_s < BODY_TIMEOUT_S + 12
        assert await door.used() == {}

    at(impatient, story)


def test_a_client_that_leaves_in_the_middle_has_counted_nothing(served: Served) -> None:
    async def story(door: Door) -> None:
        for _ in range(5):
            _, writer = await asyncio.open_connection(*served.address)
            writer.write(door.head("Content-Length: 1000") + b'{"hostId"')
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await door.knock()).status_code == 200
        assert await door.used() == {"sessions|0": 1}

    at(served, story)


# Paths, methods, media types ------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "application/x-ndjson", "multipart/form-data", "json"]
)
def test_another_media_type_is_refused(served: Served, kind: str) -> None:
    async def story(door: Door) -> None:
        answer = await door.knock(headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["key"]) == (415, "gateway.unsupportedMediaType")
        assert await door.used() == {}

    at(served, story)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_an_encoded_body_is_refused(served: Served, encoding: str) -> None:
    async def story(door: Door) -> None:
        answer = await door.knock(headers={"Content-Encoding": encoding})
        assert (answer.status_code, answer.json()["key"]) == (415, "gateway.unsupportedMediaType")

    at(served, story)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("endpoint", [ACCESS, "signed_access_request", "preview_request"])
def test_another_method_is_told_which_one_there_is(
    served: Served, method: str, endpoint: str
) -> None:
    async def story(door: Door) -> None:
        answer = await served.http.request(method, door.path(endpoint))
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        if method != "HEAD":
            assert answer.json()["key"] == "gateway.methodNotAllowed"
            assert set(answer.json()) == {"key", "message", "arguments"}

    at(served, story)


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/1.0/instances", "/api/1.0/instances//access_request",
     "/api/1.0/instances/x/access_request/", "/api/1.0/instances/x/ACCESS_REQUEST",
     "/api/2.0/instances/x/access_request", "/api/1.0/instances/a%2Fb/access_request"],
)  # fmt: skip
def test_another_path_is_not_there(served: Served, path: str) -> None:
    async def story(door: Door) -> None:
        answer = await served.http.post(path, content=b"{}")
        assert (answer.status_code, answer.json()["key"]) == (404, "gateway.notFound")
        assert answer.headers["Content-Type"] == "application/json"

    at(served, story)


# Names ----------------------------------------------------------------------------------------

LAYOUT = re.compile(
    r"gw:(meta|\{p\d{3}\}:(instances|due|dirty|lease|d:[A-Za-z0-9_-]{22}|i:DOOR-\d+:"
    r"(cat|used|holds|lapse|seen|undo|ledger|record|days:\d{6}|(open|sealed):parent)))"
)


@pytest.mark.parametrize(
    "name",
    ["{p000}", "}{", "gw:{p001}:i:x:cat", "a\nb", "a\r\nb", "a\x00b", "a b", "é", "\ud7ff", "-",
     "--", "a" * 65, "a" * 5_000, "%7Bp000%7D", "x:cat", "*", "a?b", "..", "~~", "'", "\\"],
)  # fmt: skip
def test_an_instance_name_of_any_kind_makes_no_key(served: Served, name: str) -> None:
    async def story(door: Door) -> None:
        before = await served.keys()
        for credential in ("token", "signed", "none"):
            path = quote(name, safe="")
            answer = await door.knock(instance=path, credential=credential, claims={"jti": "x"})
            # Clients and servers take two dots for the way up before any of us sees them.
            assert answer.status_code == (404 if name == ".." else 401)
        assert await served.keys() == before

    at(served, story)


def test_no_text_of_a_request_becomes_a_key_of_the_store(served: Served) -> None:
    """Hosts, features and ids are of the client's choosing; names of keys are not."""

    async def story(door: Door) -> None:
        odd = ["{p000}", "a|b", "gw:meta", "x:cat", "*", "\u2028", "é" * 100, "u|sessions|h"]
        for number, text in enumerate(odd):
            body = {
                "hostId": {"type": "extended", "value": text},
                "features": [{"name": "editor"}, {"name": "users"}, {"name": "gw:meta"}],
                "incremental": True,
                "partial": True,
                "borrow-interval": "1h",
                "selectorsDictionary": {text: text},
                "vendorDictionary": {text: text},
            }
            answer = await door.knock(body, {"Idempotency-Key": f"{{p000}}:{number}|gw:meta"})
            assert answer.status_code == 200, answer.text
        assert [key for key in await served.keys() if not LAYOUT.fullmatch(key)] == []

    at(served, story)
