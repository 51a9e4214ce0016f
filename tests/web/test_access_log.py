"""The access log: a line per answered request where it is asked for, and what must not be in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.vectors.served import Served, serving
from tests.web.doors import GOOD, Door, at
from tests.web.floats import INSTANCE, Floats, floats_serving

MEMBERS = [
    *("event", "log_level", "request_id", "protocol", "method", "route", "status", "outcome"),
    "duration_ms",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("log"), prelude=None, LOG__ACCESS="true") as opened:
        yield opened


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floats]:
    with floats_serving(tmp_path_factory.mktemp("floats"), LOG__ACCESS="true") as opened:
        yield opened


def lines_of(logs: list[Any]) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == "request"]


def test_a_line_tells_what_a_request_came_to_and_whose_it_was(served: Served) -> None:
    async def story(door: Door) -> None:
        with capture_logs() as logs:
            answer = await door.knock(credential="token-kid")
        (line,) = lines_of(logs)
        assert line.pop("duration_ms") > 0
        assert line == {
            "event": "request",
            "log_level": "info",
            "request_id": answer.headers["gateway-request-id"],
            "protocol": "cmapi",
            "method": "POST",
            "route": "access_request",
            "status": 200,
            "outcome": "granted",
            "instance": door.instance,
            "kid": "own-RS256",
        }

    at(served, story)


def test_a_batch_is_one_line_that_says_how_many_it_had(served: Served) -> None:
    async def story(door: Door) -> None:
        said = b"\n".join(
            json.dumps({**GOOD, "correlationId": str(number)}).encode() for number in range(3)
        )
        with capture_logs() as logs:
            await door.knock(
                said, {"Content-Type": "application/x-ndjson"}, endpoint="access_requests"
            )
        (line,) = lines_of(logs)
        assert (line["outcome"], line["lines"]) == ("answered", 3)

    at(served, story)


@pytest.mark.parametrize(
    ("more", "status", "outcome", "known"),
    [
        ({"credential": "none"}, 401, "unauthorized", False),
        ({"instance": "made-up"}, 401, "unauthorized", False),
        ({"body": b"{"}, 400, "invalid", True),
        ({"endpoint": "no-such-endpoint"}, 404, "invalid", False),
    ],
)
def test_what_a_client_merely_wrote_is_in_no_line(
    served: Served, more: dict[str, Any], status: int, outcome: str, known: bool
) -> None:
    async def story(door: Door) -> None:
        with capture_logs() as logs:
            await door.knock(**more)
        (line,) = lines_of(logs)
        assert (line["status"], line["outcome"]) == (status, outcome)
        assert (line.get("instance"), "kid" in line) == (door.instance if known else None, known)
        assert set(line) - {"instance", "kid"} <= set(MEMBERS)
        assert "made-up" not in str(line)
        assert "no-such-endpoint" not in str(line)

    at(served, story)


def test_a_method_that_is_none_is_not_repeated(served: Served) -> None:
    async def story(door: Door) -> None:
        with capture_logs() as logs:
            await served.http.request("OPAQUE7", f"/api/1.0/instances/{door.instance}/features")
        (line,) = lines_of(logs)
        assert (line["method"], line["status"]) == ("_OTHER", 405)
        assert "OPAQUE7" not in str(logs)

    at(served, story)


def test_health_checks_and_scrapes_that_succeed_are_no_lines(served: Served) -> None:
    async def story(door: Door) -> None:
        with capture_logs() as logs:
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await served.http.get(path)).status_code == 200
            await served.http.get("/.well-known/jwks.json")
        assert [line["route"] for line in lines_of(logs)] == ["keys"]

    at(served, story)


def test_floating_clients_are_told_of_as_theirs(floats: Floats) -> None:
    async def story() -> None:
        with capture_logs() as logs:
            await floats.client().register()
        line = lines_of(logs)[-1]
        assert (line["protocol"], line["outcome"]) == ("licensespring", "granted")
        assert (line["route"], line["instance"]) == ("licensespring_register", INSTANCE)

    floats.run(story)


def test_nothing_is_logged_of_a_request_unless_asked_for(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def story(door: Door) -> None:
        with capture_logs() as logs:
            assert (await door.knock()).status_code == 200
            assert (await door.knock(credential="none")).status_code == 401
        assert logs == []

    with serving(tmp_path_factory.mktemp("quiet"), prelude=None) as quiet:
        at(quiet, story)
