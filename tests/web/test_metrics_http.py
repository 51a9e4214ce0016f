"""Metrics over HTTP: what each kind of request moves, and that nothing of a client is in a label.

Source: INTERFACE 5. The parsers are Prometheus's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.core.metrics import METRICS
from tests.vectors.served import Served, serving
from tests.web.doors import GOOD, Door, at
from tests.web.floats import INSTANCE, Floats, floats_serving
from tests.web.scrapes import OPENMETRICS, moved, parsed, scrape

REQUESTS = "gateway_access_requests_total"
DENIALS = "gateway_denials_total"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("metrics"), prelude=None) as opened:
        yield opened


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("floats")) as opened:
        yield opened


def asking(count: int, **more: Any) -> dict[str, Any]:
    return {**GOOD, "features": [{"name": "sessions", "count": count}], **more}


TOO_MANY = asking(10**9)
PARTLY = asking(10**9, partial=True)
UNKNOWN = {**GOOD, "features": [{"name": "sessions"}, {"name": "nothing"}], "partial": True}

Knock = Callable[[Door], Awaitable[Any]]
KNOCKS: list[tuple[str, Knock]] = [
    ("granted", lambda door: door.knock(asking(1))),
    ("denied", lambda door: door.knock(TOO_MANY)),
    ("partial", lambda door: door.knock(UNKNOWN)),
    ("preview", lambda door: door.knock(endpoint="preview_request")),
    ("granted", lambda door: door.knock(endpoint="signed_access_request")),
    ("unauthorized", lambda door: door.knock(credential="none")),
    ("unauthorized", lambda door: door.knock(credential="token-tampered")),
    ("unauthorized", lambda door: door.knock(instance="no-such-instance")),
    ("invalid", lambda door: door.knock(b"{")),
    ("invalid", lambda door: door.knock(headers={"Content-Type": "text/plain"})),
    ("invalid", lambda door: door.knock(b"x" * 70_000)),
]


@pytest.mark.parametrize(("outcome", "knock"), KNOCKS)
def test_each_request_is_counted_once_by_what_it_came_to(
    served: Served, outcome: str, knock: Knock
) -> None:
    async def story(door: Door) -> None:
        before = await scrape(served.http)
        await knock(door)
        after = await scrape(served.http)
        assert moved(before, after, REQUESTS) == {(outcome, "cmapi"): 1}
        assert moved(before, after, "gateway_access_seconds_count") == {(): 1}
        (took_s,) = moved(before, after, "gateway_access_seconds_sum").values()
        assert 0 < took_s < 20

    at(served, story)


def test_a_repeat_is_told_as_one_and_its_denials_are_not_told_again(served: Served) -> None:
    async def story(door: Door) -> None:
        before = await scrape(served.http)
        for _ in range(3):
            await door.knock(TOO_MANY, {"Idempotency-Key": "again"})
        await door.knock(asking(1), {"Idempotency-Key": "again"})
        await door.knock(TOO_MANY, endpoint="preview_request")
        after = await scrape(served.http)
        assert moved(before, after, REQUESTS) == {
            ("denied", "cmapi"): 1,
            ("replayed", "cmapi"): 2,
            ("invalid", "cmapi"): 1,
            ("preview", "cmapi"): 1,
        }
        assert moved(before, after, DENIALS) == {("FEATURE_COUNT_INSUFFICIENT",): 1}

    at(served, story)


def test_each_line_of_a_batch_is_a_request_and_none_is_timed(served: Served) -> None:
    async def story(door: Door) -> None:
        before = await scrape(served.http)
        lines = (asking(1, correlationId="a"), {**TOO_MANY, "correlationId": "b"}, {"no": 1})
        said = b"\n".join(json.dumps(line).encode() for line in lines)
        ndjson = {"Content-Type": "application/x-ndjson"}
        await door.knock(said, ndjson, endpoint="access_requests")
        await door.knock(said, ndjson, endpoint="access_requests", credential="none")
        again = json.dumps(lines[0]).encode()
        await door.knock(again, ndjson, endpoint="access_requests")
        after = await scrape(served.http)
        assert moved(before, after, REQUESTS) == {
            ("granted", "cmapi_batch"): 1,
            ("replayed", "cmapi_batch"): 1,
            ("denied", "cmapi_batch"): 1,
            ("invalid", "cmapi_batch"): 1,
            ("unauthorized", "cmapi_batch"): 1,
        }
        assert moved(before, after, "gateway_access_seconds_count") == {}

    at(served, story)


@pytest.mark.parametrize("version", [1, 2])
def test_calls_of_floating_clients_are_counted_as_theirs(floats: Floats, version: int) -> None:
    async def story() -> None:
        http = floats.served.http
        before = await scrape(http)
        client = floats.client(version=version)
        assert (await client.register()).status == 200
        assert (await client.add(10**9)).status == 400
        await http.post("/api/v4/register", content=b"{")
        await http.get("/api/v4/license?product=PROD")
        after = await scrape(http)
        counted = moved(before, after, REQUESTS)
        assert counted == {
            ("granted", "licensespring"): 1,
            ("denied", "licensespring"): 1,
            ("invalid", "licensespring"): 1,
        }
        assert sum(moved(before, after, DENIALS).values()) == 1

    floats.run(story)


def test_both_forms_are_read_by_prometheus_and_say_the_same(served: Served) -> None:
    async def story(door: Door) -> None:
        await door.knock()
        plain = parsed(await served.http.get("/metrics"))
        strict = parsed(await served.http.get("/metrics", headers={"Accept": OPENMETRICS}))
        names = {metric.name.removesuffix("_total").removesuffix("_info") for metric in METRICS}
        assert {family.name for family in strict} == names
        assert {family.name.removesuffix("_info") for family in plain} == names
        assert all(family.documentation for family in strict)

    at(served, story)


def test_no_host_no_instance_and_no_path_is_in_any_label(served: Served, floats: Floats) -> None:
    async def story(door: Door) -> None:
        secret = "h-5ecret"
        await door.knock({**asking(1), "hostId": {"type": "string", "value": secret}})
        await door.knock({**asking(1), "features": [{"name": secret}]})
        await door.knock(instance=secret)
        await served.http.get(f"/{secret}/{secret}")
        text = (await served.http.get(f"/metrics?{secret}")).text
        assert secret not in text
        assert door.instance not in text

    at(served, story)
    floats.run(lambda: _holds_no(floats, INSTANCE, "PROD", "alice"))


async def _holds_no(floats: Floats, *words: str) -> None:
    await floats.client("alice").register()
    text = (await floats.served.http.get("/metrics")).text
    assert [word for word in words if word in text] == []


def test_a_scrape_is_answered_while_the_store_is_away(served: Served) -> None:
    async def story(door: Door) -> None:
        await door.knock()
        pid = (await served.store.info("server"))["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):  # the store would be waited for twice as long
                assert (await scrape(served.http))["gateway_workers",] == 1
        finally:
            os.kill(pid, signal.SIGCONT)

    at(served, story)
