"""Files that are written once: whole, by whoever comes first, whatever a crash left behind."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from gateway.store.files import write_once


def test_the_first_of_many_makers_wins_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    contents = [bytes([at]) * 4096 for at in range(8)]
    with ThreadPoolExecutor(8) as makers:
        list(makers.map(partial(write_once, path, mode=0o600), contents))
    assert path.read_bytes() in contents
    assert path.stat().st_mode & 0o777 == 0o600
    write_once(path, b"later", 0o644)
    assert path.read_bytes() in contents
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container a process has the number of the one that was killed before it."""
    path, draft = tmp_path / "key.pem", tmp_path / f"key.pem.{os.getpid()}"
    draft.write_bytes(b"hal")
    write_once(path, b"whole", 0o600)
    assert path.read_bytes() == b"whole"


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("this file system has no links")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(PermissionError):
        write_once(tmp_path / "key.pem", b"whole", 0o600)
    assert list(tmp_path.iterdir()) == []
