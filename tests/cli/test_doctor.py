"""`doctor` as a person types it: a line for each check, what to do, and the exit code."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.doctoring import store as store_checks
from gateway.cli.doctoring import upstreams as upstream_checks
from gateway.cli.doctoring.store import _judge_clock
from gateway.core.keys import generate, private_pem
from gateway.store.findings import Verdict
from gateway.store.keys import META
from gateway.store.opening import open_store
from tests.store.redis_server import redis_server
from tests.stores.servers import Server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("doctor"), appendfsync="always") as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    _server.ask("FLUSHALL")
    return _server


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], prog_name="cmapi-gateway")


def checks(*arguments: str) -> dict[str, dict[str, Any]]:
    """The checks by name; of several only the last."""
    result = doctor(*arguments, "--format", "json")
    told = json.loads(result.stdout)
    worst = {each["verdict"] for each in told["checks"]}
    assert told["verdict"] == next(v for v in ("FAIL", "warn", "ok") if v in worst)
    assert result.exit_code == (1 if "FAIL" in worst else 0)
    return {each["check"]: each for each in told["checks"]}


def configured(directory: Path, text: str) -> list[str]:
    (directory / "gateway.toml").write_text(text)
    return ["--config", str(directory / "gateway.toml"), "--data-dir", str(directory / "var")]


def test_sound_store_is_a_line_for_each_check(server: Server, tmp_path: Path) -> None:
    arguments = configured(tmp_path, '[redis]\nack = "local"\n')
    result = doctor(*arguments, "--redis", server.url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    named = [line[4:].split("  ")[0].strip() for line in lines]
    assert named == [
        *("version", "eviction", "role", "append-only file", "syncs", "durability"),
        *("clock", "layout", "signing key", "upstreams"),
    ]
    assert "WAITAOF 1 0 reached, in " in lines[5]


def test_nothing_is_left_in_the_store_and_nothing_is_made(server: Server, tmp_path: Path) -> None:
    arguments = configured(tmp_path, f'[redis]\nurl = "{server.url}"\n')
    found = checks(*arguments)
    assert "not laid out yet; the first start makes 256 partitions" in found["layout"]["told"]
    assert f"the first start makes it, in the store's {META}" in found["signing key"]["told"]
    assert server.ask("KEYS", "*") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.toml"]


def test_store_in_use_is_as_it_was_laid_out(server: Server, tmp_path: Path) -> None:
    async def use() -> None:
        async with open_store(server.url, tmp_path, partitions=8):
            pass

    asyncio.run(use())
    found = checks("--redis", server.url)
    assert (found["layout"]["verdict"], found["layout"]["mend"]) == (
        "FAIL",
        "set redis.partitions = 8",
    )
    arguments = configured(tmp_path, f'[redis]\nurl = "{server.url}"\npartitions = 8\n')
    assert checks(*arguments)["layout"]["told"] == "version 1, 8 partitions"
    server.ask("HSET", META, "layout", 9)
    assert "version 9, this gateway needs 1" in checks(*arguments)["layout"]["told"]


def test_embedded_store_is_looked_at_too(tmp_path: Path) -> None:
    found = checks("--data-dir", str(tmp_path / "var"))
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert found["signing key"]["told"].endswith("signing.pem")
    assert not (tmp_path / "var" / "signing.pem").exists()


def test_weak_store_fails_and_says_what_to_do(tmp_path: Path) -> None:
    text = '[redis]\nack = "replica_fsync"\nack_replicas = 2\n'
    weak = ("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    with redis_server(tmp_path / "store", *weak) as url:
        found = checks(*configured(tmp_path, text), "--redis", url)
        line = next(
            line
            for line in doctor(*configured(tmp_path, text), "--redis", url).stdout.splitlines()
            if "eviction" in line
        )
    failing = {name: each["mend"] for name, each in found.items() if each["verdict"] == "FAIL"}
    assert failing == {
        "eviction": "set maxmemory-policy noeviction",
        "append-only file": "set appendonly yes (CONFIG SET, and in its file)",
        "syncs": "set appendfsync always (CONFIG SET appendfsync always; also on the replicas)",
        "WAITAOF": "take Redis 7.2 or Valkey 7.2",
        "replicas": (
            "start those that are missing, or add some (REPLICAOF),"
            ' or set redis.ack = "local" or "written"'
        ),
    }
    assert line.startswith("FAIL  eviction")
    assert line.endswith("counts could be evicted; set maxmemory-policy noeviction")


def test_store_that_is_away_fails_and_the_rest_is_told(tmp_path: Path) -> None:
    for url in ("redis://:s3cret@127.0.0.1:1", "redis+sentinel://:s3cret@127.0.0.1:1/main"):
        result = doctor("--redis", url)
        assert result.exit_code == 1
        first, second = result.stdout.splitlines()
        assert first.startswith("FAIL  reach")
        assert second.startswith("ok    upstreams")
        assert "s3cret" not in result.output


@pytest.mark.parametrize(
    ("user", "rights", "mend"),
    [
        ("reader", "~gw:* +@all -info", "let this user send it"),
        ("other", "~gw:* +@all", "mend user and password in redis.url"),
    ],
)
def test_refusal_is_not_called_a_store_that_is_away(
    server: Server, user: str, rights: str, mend: str
) -> None:
    server.ask("ACL", "SETUSER", "reader", "reset", "on", ">s3cret", *rights.split())
    found = checks("--redis", server.url.replace("//", f"//{user}:s3cret@"))["reach"]
    assert found["told"].startswith("the store refuses: ")
    assert found["mend"].startswith(mend)


def test_full_store_is_told_so(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "100kb")
    try:
        found = checks("--redis", server.url)["durability"]
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0)
    assert (found["verdict"], found["mend"]) == (
        "FAIL",
        "it is full: raise maxmemory, or remove what else is kept in it",
    )


def test_sentinel_taken_for_the_store_is_told(tmp_path: Path) -> None:
    with Server(tmp_path, mode="--sentinel") as sentinel:
        found = checks("--redis", sentinel.url)
    assert found["kind"]["mend"] == "write redis.url as redis+sentinel://HOST:PORT/NAME"


@pytest.mark.parametrize(
    ("skew_s", "verdict"),
    [(0.0, Verdict.OK), (-2.0, Verdict.OK), (2.1, Verdict.WARN), (-30.1, Verdict.FAIL)],
)
def test_clocks_have_to_be_in_step(skew_s: float, verdict: Verdict) -> None:
    finding = _judge_clock("h:1", skew_s)
    assert finding.verdict is verdict
    assert f"{abs(skew_s):.1f} s apart" in str(finding)


def test_clock_of_the_store_is_compared_with_this_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store_checks.time.time
    monkeypatch.setattr(store_checks.time, "time", lambda: real() + 3_600)
    assert "3600." in checks("--redis", server.url)["clock"]["told"]


def test_signing_key_is_read_and_its_kind_compared(server: Server, tmp_path: Path) -> None:
    def told(text: str) -> tuple[str, str]:
        found = checks(*configured(tmp_path, text), "--redis", server.url)["signing key"]
        return found["verdict"], found["told"]

    (tmp_path / "key.pem").write_bytes(private_pem(generate("ES256")))
    assert told('[signing]\nalg = "ES256"\nkey_file = "key.pem"\n')[0] == "ok"
    verdict, words = told('[signing]\nkey_file = "key.pem"\n')
    assert (verdict, words.endswith("is for ES256, signing.alg is EdDSA")) == ("FAIL", True)
    verdict, words = told('[signing]\nkey_file = "none.pem"\n')
    assert (verdict, words.endswith("cannot be read: No such file or directory")) == ("FAIL", True)
    (tmp_path / "key.pem").write_text("no key")
    assert told('[signing]\nkey_file = "key.pem"\n')[0] == "FAIL"


def test_upstreams_are_reached_and_nothing_is_posted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(private_pem(generate("ES256")))
    (tmp_path / "token").write_text("a-token\n")
    (tmp_path / "there").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = "\n".join(
            [
                upstream("parent", "cmapi", f'url="http://127.0.0.1:{port}/x"\nkey_file="key.pem"'),
                upstream("meter", "cloudevents", f'url="http://127.0.0.1:{port}"'),
                upstream(
                    "bearer", "cloudevents", f'url="http://127.0.0.1:{port}"\ntoken_file="token"'
                ),
                upstream("stick", "spool", 'dir="there"'),
                upstream("later", "spool", 'dir="later"'),
            ]
        )
        result = doctor(*configured(tmp_path, text), "--redis", server.url)
        listener.settimeout(30)
        posted = []
        for _ in range(3):
            connection, _ = listener.accept()
            with connection:
                posted.append(connection.recv(9))
    assert result.exit_code == 0, result.output
    assert posted == [b""] * 3
    lines = [line.split(None, 1)[1] for line in result.stdout.splitlines()[-7:]]
    assert [line.split("  ")[0] for line in lines] == [
        *("upstream", "upstream key", "upstream", "upstream", "upstream token", "spool", "spool")
    ]
    assert f"127.0.0.1:{port} takes connections, without TLS" in lines[0]
    assert "is made with the first batch" in lines[-1]
    assert not (tmp_path / "later").exists()


def test_upstreams_that_cannot_be_used_fail(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words")
    (tmp_path / "file").write_text("")
    text = "\n".join(
        [
            upstream("parent", "cmapi", 'url="https://127.0.0.1:1/x"\nkey_file="none.pem"'),
            upstream("bearer", "cloudevents", 'url="http://a.invalid"\ntoken_file="token"'),
            upstream("stick", "spool", 'dir="file"'),
            upstream("gone", "spool", 'dir="not/there"'),
        ]
    )
    result = doctor(*configured(tmp_path, text), "--redis", server.url)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()[-6:]
    assert all(line.startswith("FAIL") for line in lines)
    assert "127.0.0.1:1 is not reached" in lines[0]
    assert "cannot be read" in lines[1]
    assert "a.invalid:80 is not reached" in lines[2]
    assert "two words" not in lines[3]
    assert "is not a directory" in lines[4]
    assert "is not there and cannot be made" in lines[5]


def test_server_without_tls_is_no_https_upstream(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_checks, "CONNECT_S_MAX", 0.2)
    (tmp_path / "key.pem").write_bytes(private_pem(generate("ES256")))
    text = upstream("parent", "cmapi", f'url="https://{server.address}"\nkey_file="key.pem"')
    found = checks(*configured(tmp_path, text), "--redis", server.url)
    assert found["upstream"]["verdict"] == "FAIL"
    assert found["upstream key"]["verdict"] == "ok"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--redis", "http://h"],
        ["--redis", "redis+sentinel://h"],
        ["--redis", "redis+cluster://h?colour=1"],
        ["--format", "xml"],
        ["--config", "/none.toml"],
    ],
)
def test_bad_input_is_one_sentence_and_2(arguments: list[str]) -> None:
    result = doctor(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


def upstream(name: str, kind: str, more: str) -> str:
    return f'[[upstream]]\nname = "{name}"\nkind = "{kind}"\n{more}\n'
