"""Workers of `serve` that die, at their start or later: they are replaced, and service goes on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served_by import under_both
from tests.system.processes import (
    START_S,
    Processes,
    children_of,
    eventually,
    has_ended,
    read_line,
    words,
)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@under_both
@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_service_goes_on(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2", GATEWAY_LOG__FORMAT="json")
    before, store = gateway.workers(), gateway.store_pid()
    killed = before[0]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: has_ended(killed))  # or what it takes at its last moment is lost
    assert gateway.status("/livez") == 200
    eventually(lambda: has_ended(killed) and len(gateway.workers()) == 2)
    assert killed not in gateway.workers()
    assert before[1] in gateway.workers()
    assert gateway.store_pid() == store
    eventually(lambda: gateway.status("/readyz") == 200)
    assert '"worker died"' in gateway.log


@pytest.mark.slow
def test_a_further_worker_that_does_not_start_is_tried_again(processes: Processes) -> None:
    data_dir = str(processes.directory / "data")
    asked = ("--bind", "127.0.0.1:0", "--workers", "2", "--data-dir", data_dir)
    process, log_file = processes.start("serve", *asked)
    killed = second_worker(process.pid)
    os.kill(killed, signal.SIGKILL)
    assert read_line(process, START_S).startswith("ready ")
    assert has_ended(killed)
    assert second_worker(process.pid) != killed
    assert "worker died" in log_file.read_text()


@pytest.mark.slow
def test_workers_that_keep_dying_are_given_up(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    steady, store = gateway.workers()[1], gateway.store_pid()

    def has_given_up() -> bool:
        for worker in set(gateway.workers()) - {steady}:
            with contextlib.suppress(ProcessLookupError):  # it has ended of the kill before
                os.kill(worker, signal.SIGKILL)
        return gateway.process.poll() is not None

    eventually(has_given_up, within_s=180)
    assert gateway.exit_code() == 1
    assert "died 10 times in a row" in gateway.log
    assert has_ended(steady)
    assert has_ended(store)


def second_worker(pid: int) -> int:
    """Wait for the second worker of a `serve`; gives its process id."""

    found: list[int] = []  # oldest first

    def are_two() -> bool:
        found[:] = [child for child in children_of(pid) if "gateway.cli.worker" in words(child)]
        return len(found) == 2

    eventually(are_two, START_S)
    return found[-1]
