"""kill -9 of the embedded store while it counts: every count that it has answered is there again.

Not only at random moments, but also while its file is being synced: a server that syncs by itself
every second holds its writes back then, and answers all the same.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import redis

from gateway.store import flushing
from gateway.store.embedded import Embedded
from tests.system.processes import eventually

COUNT = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
PIPELINED = 64
ALIVE_S_MAX = 0.05
SYNCING_S_MAX = 0.002
FLUSH_S = 0.01
KILLS = [5, pytest.param(60, marks=pytest.mark.slow)]

Kill = Callable[[], None]


@pytest.mark.parametrize("kills", KILLS)
def test_a_kill_at_any_moment_loses_nothing_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setattr(flushing, "FLUSH_S", FLUSH_S)
    chance = random.Random(kills)  # noqa: S311 - a seed, so that a run can be had again

    def at_random(kill: Kill) -> None:
        threading.Timer(chance.uniform(0, ALIVE_S_MAX), kill).start()

    kill_again_and_again(tmp_path, at_random, kills)


@pytest.mark.parametrize("kills", KILLS)
def test_a_kill_while_the_file_is_synced_loses_nothing_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setattr(flushing, "FLUSH_S", FLUSH_S)
    chance = random.Random(kills)  # noqa: S311 - a seed, so that a run can be had again
    armed: list[Kill] = []
    sync = os.fdatasync

    def sync_and_die(descriptor: int) -> None:
        if armed:
            threading.Timer(chance.uniform(0, SYNCING_S_MAX), armed.pop()).start()
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync_and_die)
    kill_again_and_again(tmp_path, armed.append, kills)


def kill_again_and_again(data_dir: Path, arm: Callable[[Kill], None], kills: int) -> None:
    """Count without a pause; `arm` gets what kills the store, and sees to the moment."""
    with closing(Embedded(data_dir)) as store:
        for _ in range(kills):
            path = store.ensure()
            pid, before = look(path)
            answered = count_until_it_ends(path, lambda pid=pid: arm(lambda: slay(pid)))  # type: ignore[misc]
            eventually(lambda: not store.owned)
            kept = look(store.ensure())[1]
            # All that was answered, and of the rest no more than was under way.
            assert max(before, answered) <= kept <= max(before, answered) + PIPELINED


def slay(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def look(path: str) -> tuple[int, int]:
    """Give the server's process id, and what it has counted."""
    with redis.Redis(unix_socket_path=path, socket_timeout=30) as client:
        return int(client.info("server")["process_id"]), int(client.get("n") or 0)


def count_until_it_ends(path: str, begun: Kill) -> int:
    """Keep PIPELINED counts under way; give the last one answered, read byte by byte as it came."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(path)
        under_way = answered = 0
        heard = b""
        begun()
        try:
            while True:
                connection.sendall(COUNT * (PIPELINED - under_way))
                received = connection.recv(65_536)
                if not received:
                    return answered
                *whole, heard = (heard + received).split(b"\r\n")
                under_way = PIPELINED - len(whole)
                if whole:
                    answered = int(whole[-1].removeprefix(b":"))
        except ConnectionError:
            return answered
