"""Real processes for tests: started, looked at from outside, and ended by their own ids.

Whatever a test does to them, `Processes.close` leaves nothing running: it kills what it started,
and what those had started ends with them.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

import gateway
from tests.served_by import chosen

COMMAND = (sys.executable, "-m", "gateway")
ROOT = Path(gateway.__file__).parents[1]
START_S = 60.0
AWAIT_S = 30.0  # what comes true at once also does so on a machine that stalls


@dataclass
class Gateway:
    """A `serve` that has said it is ready."""

    process: subprocess.Popen[str]
    ready_line: str
    host: str
    port: int
    data_dir: Path
    log_file: Path

    @property
    def url(self) -> str:
        return self.ready_line.removeprefix("ready ")

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def get(self, path: str, timeout_s: float = AWAIT_S) -> tuple[int, Mapping[str, str], bytes]:
        """Ask on a plain connection of its own: status, headers by lower-case name, body."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def status(self, path: str) -> int | None:
        """Give the status of an answer, or None when there is none."""
        try:
            return self.get(path)[0]
        except (OSError, http.client.HTTPException):
            return None

    def connect(self, timeout_s: float = AWAIT_S) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=timeout_s)

    def workers(self) -> list[int]:
        """Give the process ids of the workers, oldest first; none when it serves by itself."""
        return [pid for pid in children_of(self.process.pid) if "gateway.cli.worker" in words(pid)]

    def store_pid(self) -> int:
        """Give the process id of the embedded store."""
        with redis.Redis(unix_socket_path=str(self.data_dir / "valkey.sock")) as client:
            info: Any = client.info("server")
        return int(info["process_id"])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def exit_code(self, within_s: float = AWAIT_S) -> int:
        return self.process.wait(within_s)


class Processes:
    """Starts gateways and other commands in a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[subprocess.Popen[str]] = []

    def serve(
        self, *arguments: str, data_dir: Path | None = None, drain_s: float = 0, **environ: str
    ) -> Gateway:
        """Start `serve` on a free port and wait until it is ready.

        Further settings go by `environ`, such as GATEWAY_SERVER__HEADER_TIMEOUT_S.
        """
        data_dir = data_dir or self.directory / "data"
        if "--bind" not in arguments:
            arguments = ("--bind", "127.0.0.1:0", *arguments)
        environ = {"GATEWAY_SERVER__DRAIN_S": str(drain_s), **environ}
        arguments = ("serve", "--server", chosen(), *arguments, "--data-dir", str(data_dir))
        process, log_file = self.start(*arguments, **environ)
        line = read_line(process, START_S)
        assert line.startswith("ready "), (line, log_file.read_text())
        host, _, port = line.rpartition("/")[2].rpartition(":")
        return Gateway(process, line, host.strip("[]"), int(port), data_dir, log_file)

    def start(self, *arguments: str, **environ: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a command; its stdout is a pipe, its stderr the file that is returned."""
        log_file = self.directory / f"log-{len(self._started)}"
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean_environ() | environ,
                start_new_session=True,  # a signal to its group, as Ctrl-C is, spares the tests
            )
        self._started.append(process)
        return process, log_file

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


def clean_environ() -> dict[str, str]:
    """Give the environment without settings of ours, in which our package is found."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def read_line(process: subprocess.Popen[str], within_s: float) -> str:
    """Read one line of a process; "" when it ended or is too slow.

    Byte by byte: what is read ahead into a buffer, `select` would not see at the next line.
    """
    assert process.stdout is not None
    deadline_s = time.monotonic() + within_s
    line = bytearray()
    while select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        byte = os.read(process.stdout.fileno(), 1)
        if byte in (b"", b"\n"):
            return line.decode()
        line += byte
    return ""


def free_port() -> int:
    """Give a port that is free now; another process may take it before it is used."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def children_of(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [int(child) for child in children]


def words(pid: int) -> list[str]:
    """Give the command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def has_ended(pid: int) -> bool:
    """Say whether a process is gone, or only waits to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def eventually(condition: Callable[[], object], within_s: float = AWAIT_S) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.01)
