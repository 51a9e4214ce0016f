"""The README is executed: its tour line by line, its run line from a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.system.processes import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
END = "end-of-output"
WITHIN_S = 60.0


def _steps() -> list[tuple[str, str]]:
    """Give each command of the tour with the output that the README shows for it."""
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            elif line.startswith(">"):
                command, shown = steps.pop()
                steps.append((f"{command}\n{line[2:]}", shown))
            else:
                steps[-1][1].append(line)
    return [(command, "\n".join(shown)) for command, shown in steps]


def _matches(shown: str, real: str) -> bool:
    pattern = re.sub(r"([\[\]?*])", r"[\1]", shown).replace("...", "*")
    return fnmatchcase(real.strip(), pattern.strip())


@pytest.mark.skipif(
    not shutil.which("curl") and not os.environ.get("CI"), reason="the tour uses curl"
)
def test_tour_shows_what_really_happens(tmp_path: Path) -> None:
    """Every command of the tour runs as written, in order, and prints what is shown."""
    port = str(free_port())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-m"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "COLUMNS": "200", "GATEWAY_SERVER__DRAIN_S": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert shell.stdin is not None
    assert shell.stdout is not None
    watchdog = threading.Timer(WITHIN_S, os.killpg, (shell.pid, signal.SIGKILL))
    watchdog.start()
    try:
        for command, shown in _steps():
            command = command.replace("7070", port)
            if command.startswith("cmapi-gateway serve"):
                command = command.replace("serve", f"serve --bind 127.0.0.1:{port}")
            shell.stdin.write(f"{command}\n")
            if command.endswith("&"):
                shell.stdin.flush()
                real = shell.stdout.readline()
            else:
                shell.stdin.write(f"echo; echo {END}\n")  # some outputs have no last newline
                shell.stdin.flush()
                lines = iter(shell.stdout.readline, "")
                real = ""
                for line in lines:
                    if line.strip() == END:
                        break
                    real += line
            assert _matches(shown.replace("7070", port), real), f"$ {command}\n{real}"
        shell.stdin.write("wait\n")
    finally:
        shell.stdin.close()
        assert shell.wait() == 0
        shell.stdout.close()
        watchdog.cancel()


@pytest.mark.slow
def test_run_line_ends_balanced_from_a_fresh_clone(tmp_path: Path) -> None:
    """Fresh clone, fresh virtual environment, the README's own line: exit 0 and a balance."""
    line = re.search(r"^    (python3 -m venv .* demo)$", README, re.MULTILINE)
    assert line is not None
    clone = tmp_path / "clone"
    shutil.copytree(
        ROOT,
        clone,
        ignore=shutil.ignore_patterns(".git", ".venv", "var", "*.egg-info", ".*_cache", "build"),
    )
    ended = subprocess.run(
        ["bash", "-c", line.group(1)], cwd=clone, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.strip().endswith("conservation: OK")
