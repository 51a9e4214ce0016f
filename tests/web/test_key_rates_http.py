"""The rate of a key over HTTP: who is let in, who is told to come again, and that nothing moved.

Source: INTERFACE 2, SEMANTICS 10.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from gateway.service.rates import KeyRates
from tests.vectors.served import Served, serving
from tests.web.doors import GOOD, Door, at

RATE = 5
BATCH = "access_requests"
BAD = ("none", "garbage", "token-other", "token-tampered", "signed-tampered", "signed-unknown-kid")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Open a gateway whose clock for rates stands still: nothing becomes due."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.wiring.KeyRates", partial(KeyRates, clock_s=lambda: 1_000.0))
        with serving(
            tmp_path_factory.mktemp("rates"),
            prelude=None,
            LIMITS__REQUESTS_PER_KEY_PER_S=str(RATE),
        ) as opened:
            yield opened


async def knocks(door: Door, many: int, **more: Any) -> list[int]:
    return [(await door.knock(**more)).status_code for _ in range(many)]


async def batch(door: Door, lines: int, prefix: str) -> httpx.Response:
    said = [
        json.dumps({**GOOD, "correlationId": f"{prefix}-{number}"}).encode()
        for number in range(lines)
    ]
    headers = {"Content-Type": "application/x-ndjson"}
    return await door.knock(b"\n".join(said), headers, endpoint=BATCH)


def test_over_its_rate_a_key_is_told_to_come_again_and_nothing_moves(served: Served) -> None:
    async def story(door: Door) -> None:
        assert await knocks(door, RATE) == [200] * RATE
        used, keys = await door.used(), await served.keys()
        refused = await door.knock()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.headers["content-type"] == "application/json"
        assert len(refused.headers["gateway-request-id"]) == 22
        assert refused.json() == {
            "key": "gateway.tooManyRequests",
            "message": "This key makes more requests than it may",
            "arguments": ["not_applied"],
        }
        assert (await door.used(), await served.keys()) == (used, keys)

    at(served, story)


def test_each_way_to_ask_costs_the_same(served: Served) -> None:
    async def story(door: Door) -> None:
        for endpoint in ("access_request", "signed_access_request", "preview_request"):
            assert await knocks(door, 1, endpoint=endpoint) == [200]
        assert (await batch(door, RATE - 3, "b")).status_code == 200
        for endpoint in ("access_request", "signed_access_request", "preview_request"):
            assert await knocks(door, 1, endpoint=endpoint) == [429]
        assert (await batch(door, 1, "c")).status_code == 429

    at(served, story)


def test_a_batch_costs_its_lines(served: Served) -> None:
    async def story(door: Door) -> None:
        assert (await batch(door, 1, "a")).status_code == 200
        used = await door.used()
        refused = await batch(door, RATE, "b")
        assert (refused.status_code, refused.json()["arguments"]) == (429, ["not_applied"])
        assert await door.used() == used
        assert (await batch(door, RATE - 1, "c")).status_code == 200
        assert (await batch(door, 0, "d")).status_code == 429  # an empty one is a request too

    at(served, story)


def test_a_large_batch_is_let_in_whole_and_paid_off(served: Served) -> None:
    async def story(door: Door) -> None:
        answer = await batch(door, 10 * RATE, "a")
        assert answer.status_code == 200
        assert len(answer.content.splitlines()) == 10 * RATE
        refused = await door.knock()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")

    at(served, story)


def test_bad_signatures_use_up_nobody_s_rate(served: Served) -> None:
    async def story(door: Door) -> None:
        for credential in BAD:
            assert await knocks(door, 2 * RATE, credential=credential) == [401] * 2 * RATE
        assert await knocks(door, RATE + 1) == [200] * RATE + [429]
        # Nor do they tell whose rate is used up.
        for credential in BAD:
            assert await knocks(door, 1, credential=credential) == [401]

    at(served, story)


def test_keys_and_instances_have_their_own(served: Served) -> None:
    async def story(door: Door) -> None:
        other = Door(served)
        await other.put()
        assert await knocks(door, RATE + 1) == [200] * RATE + [429]  # the RS256 key
        for number in range(RATE):
            answer = await door.knock(GOOD, credential="signed", claims={"jti": f"j{number}"})
            assert answer.status_code == 200
        answer = await door.knock(GOOD, credential="signed", claims={"jti": "j"})
        assert answer.status_code == 429
        answer = await door.knock(GOOD, credential="signed-eddsa", claims={"jti": "j"})
        assert answer.status_code == 200
        assert await knocks(other, 1) == [200]  # the same key, at another instance

    at(served, story)


def test_a_retry_within_the_gateway_costs_nothing(served: Served) -> None:
    """A catalogue that moved has the gateway judge the request anew, and once is enough."""

    async def story(door: Door) -> None:
        for number in range(RATE):
            await door.put(name=f"name {number}")
            assert await knocks(door, 1) == [200]
        assert await knocks(door, 1) == [429]

    at(served, story)
