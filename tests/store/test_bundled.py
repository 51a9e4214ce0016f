"""The bundled server's own side: its settings, who reaches it, its files, its last words."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from gateway.core.errors import InvalidInput
from gateway.store.bundled import LOG_BYTES_MAX, LOG_FILE, SOCKET_FILE
from gateway.store.embedded import Embedded, StartFailed


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path) -> Iterator[Embedded]:
    with closing(Embedded(data_dir)) as embedded:
        yield embedded


@pytest.mark.parametrize(("fsync_each_write", "appendfsync"), [(False, "no"), (True, "always")])
def test_it_is_set_up_to_lose_nothing(
    data_dir: Path, fsync_each_write: bool, appendfsync: str
) -> None:
    expected = {
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    with (
        closing(Embedded(data_dir, fsync_each_write=fsync_each_write)) as store,
        connect(store.ensure()) as client,
    ):
        actual = {name: client.config_get(name)[name] for name in expected}
    assert expected == actual


def test_nothing_listens_on_tcp(store: Embedded) -> None:
    proc = Path("/proc") / str(pid_of(store.ensure()))
    opened = [os.readlink(link) for link in (proc / "fd").iterdir()]
    sockets = {match[1] for name in opened if (match := re.fullmatch(r"socket:\[(\d+)\]", name))}
    tables = [(proc / "net" / name).read_text() for name in ("tcp", "tcp6")]
    tcp_sockets = {line.split()[9] for table in tables for line in table.splitlines()[1:]}
    assert sockets
    assert sockets.isdisjoint(tcp_sockets)


def test_only_the_user_who_started_it_gets_at_the_data(store: Embedded, data_dir: Path) -> None:
    store.ensure()
    for path in (data_dir, *data_dir.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_ctrl_c_in_the_terminal_is_not_sent_to_it(store: Embedded) -> None:
    assert os.getpgid(pid_of(store.ensure())) != os.getpgid(0)


def test_it_ends_cleanly_when_asked_to(store: Embedded, data_dir: Path) -> None:
    store.ensure()
    store.close()
    assert "ready to exit" in (data_dir / LOG_FILE).read_text()
    assert not (data_dir / SOCKET_FILE).exists()


def test_an_append_only_file_cut_off_in_its_last_command_is_loaded(
    store: Embedded, data_dir: Path
) -> None:
    path = store.ensure()
    with connect(path) as client:
        client.set("whole", "1")
        client.set("cut", "1")
    os.kill(pid_of(path), signal.SIGKILL)
    store.close()
    (written,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    os.truncate(written, written.stat().st_size - 3)
    with connect(store.ensure()) as client:
        assert client.mget("whole", "cut") == [b"1", None]


def test_a_server_that_ends_at_its_start_says_why(store: Embedded, data_dir: Path) -> None:
    in_place = data_dir / SOCKET_FILE
    in_place.mkdir(parents=True)
    with pytest.raises(StartFailed) as caught:
        store.ensure()
    assert caught.value.message == (
        f"The embedded store in {data_dir} ended at its start: "
        f"Failed opening Unix socket: bind: Address already in use ({data_dir / LOG_FILE})"
    )
    assert not store.owned
    in_place.rmdir()
    store.ensure()
    assert store.owned


def test_a_log_grown_too_long_is_put_aside_at_the_start(store: Embedded, data_dir: Path) -> None:
    data_dir.mkdir()
    log = data_dir / LOG_FILE
    log.touch()
    os.truncate(log, LOG_BYTES_MAX + 1)
    store.ensure()
    assert log.with_name(f"{LOG_FILE}.1").stat().st_size == LOG_BYTES_MAX + 1
    assert 0 < log.stat().st_size < LOG_BYTES_MAX


def test_a_log_that_cannot_be_written_is_refused_in_a_sentence(
    store: Embedded, data_dir: Path
) -> None:
    log = data_dir / LOG_FILE
    log.mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"The log .* cannot be written: Is a directory"):
        store.ensure()
    assert not (data_dir / SOCKET_FILE).exists()


def connect(path: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=path, socket_timeout=30)


def pid_of(path: str) -> int:
    with connect(path) as client:
        return int(client.info("server")["process_id"])
