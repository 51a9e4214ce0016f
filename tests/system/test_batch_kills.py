"""kill -9 of the store in the middle of batches: sent again whole, each line counts once.

What of a batch was applied when the store died nobody knows but the store; the client sends all of
it again until every line has its answer. Source: RELIABILITY 2, INTERFACE 4.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from gateway.store.embedded import Embedded
from tests.stores.byte_proxy import ByteProxy, How
from tests.system.processes import Gateway, Processes, eventually
from tests.system.test_kills import PROVISIONING, acked, run

pytestmark = pytest.mark.slow

LINES = 600  # some calls of the script
BATCHES = 12
CLIENTS = 3
KILLS = 4
TRIES_MAX = 100


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Generate the client's key beside the provisioning file; give a client with its token."""
    run("keys", "generate", "--out", str(tmp_path))
    (tmp_path / "kills.toml").write_text(PROVISIONING)
    token = run("token", "--key", str(tmp_path / "private.pem")).strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    with httpx.Client(headers=headers, timeout=60) as http:
        yield http


def batch(name: str) -> bytes:
    return b"".join(
        json.dumps(
            {
                "correlationId": f"{name}-{number}",
                "hostId": {"type": "string", "value": f"h{number % 7}"},
                "features": [{"name": "sessions", "count": 1}],
                "incremental": True,
            }
        ).encode()
        + b"\n"
        for number in range(LINES)
    )


def send(client: httpx.Client, gateway: Gateway, body: bytes) -> list[dict[str, Any]]:
    """Send a batch once; no lines when the whole was refused, with nothing applied."""
    answer = client.post(f"{gateway.url}/api/1.0/instances/KILLS/access_requests", content=body)
    if answer.status_code == 503:
        assert answer.json()["arguments"] == ["not_applied"]
        return []
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) == LINES
    assert {line["status"] for line in lines} <= {200, 503}
    return lines


@pytest.mark.parametrize("deadline_ms", [2_000, 100])
def test_kills_of_the_store_in_the_middle_of_batches_lose_and_double_no_line(
    tmp_path: Path, processes: Processes, client: httpx.Client, deadline_ms: int
) -> None:
    """With time enough the gateway sends again by itself, with too little the client has to."""
    data_dir = tmp_path / "data"
    run("apply", str(tmp_path / "kills.toml"), "--data-dir", str(data_dir))
    gateway = processes.serve(data_dir=data_dir, GATEWAY_REDIS__DEADLINE_MS=str(deadline_ms))
    done, again = [0] * CLIENTS, [0] * CLIENTS
    over = threading.Event()

    def work(number: int) -> None:
        for at in range(BATCHES):
            body = batch(f"{number}-{at}")
            for _ in range(TRIES_MAX):
                lines = send(client, gateway, body)
                if lines and all(line["status"] == 200 for line in lines):
                    break
                again[number] += 1
            else:
                pytest.fail("the store did not come back")
            done[number] += 1

    def kill() -> None:
        for number in range(1, KILLS + 1):
            goal = number * CLIENTS * BATCHES // (KILLS + 2)
            eventually(lambda goal=goal: over.is_set() or sum(done) >= goal, 120)
            if over.is_set():
                return
            killed = gateway.store_pid()
            os.kill(killed, signal.SIGKILL)
            # The next kill must find one that was started after this one, and a batch on its way.
            eventually(lambda killed=killed: over.is_set() or has_another_store(gateway, killed))
            before = sum(done)
            eventually(lambda before=before: over.is_set() or sum(done) > before, 120)

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        killing = pool.submit(kill)
        try:
            for each in [pool.submit(work, number) for number in range(CLIENTS)]:
                each.result(300)
        finally:
            over.set()
        killing.result(120)
    assert sum(again) > 0 or deadline_ms == 2_000, "no kill met a batch"
    assert acked(tmp_path, "--data-dir", str(data_dir)) == CLIENTS * BATCHES * LINES


def has_another_store(gateway: Gateway, killed: int) -> bool:
    try:
        return gateway.store_pid() != killed
    except redis.RedisError:  # it is on its way
        return False


def test_lines_that_were_counted_and_not_answered_are_replayed(
    tmp_path: Path, processes: Processes, client: httpx.Client
) -> None:
    """The store has the first call of a batch; its reply, and what is behind it, never comes."""
    store = Embedded(tmp_path / "store")
    socket_path = Path(store.ensure())
    proxy = ByteProxy(socket_path)
    try:
        through = ("--redis", proxy.url)
        run("apply", str(tmp_path / "kills.toml"), *through)
        gateway = processes.serve(*through)
        send(client, gateway, batch("warm"))
        proxy.replies.become(How.SWALLOW)
        lost = send(client, gateway, batch("one"))
        assert {line["status"] for line in lost} == {503}
        outcomes = [line["response"]["arguments"][0] for line in lost]
        sent = outcomes.count("unknown")
        assert 0 < sent < LINES
        assert outcomes == ["unknown"] * sent + ["not_applied"] * (LINES - sent)
        proxy.heal()

        lines = send(client, gateway, batch("one"))
        assert [line["status"] for line in lines] == [200] * LINES
        assert [line["replayed"] for line in lines] == [True] * sent + [False] * (LINES - sent)
        assert acked(tmp_path, *through) == 2 * LINES
    finally:
        proxy.close()
        store.close()
