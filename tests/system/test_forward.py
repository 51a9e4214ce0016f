"""Two gateways as processes: usage of one arrives once at the other, by `forward` or `serve`."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.stores.programs import lasting_port
from tests.system.processes import (
    AWAIT_S,
    COMMAND,
    Gateway,
    Processes,
    clean_environ,
    eventually,
)

LINES = """
  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  count = 1000
  model = "metered"
"""


class House:
    """A gateway and its parent, provisioned; the gateway does not forward by itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes = Processes(directory)
        self.port = lasting_port()  # used once the parent is there
        self.run("keys", "generate", "--out", str(directory / "keys"))
        self.provision("PARENT", "")
        self.provision("CHILD", '  [[instance.upstream]]\n  name = "parent"\n')
        key = str(directory / "keys" / "public.pem")
        self.run("keys", "add", "PARENT", "--public", key, "--kid", "k", "--forwarder", at="PARENT")
        self.run("keys", "add", "CHILD", "--public", key, at="CHILD")
        self.config = directory / "gateway.toml"
        self.config.write_text(
            '[[upstream]]\nname = "parent"\nkind = "cmapi"\nkey_file = "keys/private.pem"\n'
            f'url = "http://127.0.0.1:{self.port}/api/1.0/instances/PARENT"\n'
            'kid = "k"\ndedupe_horizon = "30d"\ninterval = "1s"\n'
        )

    def provision(self, instance: str, more: str) -> None:
        file = self.directory / f"{instance}.toml"
        file.write_text(f'[[instance]]\nid = "{instance}"\n{more}{LINES}')
        self.run("apply", str(file), at=instance)

    def run(self, *words: str, at: str | None = None, code: int = 0) -> str:
        """Run a command over the store of an instance; give what it said."""
        where = ["--data-dir", str(self.directory / at)] if at else []
        ended = subprocess.run(
            [*COMMAND, *words, *where],
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def parent(self) -> Gateway:
        return self.processes.serve(
            "--bind", f"127.0.0.1:{self.port}", data_dir=self.directory / "PARENT"
        )

    def child(self, *words: str) -> Gateway:
        patient = {"GATEWAY_REDIS__DEADLINE_MS": "20000"}  # also with a store that stalls
        return self.processes.serve(*words, data_dir=self.directory / "CHILD", **patient)

    def forward(self, code: int) -> str:
        return self.run("forward", "--once", "--config", str(self.config), at="CHILD", code=code)

    def post(self, gateway: Gateway, count: int) -> None:
        token = self.run("token", "--key", str(self.directory / "keys" / "private.pem")).strip()
        body = {
            "hostId": {"type": "string", "value": "h"},
            "incremental": True,
            "features": [{"name": "sessions", "count": count}],
        }
        url = f"{gateway.url}/api/1.0/instances/CHILD/access_request"
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(url, json=body, headers=headers, timeout=AWAIT_S)
        assert answer.json()["statusList"] == []

    def books(self, instance: str) -> dict[str, Any]:
        told = msgspec.json.decode(self.run("verify", "--format", "json", "--deep", at=instance))
        assert told["conservation"] == "OK"
        line: dict[str, Any] = told["instances"][0]["lines"][0]
        return line


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path)
    yield opened
    opened.processes.close()


@pytest.mark.slow  # an upstream that is away is waited for
def test_forward_once_drains_what_is_there_and_says_what_it_cannot(house: House) -> None:
    """Exit 1 and a sentence while the parent is away; then exit 0, once, and nothing twice."""
    child = house.child("--no-forward")
    house.post(child, 42)
    told = house.forward(code=1)
    assert "CHILD -> parent" in told
    assert house.books("CHILD")["forwarded"] == 0
    parent = house.parent()
    assert "nothing is left" in house.forward(code=0)
    house.post(child, 8)
    assert "nothing is left" in house.forward(code=0)
    assert "nothing is left" in house.forward(code=0)
    assert [house.books("CHILD")[word] for word in ("acked", "forwarded", "open")] == [50, 50, 0]
    assert house.books("PARENT")["acked"] == 50
    parent.signal(signal.SIGTERM)
    assert parent.exit_code() == 0


@pytest.mark.slow  # a lease has to lapse
def test_serve_forwards_by_itself_and_a_kill_in_the_middle_counts_once(house: House) -> None:
    """The sealed batch of a killed gateway goes again under its id, and arrives once."""
    house.parent()
    for _ in range(2):
        child = house.child("--config", str(house.config))
        for _ in range(3):
            house.post(child, 5)
        child.signal(signal.SIGKILL)
        child.process.wait(AWAIT_S)
    child = house.child("--config", str(house.config))
    # The lease of the killed one has to lapse first: 15 s.
    eventually(lambda: house.books("CHILD")["forwarded"] == 30, within_s=120)
    assert house.books("PARENT")["acked"] == 30
