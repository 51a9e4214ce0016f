"""Every command over each kind of store: one server, a primary that sentinels name, a cluster.

As a user with the least rights. A gateway serves beside them all the time, and goes on after a
primary was killed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from gateway.store.keys import PARTITIONS_DEFAULT, PartitionKeys, partition_of
from tests.store.rights import (
    CLUSTER_RIGHTS,
    RIGHTS,
    SECRET,
    SENTINEL_RIGHTS,
    WATCHER,
    allow,
    refused,
    url_of,
    url_of_watched,
)
from tests.stores.clusters import Cluster
from tests.stores.sentinels import Sentinels
from tests.stores.servers import Server
from tests.system.processes import COMMAND, Gateway, Processes, clean_environ, eventually

pytestmark = pytest.mark.slow  # some twenty commands, each a process

PASSWORD = SECRET[:4]  # enough of it, however it is spelt
RECOVERED_S_MAX = 90.0
COMMAND_S_MAX = 120.0
INSTANCE = "FLEET-1"
PROVISIONED = f"""
[[instance]]
id = "{INSTANCE}"
default = true
  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  model = "metered"
  count = 1000000
  [[instance.line]]
  id = "L2"
  feature = "editor"
  version = "1.0"
  model = "concurrent"
  count = 5
  [[instance.upstream]]
  name = "usb"
