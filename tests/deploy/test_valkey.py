"""The store's configuration and its users are enough for a gateway, and no more than that.

A real server reads the very files; its port, its directory and its passwords come after them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.deploy.files import DEPLOY, read_yaml
from tests.store import rights
from tests.stores.servers import Server
from tests.system.processes import Processes

PASSWORDS = {
    "STORE_PASSWORD": "s7ore",
    "OPERATOR_PASSWORD": "0perator",
}
USERS = {
    name: words
    for _, name, *words in map(str.split, (DEPLOY / "users.acl").read_text().splitlines())
}
SYNCED = {"written": "everysec", "local": "always"}


@contextmanager
def store(directory: Path, appendfsync: str = "everysec") -> Iterator[Server]:
    """Start a server with the files as they are, as compose.yaml does it."""
    server = Server(directory)
    text = (DEPLOY / "users.acl").read_text()
    for name, password in PASSWORDS.items():
        text = text.replace(name, password)
    users = directory / "users.acl"
    users.write_text(text)
    more = {"port": server.port, "bind": "127.0.0.1", "dir": ".", "aclfile": users}
    (directory / "valkey.conf").write_text(f"include {DEPLOY / 'valkey.conf'}\n")
    server.configure(f"{name} {told}" for name, told in more.items())
    server.configure([f"appendfsync {appendfsync}"])
    server._ready = lambda: _ping(server)
    with server:
        yield server


def _ping(server: Server) -> bool:
    """Ask as the health check of compose.yaml does."""
    try:
        with _as(server, "health", "none") as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _as(server: Server, user: str, password: str) -> redis.Redis:
    # No names of libraries: a user that may only PING may not tell its name.
    return redis.Redis(
        port=server.port,
        username=user,
        password=password,
        driver_info=None,
        protocol=2,
    )


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


def test_rights_are_those_of_the_readme() -> None:
    assert tuple(USERS[rights.USER]) == ("on", ">STORE_PASSWORD", *rights.RIGHTS)
    assert USERS["default"][0] == "off"


def test_what_a_cluster_wants_besides_is_said() -> None:
    more = " ".join(right for right in rights.CLUSTER_RIGHTS if right not in rights.RIGHTS)
    assert more in (DEPLOY / "valkey.conf").read_text()
    assert more in (DEPLOY / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("ack", SYNCED)
def test_doctor_has_nothing_to_say(tmp_path: Path, processes: Processes, ack: str) -> None:
    """Under the rights of the gateway's user, at the level that the file's comment names."""
    with store(tmp_path / "store", SYNCED[ack]) as server:
        url = f"redis://gateway:{PASSWORDS['STORE_PASSWORD']}@{server.address}"
        process, log_file = processes.start(
            "doctor",
            *("--format", "json"),
            GATEWAY_REDIS__URL=url,
            GATEWAY_REDIS__ACK=ack,
        )
        told = json.loads(process.communicate(timeout=90)[0] or "{}")
    assert process.returncode == 0, log_file.read_text()
    amiss = [each for each in told["checks"] if each["verdict"] != "ok"]
    assert amiss == []


@pytest.mark.slow
def test_local_over_a_store_that_syncs_every_second_is_refused(
    tmp_path: Path, processes: Processes
) -> None:
    """So that GATEWAY_ACK alone, without VALKEY_APPENDFSYNC, promises nothing that is not kept."""
    with store(tmp_path / "store", "everysec") as server:
        url = f"redis://gateway:{PASSWORDS['STORE_PASSWORD']}@{server.address}"
        process, log_file = processes.start(
            "serve", "--bind", "127.0.0.1:0", GATEWAY_REDIS__URL=url, GATEWAY_REDIS__ACK="local"
        )
        assert process.wait(90) != 0
    assert "appendfsync" in log_file.read_text()


@pytest.mark.slow
def test_a_password_is_changed_while_gateways_go_on(tmp_path: Path) -> None:
    """Both are good for a while; a connection that is there outlives its password."""
    old, new = PASSWORDS["STORE_PASSWORD"], "7ewer"
    with (
        store(tmp_path / "store") as server,
        _as(server, "operator", PASSWORDS["OPERATOR_PASSWORD"]) as operator,
        _as(server, "gateway", old) as before,
    ):
        assert before.exists("gw:meta") == 0
        operator.execute_command("ACL", "SETUSER", "gateway", f">{new}")
        for password in (old, new):
            with _as(server, "gateway", password) as either:
                assert either.exists("gw:meta") == 0
        operator.execute_command("ACL", "SETUSER", "gateway", f"<{old}")
        with _as(server, "gateway", old) as late, pytest.raises(redis.AuthenticationError):
            late.exists("gw:meta")
        assert before.exists("gw:meta") == 0
        with _as(server, "gateway", new) as after:
            assert after.exists("gw:meta") == 0


@pytest.mark.slow
def test_nobody_else_gets_in_and_health_is_all_that_health_may_ask(tmp_path: Path) -> None:
    with store(tmp_path / "store") as server:
        with redis.Redis(port=server.port, protocol=2) as anybody, pytest.raises(redis.RedisError):
            anybody.get("gw:meta")
        with _as(server, "health", "none") as health:
            assert health.ping()
            for command in (("GET", "gw:meta"), ("INFO",), ("CONFIG", "GET", "*"), ("DBSIZE",)):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    health.execute_command(*command)
        with _as(server, "gateway", PASSWORDS["STORE_PASSWORD"]) as gateway:
            for command in (("FLUSHALL",), ("CONFIG", "SET", "save", ""), ("GET", "another")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    gateway.execute_command(*command)
        with _as(server, "operator", PASSWORDS["OPERATOR_PASSWORD"]) as operator:
            told = operator.config_get("maxmemory-policy", "appendonly", "appendfsync")
    assert told == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
    }


def test_compose_puts_every_password_in_place() -> None:
    script = read_yaml(DEPLOY / "compose.yaml")["services"]["valkey"]["command"][-1]
    text = (DEPLOY / "users.acl").read_text()
    assert {name for name in PASSWORDS if f"s/{name}/$${{{name}}}/" in script} == PASSWORDS.keys()
    assert text.count("PASSWORD") == len(PASSWORDS)
