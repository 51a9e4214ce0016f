"""`bench` measures what it says and writes it down; how fast this machine is is not judged."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.benchmarks import empty, processes
from gateway.cli.benchmarks.generator import Generator, LoadFailed
from gateway.cli.benchmarks.processes import started
from gateway.cli.benchmarks.scene import Scene
from gateway.web.servers import HYPERCORN
from tests.system.processes import Processes, children_of, clean_environ, eventually, has_ended

COMMAND = (sys.executable, "-m", "gateway", "bench")
TOLD_S_MAX = 240.0  # of what takes some 20 s on a machine that is not busy
pytestmark = pytest.mark.slow


def _bench(*arguments: str, within_s: float = TOLD_S_MAX) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
        env=clean_environ(),
    )


def test_targets_are_measured_side_by_side_and_written_down(tmp_path: Path) -> None:
    file, data_dir = tmp_path / "bench.json", tmp_path / "data"
    told = _bench(
        *("--only", "R1", "--seconds", "3"),
        *("--json", str(file), "--data-dir", str(data_dir)),
    )
    assert told.returncode == 0, told.stderr
    report = json.loads(file.read_text())
    _is_whole(report, ["R1"], ["empty POST", "empty POST, our connections", "token"])
    assert "token ÷ empty POST" in told.stdout
    assert list(data_dir.iterdir()) == []


@pytest.mark.bench
def test_each_target_is_measured(tmp_path: Path) -> None:
    """But for the two that take minutes, and the one that needs a server which is an extra."""
    file = tmp_path / "bench.json"
    numbers = ["R1", "R2", "R3", "R4", "R7", "R8", "R9", "R11", "R12"]
    asked = ("--only", ",".join(numbers), "--seconds", "1", "--json", str(file))
    told = _bench(*asked, within_s=1_200)
    assert told.returncode == 0, told.stderr
    report = json.loads(file.read_text())
    _is_whole(report, numbers, list(report["cases"]))
    assert len(report["cases"]) == 11


def _is_whole(report: dict[str, Any], numbers: list[str], cases: list[str]) -> None:
    assert report["run"]["whole"]
    assert list(dict.fromkeys(each["target"] for each in report["targets"])) == numbers
    for target in report["targets"]:
        assert target["value"]["min"] <= target["value"]["median"] <= target["value"]["max"]
        assert target["reached"] in (True, False)
    assert list(report["cases"]) == cases
    for name, case in report["cases"].items():
        assert case["requests_per_s"]["median"] > 0
        assert case["p50_ms"]["median"] <= case["p99_ms"]["median"]
        assert len(report["figures"][f"{name}.requests_per_s"]) == report["run"]["rounds"] == 3


def test_a_run_that_is_broken_off_leaves_nothing_running_and_tells_what_it_has(
    tmp_path: Path,
) -> None:
    running = Processes(tmp_path)
    try:
        file, data_dir = tmp_path / "bench.json", tmp_path / "data"
        asked = ("bench", "--only", "R12,R1", "--seconds", "3600")
        more = ("--json", str(file), "--data-dir", str(data_dir))
        process, log_file = running.start(*asked, *more)

        def under_load() -> bool:
            # Behind the starts, when three servers are there, or two of them and who asks them.
            assert process.poll() is None, log_file.read_text()
            return len(children_of(process.pid)) == 3

        eventually(under_load, TOLD_S_MAX)
        children = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=TOLD_S_MAX)
        assert process.returncode == 130, log_file.read_text()
        eventually(lambda: all(map(has_ended, children)), TOLD_S_MAX)
        assert "It was broken off" in told
        report = json.loads(file.read_text())
        assert not report["run"]["whole"]
        values = {each["target"]: each["value"] for each in report["targets"]}
        assert values["R12"] is not None
        assert list(data_dir.iterdir()) == []
    finally:
        running.close()


def test_what_it_started_ends_with_it_however_it_ends(tmp_path: Path) -> None:
    running = Processes(tmp_path)
    try:
        asked = ("bench", "--only", "R1", "--seconds", "3600", "--data-dir", str(tmp_path))
        process, _ = running.start(*asked)
        eventually(lambda: len(children_of(process.pid)) >= 2, TOLD_S_MAX)
        servers = children_of(process.pid)[:2]
        process.kill()
        eventually(lambda: all(map(has_ended, servers)), TOLD_S_MAX)
    finally:
        running.close()


def test_the_bundled_client_does_without_wrk(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene()
        async with started(processes.empty(HYPERCORN), {}, tmp_path / "log") as server:
            loads = (
                scene.empty(server.url, empty.PATH),
                scene.empty(server.url, empty.PATH, connections=3),
            )
            for load in loads:
                sample = await Generator(None, tmp_path).run(load, 1.0, server.pid)
                assert sample.requests > 0
                assert sample.errors == 0
                assert sample.p50_ms <= sample.p99_ms

    asyncio.run(main())


def test_a_server_that_refuses_the_load_voids_the_round(tmp_path: Path) -> None:
    async def main() -> None:
        async with started(processes.empty(HYPERCORN), {}, tmp_path / "log") as server:
            load = Scene().empty(server.url, "/elsewhere")
            for generator in (Generator(None, tmp_path), Generator.find(tmp_path)):
                with pytest.raises(LoadFailed):
                    await generator.run(load, 1.0, server.pid)

    asyncio.run(main())
