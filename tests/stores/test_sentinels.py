"""Sentinels make another server the primary, whatever became of the old one, which then follows."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.stores.programs import HOST
from tests.stores.sentinels import NAME, QUIET_MS, Sentinels
from tests.stores.servers import ANSWER_S_MAX, Server
from tests.stores.wired_sentinels import WiredSentinels
from tests.system.processes import eventually

SILENCE_S = 0.5

pytestmark = pytest.mark.slow


def test_a_client_finds_the_primary_by_way_of_the_url(tmp_path: Path) -> None:
    with Sentinels(tmp_path, replicas=1, down_after_ms=QUIET_MS) as sentinels:
        addresses, _, name = sentinels.url.removeprefix("redis+sentinel://").partition("/")
        assert name == NAME
        hosts = [(each.split(":")[0], int(each.split(":")[1])) for each in addresses.split(",")]
        found = redis.Sentinel(hosts).discover_master(name)
        assert found == ("127.0.0.1", sentinels.primary().port)
        assert sentinels.primary() is sentinels.servers[0]
        assert sentinels.replicas() == sentinels.servers[1:]


LOST: dict[str, tuple[Callable[[Server], None], Callable[[Server], None]]] = {
    "killed": (Server.kill, Server.start),
    "paused": (Server.pause, Server.wake),
}


@pytest.mark.parametrize(("lose", "bring_back"), LOST.values(), ids=LOST)
def test_the_place_of_a_primary_is_taken_that_was(
    lose: Callable[[Server], None], bring_back: Callable[[Server], None], tmp_path: Path
) -> None:
    with Sentinels(tmp_path) as sentinels:
        old = sentinels.primary()
        with old.client() as client:
            client.set("a", 1)
            assert client.execute_command("WAIT", 2, 20_000) == 2
        lose(old)
        new = sentinels.wait_other_primary(old)
        assert new is sentinels.primary() is not old
        assert new.ask("GET", "a") == "1"
        sentinels.wait_in_sync(1)
        bring_back(old)
        sentinels.wait_in_sync()
        assert old.info("replication")["role"] == "slave"


def test_cut_off_a_primary_keeps_who_is_beside_it_and_then_follows_another(tmp_path: Path) -> None:
    with WiredSentinels(tmp_path) as sentinels:
        old = sentinels.primary()
        there = (HOST, old.known_port)
        with (
            redis.Redis(*there, client_name="beside", socket_timeout=ANSWER_S_MAX) as beside,
            socket.create_connection(there, ANSWER_S_MAX) as far,
        ):
            assert beside.set("a", 1)
            far.sendall(b"PING\r\n")
            assert far.recv(7) == b"+PONG\r\n"
            sentinels.wait_in_sync()
            with sentinels.cut(old, ["beside"]):
                new = sentinels.wait_other_primary(old)
                assert beside.set("a", 2)
                assert old.info("replication")["role"] == "master"
                assert new.ask("GET", "a") == "1"
                far.settimeout(SILENCE_S)
                far.sendall(b"PING\r\n")
                with pytest.raises(TimeoutError):
                    far.recv(1)
            sentinels.wait_in_sync()
        assert old.ask("GET", "a") == "1"


def test_a_failover_that_is_asked_for_loses_nothing(tmp_path: Path) -> None:
    with Sentinels(tmp_path, down_after_ms=QUIET_MS) as sentinels:
        old = sentinels.primary()
        old.ask("SET", "a", 1)
        sentinels.wait_in_sync()
        assert sentinels.failover() is not old
        sentinels.wait_in_sync()
        assert [server.ask("GET", "a") for server in sentinels.servers] == ["1"] * 3


def test_with_too_few_replicas_a_write_is_refused(tmp_path: Path) -> None:
    few = {"replicas": 1, "sentinels": 1, "min_replicas": 1, "down_after_ms": QUIET_MS}
    with Sentinels(tmp_path, **few) as sentinels:  # type: ignore[arg-type]
        primary, replica = sentinels.primary(), sentinels.replicas()[0]
        eventually(lambda: primary.try_ask("SET", "a", 1))  # not while the replica lags behind
        replica.kill()
        with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
            primary.ask("SET", "a", 2)
        assert primary.ask("GET", "a") == "1"
