"""Batches at the door: whole-request errors as everywhere, lines that answer for themselves.

Source: INTERFACE 4, SEMANTICS 2, 8, 9 and 10.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.protocols.cmapi_batch import BATCH_BYTES_MAX, LINES_MAX
from tests.vectors.credentials import token
from tests.vectors.served import Served
from tests.web.doors import (
    BODY_BYTES_MAX,
    GOOD,
    Door,
    at,
    door_serving,
    eventually,
    impatient_serving,
    speak,
)

BATCH = "access_requests"
NDJSON = {"Content-Type": "application/x-ndjson"}
GRANTED = [{"name": "sessions", "count": 1}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("batch")) as opened:
        yield opened


def sessions(correlation_id: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "correlationId": correlation_id,
        "hostId": {"type": "string", "value": "h1"},
        "features": [{"name": "sessions", "count": count}],
        "incremental": True,
    } | more


def ndjson(*lines: Any) -> bytes:
    return b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )


async def post(door: Door, *lines: Any, signed: bool = False, **more: Any) -> httpx.Response:
    if signed:
        claims = {"jti": "batch", "requests": list(lines)} | more.pop("claims", {})
        return await door.knock(
            {}, endpoint=BATCH, credential=more.pop("credential", "signed"), claims=claims, **more
        )
    headers = NDJSON | more.pop("headers", {})
    return await door.knock(ndjson(*lines), headers, endpoint=BATCH, **more)


def answers(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert len(answer.headers["Gateway-Request-Id"]) == 22
    return [json.loads(line) for line in answer.text.splitlines()]


def statuses(answer: httpx.Response) -> list[int]:
    return [each["status"] for each in answers(answer)]


# Lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
def test_every_line_is_answered_in_its_place(served: Served, signed: bool) -> None:
    async def story(door: Door) -> None:
        found = answers(
            await post(
                door,
                sessions("a", 2),
                sessions("b", hostId=None),
                {"hostId": sessions("")["hostId"]},
                sessions("a", 3),
                sessions("c", 99),
                sessions("d", 98),
                7,
                signed=signed,
            )
        )
        shown = [(each["correlationId"], each["status"], each["replayed"]) for each in found]
        assert shown == [
            ("a", 200, False),
            ("b", 400, False),
            (None, 400, False),
            ("a", 400, False),
            ("c", 200, False),
            ("d", 200, False),
            (None, 400, False),
        ]
        assert found[0].keys() == {"correlationId", "status", "replayed", "response"}
        assert found[0]["response"]["features"][0]["count"] == 2
        assert found[1]["response"]["arguments"] == ["hostId"]
        assert found[2]["response"]["key"] == "gateway.badRequest"
        assert found[4]["response"]["statusList"][0]["code"] == "FEATURE_COUNT_INSUFFICIENT"
        assert found[5]["response"]["features"][0]["count"] == 98
        assert await door.used() == {"sessions|0": 100}

    at(served, story)


@pytest.mark.parametrize("signed", [False, True])
def test_a_batch_sent_again_counts_nothing(served: Served, signed: bool) -> None:
    async def story(door: Door) -> None:
        lines = [sessions(f"c-{number}") for number in range(5)]
        first = answers(await post(door, *lines, signed=signed))
        again = answers(await post(door, *lines, sessions("new"), signed=signed))
        assert [each["replayed"] for each in again] == [True] * 5 + [False]
        assert [each["response"] for each in first] == [each["response"] for each in again[:5]]
        other = answers(await post(door, sessions("c-0", 2), sessions("c-1"), signed=signed))
        assert [(each["status"], each["replayed"]) for each in other] == [(422, False), (200, True)]
        assert other[0]["response"]["key"] == "gateway.idempotencyMismatch"
        assert await door.used() == {"sessions|0": 6}

    at(served, story)


def test_a_line_and_a_single_request_of_one_id_are_one(served: Served) -> None:
    async def story(door: Door) -> None:
        alone = await door.knock(sessions("one"))
        (line,) = answers(await post(door, sessions("one"), headers={"Idempotency-Key": "k"}))
        assert line == {
            "correlationId": "one",
            "status": 200,
            "replayed": True,
            "response": alone.json(),
        }
        assert statuses(await post(door, sessions("two"))) == [200]
        again = await door.knock(sessions("two"))
        assert again.headers["Idempotency-Replayed"] == "true"
        # The jti of a batch and the header are no line's ids.
        assert statuses(await post(door, sessions("three"), signed=True)) == [200]
        for key in ("k", "batch"):
            fresh = await door.knock(sessions("x"), {"Idempotency-Key": key})
            assert "Idempotency-Replayed" not in fresh.headers
        assert await door.used() == {"sessions|0": 5}

    at(served, story)


def test_no_lines_have_no_answers(served: Served) -> None:
    async def story(door: Door) -> None:
        for answer in (
            await post(door),
            await post(door, b"\r\n \t", b""),
            await post(door, signed=True),
        ):
            assert (answers(answer), answer.content) == ([], b"")
        assert (
            statuses(await post(door, b"", sessions("a"), b"\r", sessions("b"), b"")) == [200] * 2
        )
        assert await door.used() == {"sessions|0": 2}

    at(served, story)


@pytest.mark.parametrize("signed", [False, True])
def test_a_line_that_is_too_long_answers_for_itself(served: Served, signed: bool) -> None:
    async def story(door: Door) -> None:
        long = sessions("long", padding="x" * BODY_BYTES_MAX)
        found = answers(await post(door, sessions("a"), long, sessions("b"), signed=signed))
        assert [each["status"] for each in found] == [200, 413, 200]
        assert found[1]["correlationId"] == "long"
        assert found[1]["response"]["arguments"] == [str(BODY_BYTES_MAX)]
        assert await door.used() == {"sessions|0": 2}

    at(served, story)


# The whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
def test_too_many_lines_are_refused_as_a_whole(served: Served, signed: bool) -> None:
    async def story(door: Door) -> None:
        lines = [sessions(f"c-{number}") for number in range(LINES_MAX + 1)]
        answer = await post(door, *lines, signed=signed)
        assert (answer.status_code, answer.json()["arguments"]) == (413, [str(LINES_MAX)])
        assert await door.used() == {}
        assert statuses(await post(door, *lines[1:], signed=signed)) == [200] * LINES_MAX
        assert await door.used() == {"sessions|0": 100}

    at(served, story)


def test_a_body_over_its_bound_is_refused_as_a_whole(served: Served) -> None:
    async def story(door: Door) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield _head(door, BATCH_BYTES_MAX + 1)

        status, body = await speak(served, parts())
        assert (status, body["key"]) == (413, "gateway.tooLarge")
        assert body["arguments"] == [str(BATCH_BYTES_MAX)]
        assert await door.used() == {}
        full = ndjson(sessions("a")).ljust(BATCH_BYTES_MAX, b"\n")
        assert statuses(await post(door, full)) == [200]

    at(served, story)


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/ndjson", "text/plain", "application/jose+json"]
)
def test_another_media_type_is_not_taken(served: Served, media_type: str) -> None:
    async def story(door: Door) -> None:
        answer = await post(door, sessions("a"), headers={"Content-Type": media_type})
        assert (answer.status_code, answer.json()["key"]) == (415, "gateway.unsupportedMediaType")
        assert await door.used() == {}
        # And a batch's is none for a single request.
        assert (await door.knock(GOOD, NDJSON)).status_code == 415
        named = NDJSON["Content-Type"].upper() + "; charset=utf-8"
        assert statuses(await post(door, sessions("a"), headers={"Content-Type": named})) == [200]

    at(served, story)


@pytest.mark.parametrize("requests", [None, {}, "x", 1, True])
def test_a_signed_batch_has_an_array_of_requests(served: Served, requests: Any) -> None:
    async def story(door: Door) -> None:
        answer = await post(door, signed=True, claims={"requests": requests})
        assert (answer.status_code, answer.json()["arguments"]) == (400, ["requests"])

    at(served, story)


@pytest.mark.parametrize(
    "credential",
    ["none", "garbage", "token-other", "token-none", "token-hs256", "token-tampered",
     "jose-garbage", "signed-other", "signed-tampered", "signed-array", "signed-typ-jwt"],
)  # fmt: skip
def test_whoever_is_not_known_gets_the_one_refusal(served: Served, credential: str) -> None:
    async def story(door: Door) -> None:
        signed = credential.startswith(("signed", "jose"))
        answer = await post(door, sessions("a"), signed=signed, credential=credential)
        single = await door.knock(GOOD, credential="none")
        assert (answer.status_code, answer.content) == (401, single.content)
        assert await door.used() == {}

    at(served, story)


@pytest.mark.parametrize(
    "claims", [{"jti": None}, {"iat": None}, {"aud": None}, {"aud": "x"}, {"iat": {"$now": -900}}]
)
def test_a_signed_batch_says_when_for_whom_and_which(
    served: Served, claims: dict[str, Any]
) -> None:
    async def story(door: Door) -> None:
        answer = await post(door, sessions("a"), signed=True, claims=claims)
        assert (answer.status_code, answer.json()["key"]) == (401, "gateway.unauthorized")
        assert await door.used() == {}

    at(served, story)


def test_an_instance_that_wants_signatures_takes_no_token(served: Served) -> None:
    async def story(door: Door) -> None:
        await door.put(require_signed_payload=True)
        assert (await post(door, sessions("a"))).status_code == 401
        assert statuses(await post(door, sessions("a"), signed=True)) == [200]

    at(served, story)


def test_a_token_without_the_role_is_forbidden(served: Served) -> None:
    async def story(door: Door) -> None:
        answer = await post(door, sessions("a"), claims={"roles": "ROLE_READ"})
        assert (answer.status_code, answer.json()["arguments"]) == (403, ["ROLE_CAPABILITY"])
        # The credential comes before the body.
        crowd = [b"{}"] * (LINES_MAX + 1)
        assert (await post(door, *crowd, credential="none")).status_code == 401
        assert await door.used() == {}

    at(served, story)


def test_another_method_is_told_which_one_there_is(served: Served) -> None:
    async def story(door: Door) -> None:
        answer = await served.http.get(door.path(BATCH))
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")

    at(served, story)


# Time -----------------------------------------------------------------------------------------


def test_a_batch_that_does_not_come_in_time_is_refused(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield _head(door, 1_000)
            yield ndjson(sessions("a"))

        status, body = await speak(door.served, parts())
        assert (status, body["key"]) == (408, "gateway.requestTimeout")
        assert await door.used() == {}

    with impatient_serving(tmp_path) as impatient:
        at(impatient, story)


def test_a_client_that_goes_away_cancels_nothing(served: Served) -> None:
    async def story(door: Door) -> None:
        body = ndjson(*(sessions(f"c-{number}") for number in range(90)))
        _, writer = await asyncio.open_connection(*served.address)
        writer.write(_head(door, len(body)) + body)
        await writer.drain()
        writer.transport.abort()

        async def all_counted() -> bool:
            return await door.used() == {"sessions|0": 90}

        await eventually(all_counted)

    at(served, story)


def _head(door: Door, length: int) -> bytes:
    said = (
        f"POST {door.path(BATCH)} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token()}",
        "Content-Type: application/x-ndjson",
        f"Content-Length: {length}",
    )
    return "\r\n".join(said).encode() + b"\r\n\r\n"
