"""`demo` as a user runs it: it proves conservation, and leaves nothing behind however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.system.processes import Processes, eventually, read_line

START_S = 60.0
END_S = 240.0  # the killed gateway's lease has to lapse before all is forwarded


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


def test_demo_ends_with_conservation_and_leaves_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    """RELIABILITY 4, row 1, in small: resets, a kill -9 and retries, and every unit is there."""
    scenes = tmp_path / "scenes"
    process = _demo(processes, scenes, "--seconds", "2", "--clients", "8", "--seed", "7")
    said, _ = process.communicate(timeout=END_S)
    assert process.returncode == 0, said
    lines = said.splitlines()
    assert lines[0].startswith("seed 7:")
    assert lines[-1] == "conservation: OK"
    assert "1 kill" in lines[-2]
    for name in ("sessions", "users", "editor", "pages", "api"):
        assert any(line.split()[:1] == [name] for line in lines), said
    assert list(scenes.iterdir()) == []
    assert _running_in(scenes) == []


@pytest.mark.slow  # two demos
@pytest.mark.parametrize("protocols", ["cmapi,licensespring", "licensespring"])
def test_clients_of_licensespring_end_with_conservation(
    processes: Processes, tmp_path: Path, protocols: str
) -> None:
    """One pool, two doors, through the same faults: three records of all lines agree."""
    process = _demo(
        processes,
        tmp_path / "scenes",
        *("--seconds", "3", "--clients", "30", "--seed", "7", "--protocols", protocols),
    )
    said, _ = process.communicate(timeout=END_S)
    assert process.returncode == 0, said
    assert said.splitlines()[-1] == "conservation: OK"
    rows = {
        words[0]: [int(word.replace(",", "")) for word in words[2:6]]
        for line in said.splitlines()
        if len(words := line.split()) == 9 and words[0] != "line"
    }
    assert list(rows) == ["sessions", "users", "editor", "pages", "api", "viewer"]
    # Everything was used, of `pages` by those of CMAPI alone, and seats and users ran out.
    used = {name for name, (_, granted, _, _) in rows.items() if granted}
    assert used == set(rows) - ({"pages"} if protocols == "licensespring" else set())
    assert all(rows[name][2] for name in ("users", "editor", "viewer"))


@pytest.mark.slow  # three demos
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_nothing_is_left_running_however_it_ends(
    processes: Processes, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    scenes = tmp_path / "scenes"
    process = _demo(processes, scenes, "--seconds", "60", "--clients", "2")
    read_line(process, START_S)
    assert read_line(process, START_S).startswith("gateway http://")
    eventually(lambda: len(_running_in(scenes)) == 4)  # two gateways, each with its store
    process.send_signal(number)
    process.communicate(timeout=END_S)
    assert process.returncode == code
    eventually(lambda: not _running_in(scenes))
    # Who kills it outright has to clear away its directory; otherwise it does that itself.
    assert (list(scenes.iterdir()) == []) is (number is not signal.SIGKILL)


@pytest.mark.slow  # a demo
def test_what_is_kept_can_be_looked_at_in_a_browser(processes: Processes, tmp_path: Path) -> None:
    process = _demo(
        processes, tmp_path / "scenes", "--seconds", "2", "--clients", "4", "--seed", "7", "--keep"
    )
    said: list[str] = []
    while not said or said[-1] != "both run until Ctrl-C":
        said.append(read_line(process, END_S))
        assert said[-1], said
    place = next(line for line in said if line.startswith("pages: ")).removeprefix("pages: ")
    user, password = re.findall(r"user (\S+), password (\S+)", " ".join(said))[0]
    url = httpx.URL(place)
    form = {"instance": url.params["instance"], "user": user, "password": password}
    with httpx.Client(timeout=START_S, follow_redirects=True) as http:
        page = http.post(url.copy_with(query=None), data=form)
    assert page.status_code == 200
    assert "<h1>Overview</h1>" in page.text
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=END_S)
    eventually(lambda: not _running_in(tmp_path / "scenes"))


def test_a_directory_in_use_is_refused_and_left_alone(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    process, log = processes.start("demo", "--data-dir", str(tmp_path / "mine"))
    assert process.wait(START_S) == 2
    assert "is not empty" in log.read_text()
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["file"]


def _demo(processes: Processes, scenes: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `demo` so that its temporary directory is made in `scenes`."""
    scenes.mkdir()
    process, _ = processes.start("demo", *arguments, TMPDIR=str(scenes), PYTHONUNBUFFERED="1")
    return process


def _running_in(directory: Path) -> list[int]:
    """List the processes that work in a directory, or name it on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            place = (process / "cwd").readlink()
        except OSError:
            continue  # it has ended, or is another user's
        if str(directory).encode() in words or place.is_relative_to(directory):
            found.append(int(process.name))
    return found
