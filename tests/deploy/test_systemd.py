"""The units are what systemd takes, run commands that there are, and let a process do little.

Judged by `systemd-analyze` where it is installed; no systemd runs here, so nothing is started.
"""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gateway.settings import Limits, Server
from tests.deploy.files import DEPLOY, END_S_MAX
from tests.stores.programs import demand

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
INSTALLED = "/opt/cmapi-gateway/bin/cmapi-gateway"
THERE = "/bin/true"  # stands for what is installed: systemd-analyze looks whether it is there
EXPOSED_MAX = 1.5  # of 10, in systemd's own reckoning


@pytest.fixture(params=UNITS, ids=lambda unit: unit.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a unit that names a program which is there; all else is as it is delivered."""
    demand("systemd-analyze")
    copied = tmp_path / request.param.name
    copied.write_text(request.param.read_text().replace(INSTALLED, THERE))
    return copied


def test_there_is_one_for_serving_and_one_for_forwarding_alone() -> None:
    assert {unit.stem for unit in UNITS} == {"cmapi-gateway", "cmapi-gateway-forward"}


def test_systemd_itself_finds_nothing_amiss(unit: Path) -> None:
    told = _analyze("verify", "--man=no", str(unit))
    assert (told.returncode, told.stderr) == (0, "")


def test_systemd_itself_finds_little_exposed(unit: Path) -> None:
    told = _analyze("security", "--offline=true", "--no-pager", str(unit))
    exposed = re.search(r"exposure level for .*: ([\d.]+)", told.stdout)
    assert exposed is not None, told
    assert float(exposed[1]) <= EXPOSED_MAX


@pytest.mark.parametrize("path", UNITS, ids=lambda unit: unit.stem)
def test_its_command_is_one_of_ours_with_options_that_it_has(path: Path) -> None:
    program, command, *options = shlex.split(_service(path)["ExecStart"])
    assert program == INSTALLED
    assert command == {"cmapi-gateway": "serve", "cmapi-gateway-forward": "forward"}[path.stem]
    assert options[::2] == ["--config", "--data-dir"]
    assert options[3] == f"/var/lib/{_service(path)['StateDirectory']}"


@pytest.mark.parametrize("path", UNITS, ids=lambda unit: unit.stem)
def test_it_has_time_to_end_and_ends_its_children_itself(path: Path) -> None:
    """The store that a gateway brought along must not be told to end before it."""
    service = _service(path)
    assert int(service["TimeoutStopSec"]) > Server().drain_s + END_S_MAX
    assert service["KillMode"] == "mixed"


def test_serving_may_open_as_many_files_as_it_takes_connections() -> None:
    service = _service(DEPLOY / "systemd" / "cmapi-gateway.service")
    assert int(service["LimitNOFILE"]) > Limits().connections


def _service(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return dict(parser["Service"])


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=90
    )
