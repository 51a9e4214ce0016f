"""Files that are there whole or not at all: written once, by whoever comes first, or written over.

Decided here: that what is written over stays beside it. Source: INTERFACE 1 and 2.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_once(path: Path, content: bytes, mode: int) -> None:
    """Write a file unless it is there, and have it on disk. Raises OSError.

    Written whole under a name of its own, then linked: a reader never sees half of it, and of two
    makers the first one wins. A draft that a crash leaves is in nobody's way.
    """
    with _draft(path, content, mode) as draft, suppress(FileExistsError):
        os.link(draft, path)
    sync_directory(path.parent)


def write_over(path: Path, content: bytes, mode: int, beside: Path) -> None:
    """Put a file in the place of another, which stays as `beside`, and have both on disk.

    Whoever reads has the one or the other, whole. Raises OSError, also where there is a `beside`.
    """
    with _draft(path, content, mode) as draft:
        with suppress(FileNotFoundError):
            os.link(path, beside)
        os.replace(draft, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have names of files on disk: else one may be gone where its content is not."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _draft(path: Path, content: bytes, mode: int) -> Iterator[str]:
    """Give the name of a file with this content, on disk beside `path`; gone at the end."""
    descriptor, draft = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
