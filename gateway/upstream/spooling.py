"""The spool's writer: each batch one file, whole or not there, once, whatever is killed when.

Decided here: the order of steps on the disk. A file is written under a draft's name and made
durable; then its name is noted in the sequence; then one rename makes it visible. A draft without a
note was never visible and is thrown away; a draft with a note is made visible by whoever comes
next; a note without draft or file was carried away. So numbers have no gaps and none is given
twice, and a batch has one file even when its answer was lost and the directory was emptied.
Not decided here: what is in a file (spool.py). Hard links are not used: sticks do not have them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey
from gateway.core.ports import Answer, Verdict
from gateway.core.usage import Batch
from gateway.upstream.cloudevents import Event
from gateway.upstream.spool import (
    FILE_BYTES_MAX,
    SpoolUpstream,
    file_name,
    open_file,
    read_file_name,
    trailer,
)

LOCK: Final = ".lock"
SEQUENCE: Final = ".sequence"  # names of the files written, a line each, the last ones only
DRAFT: Final = ".draft"
# Enough for every batch whose answer may yet be lost: an outbox has one at a time.
NOTES_KEPT: Final = 10_000
LOCK_WAIT_S: Final = 5.0  # a writer needs some 10 ms; one that is suspended must not hold up a stop
LOCK_POLL_S: Final = 0.01

_event: Final = msgspec.json.Decoder(Event).decode_lines


@dataclass
class SpoolSender:
    """Writes batches to one spool directory, with trailers signed by `private`.

    The directory is made when its parent is there: a stick that is not mounted is no directory.
    """

    upstream: SpoolUpstream
    private: PrivateKey = field(repr=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)  # one thread is enough

    async def send(self, batch: Batch) -> Verdict:
        """Write the batch's file, or find it written; HANDED_OVER once it is durable.

        NOT_APPLIED when nothing became visible, UNKNOWN when that is not sure: the same id again
        finds out. STOPPED when the file of this batch is not what was written.
        """
        async with self._turn:
            return await asyncio.to_thread(self._send, batch)

    def _send(self, batch: Batch) -> Verdict:
        directory = self.upstream.directory
        try:
            _make(directory)
            with _locked(directory):
                return self._put(batch)
        except OSError as error:
            return Verdict(Answer.NOT_APPLIED, f"the spool is not usable: {_reason(error)}")

    def _put(self, batch: Batch) -> Verdict:
        directory = self.upstream.directory
        try:
            shelf = _tidy(directory)
            known = shelf.notes.get(batch.id) or shelf.files.get(batch.id)
            if known is not None:
                return _found(directory, known, batch)
        except OSError as error:
            return Verdict(Answer.UNKNOWN, f"the spool cannot be read: {_reason(error)}")
        name = file_name(shelf.number + 1, batch.id)
        data = batch.body + trailer(shelf.number + 1, batch, self.private).line
        draft = _draft(directory, name)
        try:
            _write(draft, data, 0o440)
            _sync(directory)
        except OSError as error:
            with suppress(OSError):  # it has no note, so the next writer throws it away
                draft.unlink()
            return Verdict(Answer.NOT_APPLIED, f"{name} was not written: {_reason(error)}")
        try:
            _note(directory, shelf, name)
            os.rename(draft, directory / name)
            _sync(directory)
        except OSError as error:  # the draft stays: there may be a note of it
            return Verdict(Answer.UNKNOWN, f"{name} may not be written: {_reason(error)}")
        return Verdict(Answer.HANDED_OVER, f"written to {name}")


def totals(directory: Path, upstream: str) -> dict[tuple[str, str], int]:
    """Sum the units of an upstream's files that are in the directory, by instance and line.

    Each batch counts once, and foreign files not at all. Raises InvalidInput that names all files
    that were changed or cannot be read, OSError when the directory cannot.
    """
    sums: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    for batch in batches(directory, upstream, problems):
        for event in batch:
            sums[event.data.instance, event.data.line] += event.data.units
    if problems:
        raise InvalidInput(*problems)
    return dict(sums)


def batches(directory: Path, upstream: str, problems: list[str]) -> Iterator[list[Event]]:
    """Read the events of an upstream's files that are in the directory, oldest file first.

    Each batch comes once, and foreign files not at all. Files that were changed or cannot be read
    are named in `problems`. Raises OSError when the directory cannot be read.
    """
    seen: set[str] = set()
    for name in sorted(_names(directory), key=lambda name: (read_file_name(name) or (0,), name)):
        if read_file_name(name) is None:
            continue
        try:
            body, last = open_file(_read(directory / name))
            if last.upstream != upstream or last.batch in seen:
                continue
            told = _event(body)
        except FileNotFoundError:  # carried away just now
            continue
        except (InvalidInput, msgspec.MsgspecError, OSError) as error:
            why = _reason(error) if isinstance(error, OSError) else str(error)
            problems.append(f"{name}: {why}")
            continue
        seen.add(last.batch)
        yield told


@dataclass(frozen=True)
class _Shelf:
    """What is in the directory: by batch id the names of files, and of notes, oldest first."""

    files: dict[str, str]
    notes: dict[str, str]
    number: int  # the highest that was ever given, as far as is known


def _make(directory: Path) -> None:
    with suppress(FileExistsError):
        directory.mkdir(mode=0o750)
        _sync(directory.parent)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory against all other writers, threads and processes alike.

    Raises TimeoutError after LOCK_WAIT_S. The kernel frees the lock of a process that is killed.
    """
    until_s = time.monotonic() + LOCK_WAIT_S
    path = directory / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
        try:
            if _lock(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)
        if time.monotonic() >= until_s:
            raise TimeoutError("another writer holds it")
        time.sleep(LOCK_POLL_S)


