"""The flusher: once a second, what the embedded store has written is brought to the disk.

Decided here: which files, how often, and what an error means. The server itself runs with
`appendfsync no`: with `everysec` it would hold writes back while its own sync is under way and
answer all the same, and a kill in that moment would lose what it answered. Synced from another
process, it has always written before it answers. Not decided here: who flushes (embedded.py).
Source: RELIABILITY 2, ARCHITECTURE decision 18.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

FLUSH_S: Final = 1.0  # between two turns: about what a power cut may take
THREAD_NAME: Final = "store-flusher"

_log: Final = structlog.get_logger("gateway.store")

_Mark = tuple[int, int, int]  # inode, bytes, moment of the last write: changed with every write


class Flusher:
    """Brings the changed files of a directory to the disk every FLUSH_S, in one thread at most.

    The thread ends with the process. A fork has a copy without the thread, which flushes nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._marks: dict[str, _Mark] = {}  # files as they were when last brought to the disk
        self._failing = False
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def running(self) -> bool:
        """Whether a thread of this process flushes."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to flush, unless it does already. The directory may still be missing."""
        if self.running:
            return
        # A new one: that of a forked process may be a copy of one that was being waited for.
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._ended,), name=THREAD_NAME, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Flush once more and end. Blocks as long as the disk takes; safe to repeat."""
        if self._thread is not None and self.running:
            self._ended.set()
            self._thread.join()
        self._thread = None

    def flush(self) -> list[str]:
        """Bring what has changed since the last time to the disk; return the names of those files.

        An error is logged when it begins and when it is over; the file is tried again each time.
        """
        marks: dict[str, _Mark] = {}
        troubles: list[str] = []
        for name in self._names(troubles):
            try:
                marks[name] = self._flush_file(name)
            except FileNotFoundError:
                continue  # a rewrite has just removed it
            except OSError as error:
                troubles.append(f"{name}: {error.strerror}")
        flushed = [name for name, mark in marks.items() if mark != self._marks.get(name)]
        self._marks = marks
        self._note_health(troubles)
        return flushed

    def _run(self, ended: threading.Event) -> None:
        last = False
        while not last:
            last = ended.wait(FLUSH_S)
            self.flush()

    def _names(self, troubles: list[str]) -> list[str]:
        try:
            with suppress(FileNotFoundError):  # the server has not made it yet
                return sorted(os.listdir(self._directory))
        except OSError as error:
            troubles.append(f"{self._directory.name}: {error.strerror}")
        return []

    def _flush_file(self, name: str) -> _Mark:
        # Linux syncs what anybody wrote to a file, whichever descriptor is asked, read-only too.
        descriptor = os.open(self._directory / name, os.O_RDONLY)
        try:
            # Look first, sync second: what is written meanwhile is another change.
            found = os.fstat(descriptor)
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if mark != self._marks.get(name):
                os.fdatasync(descriptor)
            return mark
        finally:
            os.close(descriptor)

    def _note_health(self, troubles: list[str]) -> None:
        if bool(troubles) == self._failing:
            return
        self._failing = bool(troubles)
        if troubles:
            _log.error("flush_failed", directory=str(self._directory), why="; ".join(troubles))
        else:
            _log.info("flush_recovered", directory=str(self._directory))
