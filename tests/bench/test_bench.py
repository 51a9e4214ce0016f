"""`bench` measures what it says and writes it down; how fast this machine is is not judged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.benchmarks import empty
from gateway.cli.benchmarks.cases import Cases
from gateway.cli.benchmarks.load import Generator, LoadFailed
from gateway.cli.benchmarks.processes import EMPTY, started

pytestmark = pytest.mark.bench


def test_all_cases_are_measured_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    program = "from gateway.cli import main; main()"
    arguments = ["bench", "--seconds", "12", "--json", str(file)]
    told = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    report = json.loads(file.read_text())
    assert len(report["cases"]) == 4
    for case in report["cases"].values():
        assert case["requests_per_s"] > 0
        assert case["p50_ms"] <= case["p99_ms"]
    assert set(report["ratios"]) == {"token / empty POST", "signed ES256 / empty POST"}


def test_the_bundled_client_does_without_wrk(tmp_path: Path) -> None:
    async def main() -> None:
        async with started(EMPTY, {}, tmp_path / "log") as server:
            load = Cases.make().empty(server.url + empty.PATH)
            sample = await Generator(None, tmp_path).run(load, 1.0, server.pid)
            assert sample.requests > 100
            assert sample.errors == 0

    asyncio.run(main())


def test_a_server_that_refuses_the_load_voids_the_round(tmp_path: Path) -> None:
    async def main() -> None:
        async with started(EMPTY, {}, tmp_path / "log") as server:
            load = Cases.make().empty(server.url + "/elsewhere")
            for generator in (Generator(None, tmp_path), Generator.find(tmp_path)):
                with pytest.raises(LoadFailed):
                    await generator.run(load, 1.0, server.pid)

    asyncio.run(main())