def _lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have removed the file meanwhile, and another writer locked a new one.
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _tidy(directory: Path) -> _Shelf:
    """Finish or throw away what a killed writer left, and tell what is there. Under the lock."""
    notes = _read_notes(directory)
    noted = set(notes.values())
    names = _names(directory)
    finished = False
    for draft in names:
        name = draft.removeprefix(".").removesuffix(DRAFT)
        if draft != f".{name}{DRAFT}" or read_file_name(name) is None:
            continue
        if name in noted and name not in names:
            if not finished:  # the note may have been seen before it was durable
                _sync(directory / SEQUENCE)
            os.rename(directory / draft, directory / name)
            finished = True
        else:
            with suppress(OSError):  # it is in nobody's way
                os.unlink(directory / draft)
    if finished:
        _sync(directory)
        names = _names(directory)
    numbered = {name: parts for name in names if (parts := read_file_name(name))}
    given = [parts[0] for name in (*numbered, *noted) if (parts := read_file_name(name))]
    files = {batch_id: name for name, (_, batch_id) in numbered.items()}
    return _Shelf(files, notes, max(given, default=0))


def _found(directory: Path, name: str, batch: Batch) -> Verdict:
    """Judge the file that a batch has already."""
    try:
        body, last = open_file(_read(directory / name, sync=True))
    except FileNotFoundError:
        return Verdict(Answer.HANDED_OVER, f"written to {name}, which was carried away since")
    except InvalidInput as error:
        return Verdict(Answer.STOPPED, f"{name}: {error.message}")
    if (body, last.batch) != (batch.body, batch.id):
        return Verdict(Answer.STOPPED, f"{name} is another batch's")
    _sync(directory)
    return Verdict(Answer.HANDED_OVER, f"written to {name}")


def _read_notes(directory: Path) -> dict[str, str]:
    try:
        data = (directory / SEQUENCE).read_bytes()
    except FileNotFoundError:
        return {}
    # A name that was cut short by a crash is no name: it lacks its suffix.
    lines = data.decode("ascii", "replace").split("\n")
    return {parts[1]: name for name in lines if (parts := read_file_name(name))}


def _note(directory: Path, shelf: _Shelf, name: str) -> None:
    """Write down durably that a file of this name is about to be there."""
    path = directory / SEQUENCE
    if not shelf.notes or len(shelf.notes) >= 2 * NOTES_KEPT:
        kept = [*shelf.notes.values()][-NOTES_KEPT:]
        fresh = path.with_name(SEQUENCE + DRAFT)
        _write(fresh, "".join(f"{each}\n" for each in (*kept, name)).encode("ascii"), 0o640)
        os.rename(fresh, path)
        _sync(directory)
        return
    with path.open("ab") as file:
        # Before it as well, should the last note have been cut short.
        file.write(f"\n{name}\n".encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _read(path: Path, *, sync: bool = False) -> bytes:
    # Not to wait for a pipe, nor to follow a link, that somebody left under such a name.
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InvalidInput("Not a regular file")
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
        if sync:
            os.fsync(file.fileno())
    return data


def _names(directory: Path) -> set[str]:
    return set(os.listdir(directory))


def _sync(path: Path) -> None:
    """Make durable what a file holds, or which names a directory has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(directory: Path, name: str) -> Path:
    return directory / f".{name}{DRAFT}"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
