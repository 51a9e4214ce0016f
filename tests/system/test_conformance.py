"""`conformance` against a served gateway of ours, and against a server that is not quite ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.conformity.checks import Mark, Result
from gateway.cli.conformity.sheet import BEGIN, END, compatibility_table
from gateway.cli.conformity.site import UNITS_MAX
from gateway.cli.conformity.suite import SECTIONS
from tests.system.processes import (
    COMMAND,
    ROOT,
    START_S,
    Processes,
    clean_environ,
    read_line,
)

INSTANCE = "CONFORM00001"
PASSWORD = "correct horse"
FEATURES = "sessions,users,editor,pages,api"
LINES = """
[[instance]]
id = "CONFORM00001"
default = true

  [[instance.key]]
  public_file = "keys/public.pem"

  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  count = 1000
  model = "metered"
  expires = 2100-01-01

  [[instance.line]]
  id = "L2"
  feature = "users"
  version = "1.0"
  count = 100
  overdraft = 2
  undo_interval = "1h"
  model = "metered"

  [[instance.line]]
  id = "L3"
  feature = "editor"
  version = "2.0"
  count = 5
  model = "concurrent"

  [[instance.line]]
  id = "L4"
  feature = "pages"
  version = "1.0"
  count = 20
  model = "metered-reusable"

  [[instance.line]]
  id = "L5"
  feature = "api"
  version = "1.0"
  count = "uncounted"
  model = "metered"
"""

pytestmark = pytest.mark.slow


@dataclass
class Desk:
    """A served gateway, and the commands of its directory."""

    directory: Path
    url: str
    processes: Processes

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env=clean_environ(),
            input=given,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def conformance(self, url: str) -> tuple[int, dict[str, Any]]:
        """Give the exit code and the sheet of a run with all that there is."""
        ended = self.run(
            *("conformance", url, "--instance", INSTANCE, "--key", "keys/private.pem"),
            *("--features", FEATURES, "--user", "ann", "--password-stdin", "--json", "-"),
            given=PASSWORD,
        )
        assert ended.stdout, ended.stderr
        return ended.returncode, json.loads(ended.stdout)

    def books(self) -> dict[str, Any]:
        """Give what `verify` says of each line."""
        ended = self.run("verify", "--data-dir", "data", "--format", "json")
        verdict = json.loads(ended.stdout)
        assert verdict["conservation"] == "OK"
        return {line["feature"]: line for line in verdict["instances"][0]["lines"]}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("conformance")
    (directory / "lines.toml").write_text(LINES)
    processes = Processes(directory)
    desk = Desk(directory, "", processes)
    roles = "ROLE_READ,ROLE_RESERVATIONS,ROLE_DROPCLIENT,ROLE_ADMIN"
    where = ("--data-dir", "data")
    for arguments in (
        ("keys", "generate", "--out", "keys", "--alg", "RS256"),
        ("apply", "lines.toml", *where),
        ("users", "add", INSTANCE, "ann", "--roles", roles, "--password-stdin", *where),
    ):
        ended = desk.run(*arguments, given=PASSWORD)
        assert ended.returncode == 0, ended.stderr
    try:
        settings = {"GATEWAY_EXPLAIN__RETENTION": "1h", "GATEWAY_REDIS__DEADLINE_MS": "8000"}
        desk.url = processes.serve(**settings).url
        yield desk
    finally:
        processes.close()


@pytest.fixture
def foreign(desk: Desk) -> Iterator[str]:
    """The address of a server that lacks what is ours and differs in three things."""
    command = [sys.executable, "-m", "tests.system.differing", desk.url]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environ(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield read_line(process, START_S)
        finally:
            process.kill()


def results(sheet: dict[str, Any]) -> dict[str, Result]:
    return {
        check["id"]: Result(check["result"])
        for section in sheet["sections"]
        for check in section["checks"]
    }


def test_ours_passes_every_check_and_the_books_balance(desk: Desk) -> None:
    """Nothing differs, is not offered or not tried; what could be given back was."""
    before = desk.books()
    code, sheet = desk.conformance(desk.url)
    found = results(sheet)
    assert {name: result for name, result in found.items() if result != Result.PASS} == {}
    assert code == 0
    assert sheet["left"] == []
    assert sheet["totals"] == {
        "pass": len(found),
        "differs": 0,
        "not offered": 0,
        "not tried": 0,
    }
    after = desk.books()
    taken = {name: after[name]["used"] - before[name]["used"] for name in after}
    assert {name: taken[name] for name in ("users", "editor", "pages")} == {
        "users": 0,
        "editor": 0,
        "pages": 0,
    }
    assert all(0 < taken[name] <= UNITS_MAX for name in ("sessions", "api"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == compatibility_table(found)


def test_of_another_server_exactly_what_differs_is_said_to(desk: Desk, foreign: str) -> None:
    """What is ours is not offered there, which is no difference."""
    before = desk.books()
    code, sheet = desk.conformance(foreign)
    found = results(sheet)
    differing = {name for name, result in found.items() if result == Result.DIFFERS}
    assert differing == {
        "previews.status-list",
        "previews.version-too-high",
        "access.status-list",
        "access.version-code",
        "administration.health",
    }
    ours = {each.id for section in SECTIONS for each in section.checks if each.mark is Mark.OURS}
    not_offered = {name for name, result in found.items() if result == Result.NOT_OFFERED}
    assert not_offered == ours - {"signing.errors-plain"}
    assert sheet["totals"]["not tried"] == 0
    assert code == 1
    (health,) = [
        check
        for section in sheet["sections"]
        for check in section["checks"]
        if check["id"] == "administration.health"
    ]
    assert (health["expected"], health["found"]) == (
        "LLS.database: present",
        "LLS.database: absent",
    )
    held = {name: line["held"] for name, line in desk.books().items()}
    assert held == {name: line["held"] for name, line in before.items()}
