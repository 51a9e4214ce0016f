"""The flusher: what the embedded store has written reaches the disk, in a second, by one thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from gateway.store import flushing
from gateway.store.bundled import AOF_DIR
from gateway.store.embedded import Embedded
from gateway.store.flushing import THREAD_NAME, Flusher
from gateway.store.opening import open_store
from tests.system.processes import eventually


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / AOF_DIR
    made.mkdir()
    return made


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were brought to the disk, each time it was done."""
    names: list[str] = []
    sync = os.fdatasync

    def note(descriptor: int) -> None:
        sync(descriptor)
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fdatasync", note)
    return names


@pytest.fixture
def flusher(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flusher]:
    """A flusher whose turns are 5 ms apart once it is started."""
    monkeypatch.setattr(flushing, "FLUSH_S", 0.005)
    made = Flusher(directory)
    yield made
    made.stop()


def test_only_what_has_changed_is_brought_to_the_disk(
    flusher: Flusher, directory: Path, synced: list[str]
) -> None:
    grow(directory / "a")
    grow(directory / "b")
    assert flusher.flush() == ["a", "b"]
    assert flusher.flush() == []
    grow(directory / "b")
    assert flusher.flush() == ["b"]
    assert flusher.flush() == []
    assert synced == ["a", "b", "b"]


def test_a_file_put_in_the_place_of_one_of_the_same_size_is_another(
    flusher: Flusher, directory: Path
) -> None:
    grow(directory / "a")
    assert flusher.flush() == ["a"]
    grow(directory / "new")
    (directory / "new").replace(directory / "a")
    assert flusher.flush() == ["a"]


def test_a_file_cut_and_grown_to_its_old_size_has_changed(
    flusher: Flusher, directory: Path
) -> None:
    grow(directory / "a")
    assert flusher.flush() == ["a"]
    before_ns = (directory / "a").stat().st_mtime_ns

    def cut_and_grown() -> bool:  # the clock of a file moves in steps of some ms
        os.truncate(directory / "a", 1)
        grow(directory / "a", 3)
        return (directory / "a").stat().st_mtime_ns != before_ns

    eventually(cut_and_grown)
    assert flusher.flush() == ["a"]


