"""A program as a process of a test: started, paused, killed, started again, and never left behind.

Decided here: that it ends with the tests, however they end, and that its port is its own also while
it is down. Everything waits where it is called: a coroutine calls it by `asyncio.to_thread`. Not
decided here: which program it is, and when it is ready (servers.py, haproxy.py).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

import pytest

from gateway.store import tether
from tests.system.processes import eventually

HOST = "127.0.0.1"
LOG_FILE = "log"
LOG_TAIL_CHARS = 1_000
START_S_MAX = 60.0
STOP_S_MAX = 30.0
PORT_MIN = 10_000
PORT_TRIES_MAX = 1_000

# The kernel ties a parent-death signal to the thread that started a process. This one lives as
# long as the tests do, so a program may be started again from any thread.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="starter")
_given: set[int] = set()


class Program(AbstractContextManager["Program"]):
    """A program that runs in `directory`, where its log is; begins as it is entered, or by `start`.

    `ready` says whether it has begun to do its work; `stop_signal` asks it to end in order.
    """

    def __init__(
        self,
        directory: Path,
        command: list[str],
        ready: Callable[[], bool],
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.directory = directory
        self.port = lasting_port()
        self.paused = False
        self._command = command
        self._ready = ready
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.__exit__)
            self.start()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.directory.name} {self.address}>"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self} does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said, over all its starts."""
        return (self.directory / LOG_FILE).read_text(errors="replace")

    @property
    def log_tail(self) -> str:
        """The last that it said."""
        return self.log[-LOG_TAIL_CHARS:]

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """Start it without waiting."""
        assert not self.running, f"{self} runs"
        self._process = _start(self._command, self.directory)
        self.paused = False

    def wait_ready(self) -> None:
        """Wait until it is ready; fails with its last words when it ends instead."""
        eventually(lambda: not self.running or self._ready(), START_S_MAX)
        assert self.running, f"{self} ended: {self.log_tail}"

    def keep_starting(self, within_s: float) -> None:
        """Start it, and again whenever it ends by itself, until it is ready: as those do who look
        after services. Fails with its last words when that takes too long.
        """

        def is_up() -> bool:
            if not self.running:
                self.begin()
            return self._ready()

        try:
            eventually(is_up, within_s)
        except AssertionError as error:
            error.add_note(f"{self}: {self.log_tail}")
            raise

    def kill(self) -> None:
        """End it at once, with SIGKILL, paused or not; its files stay. Safe to repeat."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in order; with SIGKILL when that takes too long."""
        if self._process is not None:
            self.wake()  # or it would not hear of it
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again over the same files, on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it where it is: connections come about, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def wake(self) -> None:
        """Let it go on after `pause`; what was sent to it meanwhile is done then."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self} does not run"
        self._process.send_signal(number)


def start_all(programs: Sequence[Program], stack: ExitStack) -> None:
    """Start programs side by side, each to be killed as the stack is left."""
    for program in programs:
        stack.callback(program.kill)
        program.begin()
    for program in programs:
        program.wait_ready()


def demand(binary: str) -> None:
    """Skip the test that calls this where a program is not installed; in CI it fails."""
    if shutil.which(binary) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{binary} is not installed")
        pytest.skip(f"{binary} is not installed")


def lasting_port() -> int:
    """Give a free port that stays free while its owner is down, and is given once.

    Each worker of the tests has ports of its own to give: that another one's server is down does
    not show. A port is outside the range from which the kernel takes ports for connections: else a
    client that keeps trying to reach a server that is down would sooner or later get that port for
    itself.
    """
    borrowed_min = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = range(PORT_MIN + worker % workers, borrowed_min, workers)
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(own)  # noqa: S311 - no secret
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError(f"no free port from {PORT_MIN} to {borrowed_min}")


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _start(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    binary = shutil.which(command[0])
    assert binary is not None, f"{command[0]} is not there"
    # By way of the gateway's own tether, it gets SIGTERM when the tests are gone.
    tethered = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), binary]

    def start() -> subprocess.Popen[bytes]:
        with (directory / LOG_FILE).open("ab") as log:
            return subprocess.Popen(
                [*tethered, *command[1:]],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the tests, which end it then
            )

    return _STARTER.submit(start).result()
