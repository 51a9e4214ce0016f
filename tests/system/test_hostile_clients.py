"""Clients that mean no good, by the hundred: memory stays bounded, and the others are served.

Each kind is tests/system/crowd.py's, in a process of its own beside one honest client, and is seen
to be sent away: the gateway waits little, that it need not be waited for long. Of memory the
peak counts. Figures are printed. Source: RELIABILITY 4 row 16.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system.crowd import KINDS
from tests.system.processes import ROOT, Gateway, Processes, clean_environ
from tests.system.test_kills import PROVISIONING, run

MEMORY_BYTES_MAX = 64 * 2**20  # that it may grow by
SLOWER_MAX = 5  # times, at the 99th percentile
SLOW_S = 0.3  # what is below this is not called slow: the crowd is on the same machine
SPANS_MAX = 8  # what is slow in each is slow for the crowd's sake, in one for any other reason
REQUESTS = 300
SPAN_S = 1.8  # that they are spread over, at least
# How long a head may take: more than the client asks for, so that it asks beside all of them.
IMPATIENT = {"GATEWAY_SERVER__HEADER_TIMEOUT_S": "3"}
PATIENT = {"GATEWAY_REDIS__DEADLINE_MS": "20000"}  # of the honest one nothing is refused
AWAY_S = 40.0
THERE_S = 60.0
STAYING = {"streams"}  # its requests were answered, but not ended: they have REQUEST_S_MAX


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.mark.slow
def test_hostile_clients_cost_little_memory_and_others_little_time(
    tmp_path: Path, processes: Processes
) -> None:
    run("keys", "generate", "--out", str(tmp_path))
    (tmp_path / "kills.toml").write_text(PROVISIONING)
    token = run("token", "--key", str(tmp_path / "private.pem")).strip()
    gateway = processes.serve(**IMPATIENT, **PATIENT)
    run("apply", str(tmp_path / "kills.toml"), "--data-dir", str(gateway.data_dir))
    with httpx.Client(
        base_url=gateway.url, headers={"Authorization": f"Bearer {token}"}, timeout=30
    ) as client:
        honest(client, "warm", 0)
        before = peak_bytes(gateway)
        for kind in KINDS:
            calm_s = honest(client, f"calm-{kind}", 0)  # just before: others may load the machine
            print(f"\ncalm: p99 {calm_s * 1e3:.1f} ms, {before / 2**20:.0f} MiB before")
            with crowd(gateway, kind):
                for span in range(SPANS_MAX):
                    slow_s = honest(client, f"{kind}-{span}", SPAN_S)
                    grown = peak_bytes(gateway) - before
                    print(f"{kind}: p99 {slow_s * 1e3:.1f} ms, memory {grown / 2**20:+.0f} MiB")
                    assert grown < MEMORY_BYTES_MAX, kind
                    if slow_s < max(SLOWER_MAX * calm_s, SLOW_S):
                        break
                else:
                    raise AssertionError(f"{kind} slowed others down {SPANS_MAX} times")
        honest(client, "after", 0)
    assert "unexpected" not in gateway.log


def honest(client: httpx.Client, name: str, span_s: float) -> float:
    """Ask REQUESTS times; each is answered well. Give the 99th percentile of the delays, in s."""
    delays_s = []
    for number in range(REQUESTS):
        began_s = time.monotonic()
        answer = client.post(
            "/api/1.0/instances/KILLS/access_request",
            json={
                "hostId": {"type": "string", "value": "h1"},
                "incremental": True,
                "features": [{"name": "sessions", "count": 1}],
            },
            headers={"Idempotency-Key": f"{name}-{number}"},
        )
        delays_s.append(time.monotonic() - began_s)
        assert answer.status_code == 200, answer.text
        time.sleep(span_s / REQUESTS)
    return sorted(delays_s)[REQUESTS * 99 // 100]


@contextmanager
def crowd(gateway: Gateway, kind: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.system.crowd", str(gateway.port), kind],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=clean_environ(),
    )
    said = bytearray()
    try:
        hear(process, said, b"there", THERE_S)
        yield
        if kind not in STAYING:
            hear(process, said, b"back", AWAY_S)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def hear(process: subprocess.Popen[bytes], said: bytearray, word: bytes, within_s: float) -> None:
    """Wait until a process has said a word; fail when it does not, or ends."""
    assert process.stdout is not None
    deadline_s = time.monotonic() + within_s
    while word not in said:
        left_s = max(0.0, deadline_s - time.monotonic())
        assert select.select([process.stdout], [], [], left_s)[0], f"{word!r} was not said"
        said += os.read(process.stdout.fileno(), 4096) or pytest.fail("the crowd is gone")


def peak_bytes(gateway: Gateway) -> int:
    """Give the most that a gateway has had of real memory."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (line,) = (each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
