"""A server of a test is started, killed, paused and started again, and never outlives the tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.stores.programs import HOST, START_S_MAX, Program
from tests.stores.servers import ANSWER_S_MAX, Server
from tests.system.processes import clean_environ, eventually, has_ended, read_line

SILENCE_S = 0.05

# Two starts come to nothing.
LATE = 'echo >> starts; [ "$(wc -l < starts)" -lt 3 ] && exit 1; exec sleep 60'
OWNER = """
import sys, time
from pathlib import Path
from tests.stores.servers import Server
server = Server(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def test_killed_and_started_again_it_has_its_data_and_its_port(tmp_path: Path) -> None:
    with Server(tmp_path / "a", appendfsync="always") as server:
        url = server.url
        server.ask("SET", "a", 1)
        server.kill()
        assert not server.running
        assert server.try_ask("PING") is None
        server.start()
        assert (server.url, server.ask("GET", "a")) == (url, "1")
    assert not server.running


def test_a_program_that_ends_by_itself_is_started_until_it_is_ready(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    def ready() -> bool:
        return starts.exists() and starts.read_text().count("\n") == 3

    program = Program(tmp_path, ["sh", "-c", LATE], ready)
    try:
        program.keep_starting(60)
        assert program.running
        starts.write_text("\n" * 9)  # it runs, and never is
        program.kill()
        with pytest.raises(AssertionError, match="in time"):
            program.keep_starting(0.2)
    finally:
        program.kill()


def test_settings_are_those_that_were_asked_for(tmp_path: Path) -> None:
    with Server(tmp_path / "a", maxmemory="20mb", save="3600 1", appendonly="no") as server:
        told = {name: server.ask("CONFIG", "GET", name)[name] for name in ("save", "appendonly")}
        assert told == {"save": "3600 1", "appendonly": "no"}
        assert server.info("memory")["maxmemory"] == 20 * 2**20


def test_paused_it_answers_nobody_and_awake_it_does_what_was_asked_meanwhile(
    tmp_path: Path,
) -> None:
    with Server(tmp_path / "a") as server:
        server.ask("SET", "a", 1)
        server.pause()
        with socket.create_connection((HOST, server.port), SILENCE_S) as client:
            client.sendall(b"INCR a\r\n")
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert server.try_ask("PING") is None
            server.wake()
            client.settimeout(ANSWER_S_MAX)
            assert client.recv(4) == b":2\r\n"
        assert server.ask("GET", "a") == "2"


def test_stopped_it_ends_in_order_also_when_it_is_paused(tmp_path: Path) -> None:
    with Server(tmp_path / "a") as server:
        server.pause()
        server.stop()
        assert "bye bye" in server.log


def test_one_that_cannot_start_says_why_and_is_gone(tmp_path: Path) -> None:
    server = Server(tmp_path / "a", no_such_setting=1)
    with pytest.raises(AssertionError, match="no-such-setting"), server:
        pass
    assert not server.running


def test_started_by_a_thread_it_outlives_the_thread(tmp_path: Path) -> None:
    server = Server(tmp_path / "a")
    try:
        starting = threading.Thread(target=server.start)
        starting.start()
        starting.join()
        eventually(server.answers)
        assert "SIGTERM" not in server.log
    finally:
        server.kill()


def test_it_ends_with_the_tests_even_when_they_are_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "a")],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environ(),
    )
    try:
        pid = int(read_line(owner, 2 * START_S_MAX))
        assert not has_ended(pid)
    finally:
        owner.kill()
        owner.communicate()
    eventually(lambda: has_ended(pid))
