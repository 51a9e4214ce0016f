"""The image is built from what it says, and what it runs needs neither root nor a writable file.

There need be no Docker: the Dockerfile is read, the RUN steps of its first stage are done in a
directory of their own, and what they make is run as the second stage says, as user 7070 in a mount
namespace where everything but /data can only be read. Not shown: that the base images are there,
and the RUN step of the second stage (a user, a directory).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Stage, read_stages
from tests.deploy.files import DEPLOY, read_yaml
from tests.stores.programs import lasting_port
from tests.system.processes import ROOT, clean_environ, eventually, read_line

DOCKERFILE = DEPLOY / "Dockerfile"
BUILD, RUN = read_stages(DOCKERFILE)
PREFIX, WHEELS = "/opt/cmapi-gateway", "/wheels"
USER = 7070
PORT = "7070"
BUILD_S_MAX = 600
# The same files in less time: what was fetched before is not fetched again, and is not compiled.
QUICKER = {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
END_S_MAX = 30


def test_the_base_is_pinned_and_the_same_in_both_stages() -> None:
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", BUILD.image)
    assert BUILD.image == RUN.image


def test_only_what_was_installed_reaches_the_image() -> None:
    """No sources, no compiler, no keys: one directory of the first stage, and nothing of ours."""
    assert RUN.all("COPY") == [f"--from={BUILD.name} {PREFIX} {PREFIX}"]
    assert not BUILD.all("ADD") + RUN.all("ADD")


def test_what_is_copied_is_there_and_all_else_is_not_even_sent() -> None:
    copied = {word for text in BUILD.all("COPY") for word in shlex.split(text)[:-1]}
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in lines if line.startswith("!")}
    assert copied == admitted
    assert "*" in lines
    assert all((ROOT / name).exists() for name in copied)


def test_it_runs_as_a_number_that_is_not_root() -> None:
    """A number, since Kubernetes cannot see whether a name is root."""
    assert RUN.last("USER") == f"{USER}:{USER}"
    assert f"--uid {USER} " in RUN.last("RUN")
    names = [name for name, _ in RUN.steps]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in {"RUN", "COPY"})


def test_signals_reach_the_gateway_itself() -> None:
    assert RUN.words("ENTRYPOINT") == ["cmapi-gateway"]
    assert RUN.words("CMD") == ["serve", "--data-dir", "/data"]
    assert RUN.last("STOPSIGNAL") == "SIGTERM"


def test_compose_and_kubernetes_run_this_image() -> None:
    gateway = read_yaml(DEPLOY / "compose.yaml")["services"]["gateway-0"]
    assert (DEPLOY / gateway["build"]["context"]).resolve() == ROOT.resolve()
    assert gateway["build"]["dockerfile"] == "deploy/Dockerfile"
    (image,) = read_yaml(DEPLOY / "kubernetes" / "kustomization.yaml")["images"]
    assert f"{image['name']}:{image['newTag']}" == gateway["image"]


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """Do the first stage's steps, in the order of the file; give where they were done."""
    python = _python()
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        if os.environ.get("CI"):
            pytest.fail("only root can run it as another user on files that cannot be written")
        pytest.skip("only root can run it as another user on files that cannot be written")
    # Not where tests write: what is root's alone, another user could not read.
    place = Path(tempfile.mkdtemp(prefix="image-"))
    place.chmod(0o755)
    try:
        _build(BUILD, place, python)
        yield place
    finally:
        shutil.rmtree(place)


@pytest.mark.slow
def test_it_serves_without_root_and_without_a_writable_file(built: Path) -> None:
    """Ready, found healthy, and ended in order by SIGTERM; its store is the bundled one."""
    port = str(lasting_port())
    command = [_placed(RUN.words("ENTRYPOINT")[0], built), *RUN.words("CMD")]
    process = subprocess.Popen(
        _confined(built, [word.replace("/data", str(built / "data")) for word in command]),
        env=_environ(RUN, built, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ready = read_line(process, 90)
        assert ready == f"ready http://0.0.0.0:{port}", process.stderr and process.stderr.read()
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{USER}\t{USER}\t{USER}\t{USER}$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        _, *check = RUN.words("HEALTHCHECK")
        healthy = [f"{built}{PREFIX}/bin/python", *(word.replace(PORT, port) for word in check)]
        eventually(lambda: subprocess.run(healthy, check=False).returncode == 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S_MAX) == 0
        assert subprocess.run(healthy, check=False, capture_output=True).returncode != 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_nothing_but_data_can_be_written(built: Path) -> None:
    """Shown for what the test above relies on."""
    script = f"touch {built}/data/x; touch {built}{PREFIX}/x || touch /tmp/x || echo refused"
    command = _confined(built, ["sh", "-c", script])
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "refused\n"


def _build(stage: Stage, place: Path, python: str) -> None:
    source = place / "src"
    source.mkdir()
    for text in stage.all("COPY"):
        *names, target = shlex.split(text)
        for name in names:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, source / target, ignore=ignored)
            else:
                shutil.copy(ROOT / name, source / target)
    for step in stage.all("RUN"):
        placed = re.sub(rf"(?<![\w/])({PREFIX}|{WHEELS})", rf"{place}\1", step)
        placed = placed.replace(" --no-cache-dir", "")
        if not placed.startswith(str(place)):
            placed = placed.replace("python ", f"{python} ", 1)
        ended = subprocess.run(
            ["sh", "-ec", placed],
            cwd=source,
            env=clean_environ() | {"PYTHONPATH": "", **QUICKER},
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S_MAX,
        )
        assert ended.returncode == 0, ended.stderr
    (place / "data").mkdir()


def _confined(place: Path, command: list[str]) -> list[str]:
    """Give the words that run a command as the image's user, where only `data` can be written."""
    data = place / "data"
    script = (
        "mount -o remount,bind,ro / && "
        f"mount -t tmpfs -o mode=0700,uid={USER},gid={USER} data {data} && cd {data} && "
        f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs"
        f" --inh-caps=-all --bounding-set=-all {shlex.join(command)}"
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]


def _environ(stage: Stage, place: Path, port: str) -> dict[str, str]:
    """Give the image's environment, and no other setting."""
    told = {name: text.replace(PORT, port) for name, text in stage.environ.items()}
    path = told["PATH"].replace(PREFIX, f"{place}{PREFIX}").replace("$PATH", os.environ["PATH"])
    return told | {"PATH": path}


def _placed(command: str, place: Path) -> str:
    return f"{place}{PREFIX}/bin/{command}"


def _python() -> str:
    """Find a Python that everybody may run, and that can make a virtual environment."""
    for candidate in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        real = Path(candidate).resolve()
        open_to_all = all(parent.stat().st_mode & 0o001 for parent in real.parents)
        able = "import sys, ensurepip; raise SystemExit(sys.version_info < (3, 11))"
        if open_to_all and real.exists() and not subprocess.run([real, "-c", able]).returncode:
            return str(candidate)
    if os.environ.get("CI"):
        pytest.fail("there is no Python 3.11 that everybody may run")
    pytest.skip("there is no Python 3.11 that everybody may run")