def test_what_is_written_during_a_sync_goes_with_the_next(
    flusher: Flusher, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(directory / "a")
    sync = os.fdatasync

    def sync_while_it_grows(descriptor: int) -> None:
        sync(descriptor)
        monkeypatch.undo()
        grow(directory / "a")

    monkeypatch.setattr(os, "fdatasync", sync_while_it_grows)
    assert [flusher.flush() for _ in range(3)] == [["a"], ["a"], []]


def test_files_that_come_and_go_are_passed_over(
    directory: Path, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(directory / "a")
    # Removed between the look at the directory and the look at the file.
    monkeypatch.setattr(os, "listdir", lambda _: ["a", "gone"])
    with capture_logs() as logs:
        assert flusher.flush() == ["a"]
        monkeypatch.undo()
        (directory / "a").unlink()
        assert flusher.flush() == []
        directory.rmdir()
        assert flusher.flush() == []
    assert logs == []


def test_an_error_is_logged_as_it_begins_and_as_it_ends_and_stops_no_other_file(
    flusher: Flusher, directory: Path
) -> None:
    (directory / "a").symlink_to("/dev/null")  # which cannot be synced
    grow(directory / "b")
    with capture_logs() as logs:
        assert flusher.flush() == ["b"]
        grow(directory / "b")
        assert flusher.flush() == ["b"]
        (directory / "a").unlink()
        grow(directory / "a")
        assert flusher.flush() == ["a"]
        assert flusher.flush() == []
    where = str(directory)
    assert logs == [
        {
            "event": "flush_failed",
            "log_level": "error",
            "directory": where,
            "why": "a: Invalid argument",
        },
        {"event": "flush_recovered", "log_level": "info", "directory": where},
    ]


def test_a_file_that_could_not_be_synced_is_tried_again(
    flusher: Flusher, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(directory / "a")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fail)
        assert flusher.flush() == []
    assert flusher.flush() == ["a"]


def test_one_thread_flushes_until_it_is_stopped(
    flusher: Flusher, directory: Path, synced: list[str]
) -> None:
    flusher.start()
    flusher.start()
    assert threads() == 1
    grow(directory.parent / "a")
    (directory.parent / "a").replace(directory / "a")  # not first empty, which is a file to flush
    eventually(lambda: synced == ["a"])
    flusher.stop()
    flusher.stop()
    assert (threads(), flusher.running) == (0, False)
    flusher.start()
    grow(directory / "a")
    eventually(lambda: synced == ["a", "a"])


def test_as_it_stops_it_flushes_once_more(
    directory: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "FLUSH_S", 3600.0)
    flusher = Flusher(directory)
    flusher.start()
    grow(directory / "a")
    flusher.stop()
    assert synced == ["a"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_flush(flusher: Flusher, directory: Path, synced: list[str]) -> None:
    flusher.start()
    child = os.fork()
    if child == 0:
        ran = flusher.running
        seen = len(synced)
        grow(directory / "a")
        flusher.stop()
        os._exit(1 if ran or len(synced) != seen else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert flusher.running


def test_the_owner_flushes_what_the_store_writes_and_others_do_not(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "FLUSH_S", 0.005)
    with closing(Embedded(tmp_path)) as owner, closing(Embedded(tmp_path)) as other:
        client = connect(owner.ensure())
        other.ensure()
        assert threads() == 1
        eventually(lambda: "appendonly.aof.1.incr.aof" in synced)
        before = synced.count("appendonly.aof.1.incr.aof")
        client.incr("n")
        eventually(lambda: synced.count("appendonly.aof.1.incr.aof") > before)
        client.bgrewriteaof()
        client.incr("n")
        rewritten = {"appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof"}
        eventually(lambda: rewritten <= set(synced))
        client.close()
        owner.close()
        assert threads() == 0


def test_a_store_that_syncs_each_write_needs_no_flusher(tmp_path: Path) -> None:
    with closing(Embedded(tmp_path, fsync_each_write=True)) as store:
        store.ensure()
        assert threads() == 0


def test_who_needs_each_write_synced_makes_a_running_store_do_so_for_good(tmp_path: Path) -> None:
    with (
        closing(Embedded(tmp_path)) as owner,
        closing(Embedded(tmp_path, fsync_each_write=True)) as strict,
        closing(Embedded(tmp_path)) as late,
        connect(owner.ensure()) as client,
    ):
        assert counted_on_disk(client, 50) == 0
        strict.ensure()
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert counted_on_disk(client, 20_000) == 1
        late.ensure()
        assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_a_store_started_anew_by_who_needs_less_is_made_to_sync_again(tmp_path: Path) -> None:
    async def story(owner: Embedded) -> None:
        owner.ensure()
        async with open_store("embedded", tmp_path, partitions=4, ack="local") as store:
            owner.close()
            owner.ensure()
            await store.client.connection_pool.disconnect()  # those of the server that has ended
            assert await store.client.config_get("appendfsync") == {"appendfsync": "no"}
            assert await store.reachable()
            assert await store.client.config_get("appendfsync") == {"appendfsync": "always"}

    with closing(Embedded(tmp_path)) as owner:
        asyncio.run(story(owner))


def counted_on_disk(client: redis.Redis, within_ms: int) -> int:
    """Count one, and say on how many local disks it is by then."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.incr("n")
        pipeline.execute_command("WAITAOF", 1, 0, within_ms)  # type: ignore[no-untyped-call]
        synced: Any = pipeline.execute()[1]
    return int(synced[0])


def connect(path: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=path, socket_timeout=30)


def grow(path: Path, by: int = 4) -> None:
    with path.open("ab") as file:
        file.write(b"x" * by)


def threads() -> int:
    return sum(thread.name == THREAD_NAME for thread in threading.enumerate())
