"""The embedded store under real processes and signals: one server, nothing lost, none left over."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import gateway
from gateway.core.errors import InvalidInput
from gateway.store.bundled import SOCKET_FILE
from gateway.store.embedded import LOCK_FILE, SOCKET_PATH_BYTES_MAX, Embedded, StartFailed

STARTERS = 8
KILLS = 6
Open = Callable[..., Embedded]

# Says when it is loaded, starts on a line, says what it found and stays until its input ends.
STARTER = """
import signal, sys
from pathlib import Path
import redis
from gateway.store.embedded import Embedded
if sys.argv[2:] == ["block"]:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
store = Embedded(Path(sys.argv[1]))
print("loaded", flush=True)
sys.stdin.readline()
with redis.Redis(unix_socket_path=store.ensure()) as client:
    client.incr("starters")
    print(client.info("server")["process_id"], store.owned, flush=True)
sys.stdin.read()
store.close()
"""


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    opened: list[Embedded] = []

    def open_one(data_dir: Path = tmp_path / "data") -> Embedded:
        opened.append(Embedded(data_dir))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def start_starter(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path / "data"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(gateway.__file__).parents[1])},
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def test_it_starts_and_answers(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    path = store.ensure()
    assert str(tmp_path / "data" / SOCKET_FILE) == path
    assert store.owned
    with connect(path) as client:
        assert client.set("k", "v")


def test_a_second_one_attaches_and_only_the_owner_ends_it(open_store: Open) -> None:
    first, second = open_store(), open_store()
    path = first.ensure()
    assert path == second.ensure() == first.ensure()
    assert (first.owned, second.owned) == (True, False)
    pid = pid_of(path)
    second.close()
    assert pid == pid_of(path)
    first.close()
    assert not first.owned
    assert has_ended(pid)
    first.close()


def test_after_the_owner_closed_another_takes_over_with_the_data(open_store: Open) -> None:
    first, second = open_store(), open_store()
    first.ensure()
    with connect(second.ensure()) as client:
        client.set("k", "kept")
    first.close()
    with connect(second.ensure()) as client:
        assert client.get("k") == b"kept"
    assert second.owned


@pytest.mark.slow
def test_many_starters_at_once_make_one_server(
    start_starter: Callable[..., subprocess.Popen[str]],
) -> None:
    starters = [start_starter() for _ in range(STARTERS)]
    loaded = [read_line(starter) for starter in starters]
    assert loaded == ["loaded\n"] * STARTERS
    for starter in starters:
        write_line(starter)
    found = [read_line(starter).split() for starter in starters]
    assert len({pid for pid, _ in found}) == 1
    assert [owned for _, owned in found].count("True") == 1


def test_what_was_acknowledged_survives_a_kill_of_the_server(open_store: Open) -> None:
    store = open_store()
    path = store.ensure()
    for kill in range(1, KILLS + 1):
        with connect(path) as client:
            acknowledged = [client.incr("n") for _ in range(50)][-1]
        os.kill(pid_of(path), signal.SIGKILL)
        eventually(lambda: not store.owned)
        path = store.ensure()
        assert store.owned
        with connect(path) as client:
            assert acknowledged == kill * 50 == int(client.get("n"))


@pytest.mark.parametrize("arguments", [[], ["block"]])
def test_it_ends_with_a_killed_owner_and_another_finds_the_data(
    open_store: Open,
    start_starter: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    arguments: list[str],
) -> None:
    owner = start_starter(*arguments)
    write_line(owner)
    assert read_line(owner) == "loaded\n"
    pid, owned = read_line(owner).split()
    assert owned == "True"
    owner.kill()
    eventually(lambda: has_ended(int(pid)))
    eventually(lambda: lock_is_free(tmp_path / "data"))
    store = open_store()
    with connect(store.ensure()) as client:
        assert client.get("starters") == b"1"
    assert store.owned


@pytest.mark.slow
def test_an_owner_killed_while_it_starts_the_server_leaves_none(
    open_store: Open, start_starter: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for kill in range(KILLS):
        owner = start_starter()
        assert read_line(owner) == "loaded\n"
        write_line(owner)
        eventually(lambda: (tmp_path / "data" / LOCK_FILE).exists())
        # From before the fork to after the first answer; the moment is the point, not a wait.
        threading.Event().wait(kill * 0.03)
        owner.kill()
        owner.wait()
        eventually(lambda: lock_is_free(tmp_path / "data"))
    store = open_store()
    store.ensure()
    assert store.owned


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_of_the_owner_does_not_end_it(open_store: Open) -> None:
    store = open_store()
    path = store.ensure()
    child = os.fork()
    if child == 0:
        owned = store.owned
        store.close()
        os._exit(1 if owned else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.owned
    pid_of(path)


def test_a_stale_socket_and_a_leftover_lock_are_no_hindrance(
    open_store: Open, tmp_path: Path
) -> None:
    store = open_store()
    path = store.ensure()
    os.kill(pid_of(path), signal.SIGKILL)
    eventually(lambda: not store.owned)
    assert (tmp_path / "data" / SOCKET_FILE).is_socket()
    assert (tmp_path / "data" / LOCK_FILE).exists()
    other = open_store()
    assert path == other.ensure()
    assert other.owned


def test_a_data_dir_too_long_for_a_socket_works_as_any(open_store: Open, tmp_path: Path) -> None:
    data_dir = tmp_path / ("d" * 120) / ("e" * 120)
    first, second = open_store(data_dir), open_store(data_dir)
    path = first.ensure()
    assert len(path) <= SOCKET_PATH_BYTES_MAX < len(str(data_dir))
    assert pid_of(path) == pid_of(second.ensure())
    assert not second.owned
    first.close()
    assert second.ensure()
    assert second.owned


def test_a_data_dir_that_cannot_be_one_is_refused_in_a_sentence(
    open_store: Open, tmp_path: Path
) -> None:
    in_place = tmp_path / "file"
    in_place.write_text("mine")
    refused = {
        in_place: f"The data dir {in_place} is not a directory",
        in_place / "below": f"The data dir {in_place / 'below'} is not a directory",
        # Nobody, root included, makes files here.
        Path("/proc"): "The data dir /proc is not writable: No such file or directory",
        Path("/proc/data"): "The data dir /proc/data cannot be made: No such file or directory",
    }
    for data_dir, sentence in refused.items():
        store = open_store(data_dir)
        with pytest.raises(InvalidInput) as caught:
            store.ensure()
        assert sentence == caught.value.message
        assert not store.owned
    assert in_place.read_text() == "mine"


def test_a_server_that_does_not_answer_is_waited_for_in_bounds(open_store: Open) -> None:
    store, other = open_store(), open_store()
    path = store.ensure()
    pid = pid_of(path)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StartFailed, match="was not ready in time"):
            other.ensure(timeout_s=0.1)
        turns = asyncio.run(turns_of_the_loop_until_late(other))
        assert turns > 10
    finally:
        os.kill(pid, signal.SIGCONT)
    assert path == other.ensure()
    assert pid == pid_of(path)


async def turns_of_the_loop_until_late(store: Embedded) -> int:
    attempt = asyncio.ensure_future(store.ensure_async(timeout_s=0.9))  # two greetings
    turns = 0
    while not attempt.done():
        turns += 1
        await asyncio.sleep(0.001)
    with pytest.raises(StartFailed, match="was not ready in time"):
        await attempt
    return turns


def test_a_running_loop_starts_it_again(open_store: Open) -> None:
    store, other = open_store(), open_store()

    async def use() -> None:
        path = await store.ensure_async()
        os.kill(pid_of(path), signal.SIGKILL)
        await asyncio.gather(store.ensure_async(), other.ensure_async())

    asyncio.run(use())
    assert {store.owned, other.owned} == {True, False}


def test_another_thread_may_attach_but_not_start(open_store: Open, tmp_path: Path) -> None:
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            outcomes.append(open_store().ensure())
        except RuntimeError as error:
            outcomes.append(str(error))

    for prepare in (lambda: None, lambda: open_store().ensure()):
        prepare()
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    refusal = "The embedded store is started from the main thread only"
    assert [refusal, str(tmp_path / "data" / SOCKET_FILE)] == outcomes


def connect(path: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=path, socket_timeout=30)


def pid_of(path: str) -> int:
    with connect(path) as client:
        return int(client.info("server")["process_id"])


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"  # ended; whoever inherited it has not asked yet


def lock_is_free(data_dir: Path) -> bool:
    with (data_dir / LOCK_FILE).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def write_line(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def eventually(condition: Callable[[], bool], within_s: float = 60) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not come true in time"
        time.sleep(0.005)
