"""The embedded store: one Valkey per data dir, started by whoever needs it first, shared by all.

Decided here: who starts it, who waits, when it counts as ready and when waiting is vain; who brings
its file to the disk (itself at every write, or its owner every second). The server itself holds the
flock on `valkey.lock`, by an inherited descriptor, so the lock lives exactly as long as the server:
two starters make one server, and a dead one leaves nothing to clean up. Not decided: how the server
is set up (bundled.py), how its file is synced (flushing.py) and when to look for it again (whoever
misses it).
Source: INTERFACE 1, RELIABILITY 2 and 5.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.core.errors import GatewayError, InvalidInput
from gateway.store.bundled import AOF_DIR, SOCKET_FILE, BundledServer, launch
from gateway.store.flushing import Flusher

LOCK_FILE = "valkey.lock"

# The address of a unix socket holds 108 bytes, the final NUL among them.
SOCKET_PATH_BYTES_MAX = 107
POLL_S = 0.005
PING_TIMEOUT_S = 0.5

# Who started it may have asked for less, and WAITAOF waits in vain while the server never syncs.
SYNC_EACH_WRITE = ("appendfsync", "always")


class StartFailed(GatewayError):
    """The embedded store did not come up; the message says why. A later `ensure` may succeed."""


class Embedded:
    """One Valkey server per data dir, shared by whoever asks for it.

    The server ends with the process that started it, whatever ended that; the others call `ensure`
    again and one of them becomes its owner. What it has answered survives its end; a power cut
    takes about a second, or nothing with `fsync_each_write`. A server that already runs is made to
    sync each write where that is asked for, and goes on doing so where it is not.
    """

    def __init__(self, data_dir: Path, *, fsync_each_write: bool = False) -> None:
        self._dir = data_dir.absolute()
        self._fsync_each_write = fsync_each_write
        self._flusher = Flusher(self._dir / AOF_DIR)
        self._dir_fd: int | None = None
        self._server: BundledServer | None = None

    @property
    def owned(self) -> bool:
        """Whether this process started the server that runs now; never true in a forked child."""
        server = self._own_server()
        return server is not None and server.running

    def ensure(self, timeout_s: float = 10.0) -> str:
        """Return the path of the unix socket on which the store answers; start it if none runs.

        Answering means PING, so its data is loaded. The path is for this process only and holds
        until `close`. Main thread only where a server may have to be started.
        Raises InvalidInput on a data dir that cannot be one; StartFailed when the server ends at
        its start, or is not ready in time: it is then left to go on, and a later call finds it.
        """
        deadline_s = time.monotonic() + timeout_s
        path = self._prepare()
        while (trouble := self._greet(path)) is not None:
            self._advance(trouble, deadline_s)
            time.sleep(POLL_S)
        self._note_ready()
        return path

    async def ensure_async(self, timeout_s: float = 10.0) -> str:
        """Do what `ensure` does, without blocking the loop but for the start itself (about 0.1 s).

        The loop has to run in the main thread: the server ends with the thread that started it.
        """
        deadline_s = time.monotonic() + timeout_s
        path = self._prepare()
        while (trouble := await self._greet_async(path)) is not None:
            self._advance(trouble, deadline_s)
            await asyncio.sleep(POLL_S)
        self._note_ready()
        return path

    def close(self) -> None:
        """End the server if this process owns it, leave it otherwise.

        Blocks while the server ends, some seconds at most. May be repeated; `ensure` starts anew.
        """
        server = self._own_server()
        if server is not None:
            server.stop()
            self._server = None
        self._flusher.stop()
        if self._dir_fd is not None:
            os.close(self._dir_fd)
            self._dir_fd = None

    def _prepare(self) -> str:
        """Make the data dir and return the path by which this process reaches the socket in it."""
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InvalidInput(f"The data dir {self._dir} is not a directory") from None
        except OSError as error:
            raise InvalidInput(
                f"The data dir {self._dir} cannot be made: {error.strerror}"
            ) from error
        path = self._dir / SOCKET_FILE
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            return str(path)
        if self._dir_fd is None:
            self._dir_fd = os.open(self._dir, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._dir_fd}/{SOCKET_FILE}"

    def _advance(self, trouble: str, deadline_s: float) -> None:
        """Bring a silent store closer to an answer: start it, or find out that waiting is vain."""
        server = self._own_server()
        if server is not None and not server.running:
            self._server = None
            if not server.ready:
                raise StartFailed(
                    f"The embedded store in {self._dir} ended at its start: {server.last_words()}"
                )
        if time.monotonic() >= deadline_s:
            raise StartFailed(f"The embedded store in {self._dir} was not ready in time: {trouble}")
        if self._own_server() is None:
            self._start_unless_one_runs()

    def _start_unless_one_runs(self) -> None:
        lock_fd = self._open_lock()
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # it starts, loads or ends; the next turn shows which
        else:
            self._server = launch(self._dir, "always" if self._fsync_each_write else "no", lock_fd)
            if not self._fsync_each_write:
                # It goes on after a kill of the server, whose last writes are still to be synced.
                self._flusher.start()
        finally:
            # Closed and never unlocked: the server's copy is the same lock, from now on its alone.
            os.close(lock_fd)

    def _open_lock(self) -> int:
        try:
            return os.open(self._dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InvalidInput(
                f"The data dir {self._dir} is not writable: {error.strerror}"
            ) from error

    def _own_server(self) -> BundledServer | None:
        # A fork of the owner has a copy of this object and is no owner.
        if self._server is None or self._server.owner_pid != os.getpid():
            return None
        return self._server

    def _note_ready(self) -> None:
        if (server := self._own_server()) is not None:
            server.ready = True

    def _greet(self, path: str) -> str | None:
        """Say why the store does not answer, or None when it does, and syncs as it should."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis(unix_socket_path=path, socket_timeout=PING_TIMEOUT_S, retry=once) as store:
            try:
                store.ping()
                if self._fsync_each_write:
                    store.config_set(*SYNC_EACH_WRITE)
            except redis.RedisError as error:
                return str(error)
        return None

    async def _greet_async(self, path: str) -> str | None:
        once = AsyncRetry(NoBackoff(), 0)
        async with redis.asyncio.Redis(
            unix_socket_path=path, socket_timeout=PING_TIMEOUT_S, retry=once
        ) as store:
            try:
                await store.ping()
                if self._fsync_each_write:
                    await store.config_set(*SYNC_EACH_WRITE)
            except redis.RedisError as error:
                return str(error)
        return None
