"""The file of a backup on disk: never half under its name, and for nobody else's eyes.

Decided here: that it is written as FILE.part with mode 0600, synced, and renamed over FILE; that
two do not write to one name at a time. A part that a kill leaves is written over by the next run.
One that goes to another program goes to no terminal.
Not decided here: what is in it (protocols/backup_file.py).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from gateway.core.errors import InvalidInput
from gateway.store.files import sync_directory

MODE: Final = 0o600


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; it is there, whole and on disk, when the block ends without an error.

    Raises InvalidInput where it cannot be written.
    """
    if not path.name or path.is_dir():
        raise InvalidInput(f"{path} is a directory; --out names a file, such as nightly.gwb")
    part = path.with_name(f"{path.name}.part")
    try:
        file = _opened(part)
    except BlockingIOError:
        raise InvalidInput(f"{part} is being written by another backup") from None
    except OSError as error:
        raise InvalidInput(f"{part} cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)
        sync_directory(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def streamed(output: BinaryIO) -> Iterator[BinaryIO]:
    """Give what goes to another program. What breaks off has no last line, and is refused by it.

    Raises InvalidInput for a terminal, and where nobody reads.
    """
    if output.isatty():
        raise InvalidInput("A backup is for no terminal; say --out FILE, or send it on")
    try:
        yield output
        output.flush()
    except OSError as error:
        raise InvalidInput(f"The backup cannot be written: {error.strerror}") from None


@contextmanager
def opened_backup(path: Path) -> Iterator[BinaryIO]:
    """Give a file to read, the same one to the end whatever is renamed over it meanwhile.

    Raises InvalidInput.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield file


def _opened(part: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(part, flags, MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink != 1:  # who wrote it has just renamed or removed it
            raise BlockingIOError
        os.fchmod(descriptor, MODE)
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "wb")