"""
CONFIG = """
[redis]
ack = "{ack}"
[explain]
retention = "1h"
[[upstream]]
name = "usb"
kind = "spool"
dir = "spool"
"""


class Fleet:
    """A store, and what a person does with the gateways over it."""

    def __init__(self, store: Server | Cluster | Sentinels, directory: Path) -> None:
        self.store, self.directory = store, directory
        self.processes = Processes(directory)
        self.config = directory / "gateway.toml"
        ack = "local" if isinstance(store, Server) else "replica"
        self.config.write_text(CONFIG.format(ack=ack))
        url = url_of_watched(store.url) if isinstance(store, Sentinels) else url_of(store.url)
        self.over = ("--config", str(self.config), "--redis", url)

    @property
    def servers(self) -> list[Server]:
        """All processes of the store that somebody asks."""
        if isinstance(self.store, Server):
            return [self.store]
        return [*self.store.servers, *getattr(self.store, "sentinels", ())]

    def serve(self) -> Gateway:
        return self.processes.serve(*self.over, "--no-forward", "--workers", "2")

    def run(self, *words: str, code: int = 0, typed: str = "") -> str:
        """Run a command over the store; give what it prints."""
        ended = self.ended(*words, *self.over, typed=typed)
        assert ended.returncode == code, (words, ended.stdout, ended.stderr)
        assert PASSWORD not in ended.stdout + ended.stderr
        return ended.stdout

    def ended(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words, "--data-dir", str(self.directory / "var")],
            input=typed,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            env=clean_environ(),
            check=False,
        )

    def kill_primary(self) -> None:
        """Kill a primary, that of the instance where there are several; another takes its place.

        One that is alone is away for a moment.
        """
        if isinstance(self.store, Server):
            self.store.restart()
            return
        if isinstance(self.store, Cluster):
            partition = partition_of(INSTANCE, PARTITIONS_DEFAULT)
            lost = self.store.owner_of(PartitionKeys(partition).lease)
            lost.kill()
            self.store.wait_promoted(lost)
        else:
            lost = self.store.primary()
            lost.kill()
            self.store.wait_other_primary(lost)
        lost.start()
        self.store.wait_in_sync()


@pytest.fixture(params=[Server, Sentinels, Cluster], ids=["server", "sentinels", "cluster"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    store = request.param(tmp_path / "store", appendfsync="always")
    fleet = Fleet(store, tmp_path)
    rights = CLUSTER_RIGHTS if isinstance(store, Cluster) else RIGHTS
    watchers = store.sentinels if isinstance(store, Sentinels) else []
    allow(watchers, SENTINEL_RIGHTS, WATCHER)
    allow([each for each in fleet.servers if each not in watchers], rights)
    with ExitStack() as stack:
        stack.enter_context(store)
        stack.callback(fleet.processes.close)
        yield fleet


def test_each_command_does_its_work_and_a_gateway_outlives_a_primary(fleet: Fleet) -> None:
    gateway = fleet.serve()
    keys, file = fleet.directory / "keys", fleet.directory / "fleet.toml"
    file.write_text(PROVISIONED)

    # Provisioning.
    assert f"instance {INSTANCE} is at version 1" in fleet.run("apply", str(file))
    assert "nothing to change" in fleet.run("apply", str(file), "--dry-run")
    kid = fleet.run("keys", "generate", "--out", str(keys), "--alg", "ES256").strip()
    assert fleet.run("keys", "add", "~", "--public", str(keys / "public.pem")).strip() == kid
    assert kid in fleet.run("keys", "list", INSTANCE)
    fleet.run("users", "add", "~", "ann", "--password-stdin", typed="correct horse battery")
    assert f"{INSTANCE}  ann  ROLE_READ" in fleet.run("users", "list")

    # Requests, one of them twice.
    asking = ("request", gateway.url, "--instance", INSTANCE, "--key", str(keys / "private.pem"))
    asking += ("--host", "string:h1", "--signed", "--feature")
    sessions = ("sessions:1.0:42", "--incremental", "--id", "week-47")
    for _ in range(2):
        assert fleet.ended(*asking, *sessions).returncode == 0
    assert fleet.ended(*asking, "editor:1.0:6").returncode == 3
    assert "string:h1 at " in fleet.run("explain", INSTANCE, "week-47")

    # What was counted, and where it is.
    assert acked(fleet) == {"L1": (42, 0)}
    report = msgspec.json.decode(fleet.run("report", "~", "--by", "line", "--format", "json"))
    assert {row["line"]: row["units"] for row in report["rows"]}["L1"] == 42
    fleet.run("report", "~", "--near-capacity")
    assert "nothing is left" in fleet.run("forward", "--once")
    assert acked(fleet) == {"L1": (42, 42)}
    shown = msgspec.json.decode(fleet.run("forward", "list", "--format", "json"))
    (batch,) = shown["aside"]
    fleet.run("forward", "show", batch["address"])
    (spooled,) = (fleet.directory / "spool").glob("*.ndjson")
    receipt = fleet.directory / "receipt.ndjson"
    receipt.write_bytes(spooled.read_bytes().splitlines(keepends=True)[-1])
    assert "1 settled" in fleet.run("forward", "--receipt", str(receipt))
    assert "receipt" in fleet.run("forward", "list", "--decisions")

    # A primary dies; nobody is started anew.
    assert refused(fleet.servers) == set()
    fleet.kill_primary()
    more = ("sessions:1.0:8", "--incremental", "--id", "week-48")
    eventually(lambda: fleet.ended(*asking, *more).returncode == 0, RECOVERED_S_MAX)
    assert fleet.ended(*asking, *sessions).returncode == 0  # as it was answered before
    eventually(lambda: gateway.status("/readyz") == 200, RECOVERED_S_MAX)
    assert "nothing is left" in fleet.run("forward", "--once")
    assert acked(fleet) == {"L1": (50, 50)}
    fleet.run("users", "remove", "~", "ann")
    fleet.run("keys", "revoke", "~", kid)
    assert fleet.ended(*asking, *more).returncode == 1
    gateway.process.terminate()
    assert gateway.exit_code() == 0
    assert '"level":"error"' not in gateway.log
    assert PASSWORD not in gateway.log
    assert refused(fleet.servers) == set()


def acked(fleet: Fleet) -> dict[str, tuple[int, int]]:
    """Give what was acked by line, and what of it was forwarded or carried over; all balances."""
    books = msgspec.json.decode(fleet.run("verify", "--deep", "--format", "json"))
    assert books["conservation"] == "OK"
    (instance,) = books["instances"]
    return {
        line["id"]: (line["acked"], line["forwarded"] + line["parked"])
        for line in instance["lines"]
        if line["upstream"] is not None and line["acked"]
    }
