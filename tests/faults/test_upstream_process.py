"""The upstream process does what its plan says, on real sockets, and its books survive kill -9."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.model import Line, Model
from gateway.core.ports import Answer
from gateway.core.usage import Row, choose_events
from gateway.upstream import cloudevents
from gateway.upstream.cmapi import CmapiUpstream
from gateway.upstream.cmapi import encode as encode_access_request
from gateway.upstream.cmapi import judge as judge_access
from tests.faults.ledger import FILES, Accepted
from tests.faults.plan import FAULTS, PASSING, Plan, decode_plan, encode_plan, fault_at
from tests.faults.works import PROGRAM, Upstream
from tests.system.processes import eventually

pytestmark = pytest.mark.slow

BEARER = {"Authorization": "Bearer token", "Content-Type": "application/json"}
TIMEOUT_S = 30.0
SILENT_S = 1.0  # that one is waited for who does not answer


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "up") as started:
        yield started
        assert started.log == ""


def access_request(**units: int) -> dict[str, Any]:
    return {
        "hostId": {"type": "string", "value": "DEMO"},
        "incremental": True,
        "partial": False,
        "borrow-interval": "0d",
        "features": [
            {"name": name, "version": "1.0", "count": count} for name, count in units.items()
        ],
    }


def post(
    upstream: Upstream, batch: str, timeout_s: float = TIMEOUT_S, **units: int
) -> httpx.Response:
    return httpx.post(
        f"{upstream.access_url}/access_request",
        json=access_request(**units),
        headers={**BEARER, "Idempotency-Key": batch},
        timeout=timeout_s,
    )


def event(id_: str, units: int, line: str = "L1") -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "cmapi-gateway.usage.v1",
        "source": "/instances/DEMO",
        "id": id_,
        "subject": "DEMO",
        "time": "2026-11-22T09:00:00.000Z",
        "data": {"instance": "DEMO", "line": line, "feature": "sessions", "units": units},
    }


def post_events(upstream: Upstream, *events: dict[str, Any]) -> httpx.Response:
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    content = json.dumps(events).encode()
    return httpx.post(upstream.events_url, content=content, headers=headers, timeout=TIMEOUT_S)


def outcome(
    upstream: Upstream, batch: str, timeout_s: float = TIMEOUT_S, **units: int
) -> int | str:
    """Post, and give the status, or the name of what came instead of one."""
    try:
        return post(upstream, batch, timeout_s, **units).status_code
    except httpx.HTTPError as error:
        return type(error).__name__


def test_an_id_is_counted_once_also_after_kill_and_restart(upstream: Upstream) -> None:
    first = post(upstream, "a", sessions=42, users=7)
    assert (first.status_code, first.json()["statusList"]) == (200, [])
    port = upstream.port
    upstream.restart()
    assert upstream.port == port
    again = post(upstream, "a", sessions=42, users=7)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["statusList"] == []
    assert again.content != first.content
    assert upstream.totals() == {"sessions": 42, "users": 7}
    assert [each.id for each in upstream.accepted()] == ["a"]
    assert (upstream.arrived("a"), upstream.arrived("b")) == (True, False)


def test_one_id_with_two_contents_is_refused_and_remembered(upstream: Upstream) -> None:
    post(upstream, "a", sessions=42)
    assert post(upstream, "a", sessions=43).status_code == 422
    assert [each.id for each in upstream.seen()] == ["a", "a"]
    assert upstream.totals() == {"sessions": 42}


def test_an_upstream_that_forgets_counts_a_repeat_and_says_so(tmp_path: Path) -> None:
    with Upstream(tmp_path, forgets=True) as upstream:
        for _ in range(2):
            assert "idempotency-replayed" not in post(upstream, "a", sessions=42).headers
            upstream.restart()
        assert [each.again for each in upstream.accepted()] == [False, True]
        assert upstream.totals() == {"sessions": 42}


def test_events_are_told_apart_by_source_and_id(upstream: Upstream) -> None:
    assert post_events(upstream, event("b/0", 5), event("b/1", 6, "L2")).status_code == 204
    upstream.restart()
    assert post_events(upstream, event("b/1", 6, "L2"), event("b/2", 7)).status_code == 204
    assert upstream.totals() == {"L1": 12, "L2": 6}
    assert {each.batch for each in upstream.accepted()} == {"b"}
    # The batch as a whole arrived with two contents, its events with one each.
    assert len(upstream.seen()) == 5


@pytest.mark.parametrize(
    "name", sorted(name for name, fault in FAULTS.items() if name and not fault.status)
)
def test_a_fault_on_the_connection_counts_as_its_name_says(upstream: Upstream, name: str) -> None:
    upstream.follow(Plan(script=[name], drip_s=0.001, late_s=0.01))
    expected: dict[str, int | str] = {
        "hang": "ReadTimeout",
        "close": "RemoteProtocolError",
        "reset": "ReadError",
        "half": "RemoteProtocolError",
        "late": 200,
        "drip": 200 if FAULTS[name].applies else 503,
    }
    word = name.removesuffix(" applied")
    timeout_s = SILENT_S if word == "hang" else TIMEOUT_S
    assert outcome(upstream, "a", timeout_s, sessions=1) == expected[word]
    eventually(upstream.handled)  # who was not answered may have gone away before
    applied = FAULTS[name].applies
    assert upstream.totals() == ({"sessions": 1} if applied else {})
    assert [(each.fault, each.applied) for each in upstream.handled()] == [(name, applied)]
    assert outcome(upstream, "a", sessions=1) == 200  # the plan is used up
    assert upstream.totals() == {"sessions": 1}


def test_faults_with_a_status_answer_it_and_count_as_their_name_says(upstream: Upstream) -> None:
    names = [name for name, fault in FAULTS.items() if fault.status]
    upstream.follow(Plan(script=names, retry_after_s=7))
    for name in names:
        answer = post(upstream, name, sessions=1)
        assert answer.status_code == FAULTS[name].status, name
        assert (answer.headers.get("retry-after") == "7") == FAULTS[name].waits
        assert (name in {each.id for each in upstream.accepted()}) == FAULTS[name].applies, name


def test_two_bodies_are_one_that_cannot_be_read_and_another_grant(upstream: Upstream) -> None:
    upstream.follow(Plan(script=["two bodies"]))
    first = post(upstream, "a", sessions=1, users=2)
    with pytest.raises(ValueError, match="Unterminated"):
        first.json()
    assert post(upstream, "a", sessions=1, users=2).json()["features"][0]["name"] == "users"
    assert upstream.totals() == {"sessions": 1, "users": 2}


def test_a_collector_never_answers_2xx_for_what_it_did_not_take(upstream: Upstream) -> None:
    upstream.follow(Plan(script=["garbage", "garbage applied"]))
    assert post_events(upstream, event("b/0", 5)).status_code == 502
    assert upstream.totals() == {}
    assert post_events(upstream, event("b/0", 5)).status_code == 200
    assert upstream.totals() == {"L1": 5}


def test_features_are_refused_by_name_until_there_is_room(upstream: Upstream) -> None:
    upstream.follow(Plan(capacity={"users": 5}, takes_back=False))
    refused = post(upstream, "a", sessions=1, users=6).json()["statusList"]
    assert [(each["name"], each["code"]) for each in refused] == [
        ("users", "FEATURE_COUNT_INSUFFICIENT")
    ]
    assert post(upstream, "b", users=-1).json()["statusList"][0]["code"] == "UNDO_WINDOW_CLOSED"
    assert upstream.totals() == {}
    upstream.follow(Plan(capacity={"users": 6}))
    assert post(upstream, "a", sessions=1, users=6).json()["statusList"] == []
    assert post(upstream, "b", users=-1).json()["statusList"] == []
    assert upstream.totals() == {"sessions": 1, "users": 5}


def test_an_exact_upstream_remembers_a_denial_under_its_id(tmp_path: Path) -> None:
    with Upstream(tmp_path, exact=True) as upstream:
        upstream.follow(Plan(script=["500 applied"], capacity={"users": 0}))
        assert post(upstream, "a", users=6).status_code == 500
        upstream.restart()
        upstream.follow(Plan())
        denied = post(upstream, "a", users=6)
        assert denied.json()["statusList"][0]["name"] == "users"
        assert "gateway-request-id" in denied.headers
        assert post(upstream, "b", users=6).json()["statusList"] == []
        assert upstream.totals() == {"users": 6}


def test_poison_and_size_are_refused_whatever_the_script(upstream: Upstream) -> None:
    upstream.follow(Plan(poison=["L2", "users"], bytes_max=400))
    assert post(upstream, "a", sessions=1, users=1).status_code == 422
    assert post_events(upstream, event("b/0", 1, "L2")).status_code == 422
    assert post_events(upstream, event("b/0", 1), event("b/1", 1)).status_code == 413
    assert upstream.totals() == {}
    assert post_events(upstream, event("b/0", 1)).status_code == 204


def test_what_is_not_as_documented_is_a_400(upstream: Upstream) -> None:
    assert post(upstream, "a", sessions=1, users=-1).status_code == 400
    assert post(upstream, "", sessions=1).status_code == 400
    assert post_events(upstream, event("no-row", 1)).status_code == 400
    assert post_events(upstream, event("b/0", 0)).status_code == 400
    assert upstream.totals() == {}


def test_a_script_goes_on_after_a_kill_where_it_was(upstream: Upstream) -> None:
    upstream.follow(Plan(script=["500", "", "502"]))
    got = []
    for batch in "abcd":
        got.append(outcome(upstream, batch, sessions=1))
        upstream.restart()
    assert got == [500, 200, 502, 200]


def test_a_line_that_a_kill_cut_in_half_was_never_written(upstream: Upstream) -> None:
    post(upstream, "a", sessions=1)
    upstream.kill()
    with (upstream.directory / FILES[Accepted]).open("ab") as file:
        file.write(b'{"id": "b", "units"')
    assert upstream.totals() == {"sessions": 1}
    upstream.start()
    post(upstream, "b", sessions=2)
    assert upstream.totals() == {"sessions": 3}


def test_a_paused_upstream_takes_connections_and_answers_when_it_goes_on(
    upstream: Upstream,
) -> None:
    upstream.pause()
    assert outcome(upstream, "a", SILENT_S, sessions=1) == "ReadTimeout"
    upstream.resume()
    assert outcome(upstream, "a", sessions=1) == 200
    assert upstream.totals() == {"sessions": 1}


def test_a_mix_is_the_same_for_the_same_seed_and_ends() -> None:
    plan = Plan(seed=7, script=["500"], mix=PASSING, mix_requests=300)
    drawn = [fault_at(plan, number) for number in range(400)]
    assert drawn == [fault_at(decode_plan(encode_plan(plan)), number) for number in range(400)]
    assert drawn[0] == "500"
    assert PASSING.keys() <= set(drawn[1:301])
    assert set(drawn[301:]) == {""}
    other = Plan(seed=8, script=["500"], mix=PASSING, mix_requests=300)
    assert drawn != [fault_at(other, number) for number in range(400)]


def test_a_plan_with_a_fault_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no such fault"):
        Plan(script=["418"])


def test_it_takes_what_our_own_encoders_write(upstream: Upstream) -> None:
    """Both sides were written from the documents, neither from the other."""
    line = Line(
        id="L1", feature="sessions", version="1.0", model=Model.METERED, count=9, capacity=9
    )
    choice = choose_events([Row("L1", 494_000, "", 5), Row("L1", 494_001, "", -2)], {"L1": line})
    config = CmapiUpstream(name="up", url=upstream.access_url, dedupe_horizon_ms=0, interval_s=1)
    answer = httpx.post(
        config.endpoint,
        content=encode_access_request(config, choice, "DEMO"),
        headers={**BEARER, "Idempotency-Key": "a"},
        timeout=TIMEOUT_S,
    )
    verdict = judge_access(answer.status_code, answer.headers, answer.content)
    assert verdict.answer is Answer.GRANTED
    answer = httpx.post(
        upstream.events_url,
        content=cloudevents.encode(choice, "DEMO", "b", {"L1": line}),
        headers={"Content-Type": cloudevents.MEDIA_TYPE},
        timeout=TIMEOUT_S,
    )
    verdict = cloudevents.judge(answer.status_code, answer.headers, answer.content)
    assert verdict.answer is Answer.GRANTED
    assert upstream.totals() == {"sessions": 3, "L1": 3}


def test_it_runs_by_its_path_from_anywhere(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*PROGRAM, "--help"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
