"""A store as a process of its own: killed at any moment, started again over the same directory.

Decided here: how the server is run: the bundled one with the settings of the embedded store
at ack = "local" (append-only file, synced for every call), on a unix socket in a short directory of
its own. Not decided here: who uses it. Then a kill -9 loses nothing that was answered.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import redis

from gateway.store.bundled import SOCKET_FILE, BundledServer, launch
from tests.system.processes import eventually

START_S = 60.0


class StoreProcess(AbstractContextManager["StoreProcess"]):
    """A server that begins as it is entered. Main thread only, with whose end it ends."""

    def __init__(self) -> None:
        # Not under the test's own directory: a socket's address has some hundred characters.
        self.directory = Path(tempfile.mkdtemp(prefix="store-"))
        self.socket = self.directory / SOCKET_FILE
        self._lock_fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT)
        self._server: BundledServer | None = None

    def __enter__(self) -> StoreProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.close(self._lock_fd)
        shutil.rmtree(self.directory)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start the server and wait until it has read its file and answers."""
        self._server = launch(self.directory, "always", self._lock_fd)
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            eventually(lambda: _answers(client), START_S)

    def kill(self) -> None:
        """End the server at once, with SIGKILL; its file stays."""
        if self._server is not None:
            self._server.process.kill()
            self._server.process.wait()
            self._server = None

    def pause(self) -> None:
        """Stop the server where it is: connections come about, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        self._server.process.send_signal(number)


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError):  # away, or loading
        return bool(client.ping())
    return False
