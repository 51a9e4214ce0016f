"""The embedded store ends under a gateway: whatever is asked then is answered again, and soon.

What reads a catalogue first never comes to the lane, which starts the store again by itself.
"""

from __future__ import annotations

import http.client
import itertools
import os
import signal
from collections.abc import Iterator

import pytest
import redis

from tests.system.processes import AWAIT_S, Gateway, Processes, eventually

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    processes = Processes(tmp_path_factory.mktemp("away"))
    try:
        yield processes.serve()
    finally:
        processes.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "features"), ("POST", "access_request")],
    ids=["an administrator", "a client of an instance not read yet"],
)
def test_who_reads_a_catalogue_first_is_answered_again(
    gateway: Gateway, method: str, path: str
) -> None:
    def status() -> int:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=AWAIT_S)
        try:
            url = f"/api/1.0/instances/COLD-{next(_numbers)}/{path}"
            connection.request(method, url, "{}", {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    def another_store() -> bool:
        try:
            return gateway.store_pid() != killed
        except redis.RedisError:
            return False

    assert status() == 401
    killed = gateway.store_pid()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: status() == 401 and another_store())
