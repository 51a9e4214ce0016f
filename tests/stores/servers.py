"""A bundled Valkey as a process of a test, killed, paused and started again at will.

Decided here: the settings of a server that keeps what it has acknowledged, and how it is asked.
They are in a file of its own, which it may rewrite, as one does that a sentinel turns into a
replica. Not decided here: how its process is run (programs.py), and what stands together
(sentinels.py, clusters.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.store import bundled
from tests.stores.programs import HOST, Program

CONFIG_FILE = "valkey.conf"
ANSWER_S_MAX = 30.0  # of one that runs, on a machine that stalls
TRY_S_MAX = 5.0  # of one that may hang, which is asked again
EMPTY = '""'  # as the file has a text without characters

# What the embedded store has too: appended to a file, never evicted, ended when told to.
SETTINGS = {
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "shutdown-on-sigterm": "now force",
    # A replica is there at once, instead of waiting for others to come.
    "repl-diskless-sync-delay": "0",
}


class Server(Program):
    """A server with its files in `directory`; begins as it is entered, or by `start`.

    `settings` are those of valkey.conf, written with underscores; they come after SETTINGS. `mode`
    is "" or "--sentinel". `url` is what the gateway calls it, `known_port` is where other servers
    find it.
    """

    def __init__(self, directory: Path, *, mode: str = "", **settings: object) -> None:
        command = [str(bundled._binary()), CONFIG_FILE, *([mode] if mode else [])]
        super().__init__(directory, command, self.answers)
        self.known_port = self.port
        asked = {name.replace("_", "-"): str(value) for name, value in settings.items()}
        own = {"port": str(self.port), "bind": HOST, "dir": "."}
        self.settings = own | ({} if mode else SETTINGS) | asked
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(f"{name} {value or EMPTY}" for name, value in self.settings.items())

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    def configure(self, lines: Iterable[str]) -> None:
        """Add lines to its file of settings; they hold from its next start on."""
        with (self.directory / CONFIG_FILE).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def be_known_by(self, port: int) -> None:
        """Have other servers, and a cluster's clients, know it by another port, from its next start
        on."""
        self.known_port = port
        self.configure([f"replica-announce-ip {HOST}", f"replica-announce-port {port}"])
        if self.settings.get("cluster-enabled") == "yes":
            self.configure([f"cluster-announce-port {port}"])

    def client(self, answer_s_max: float = ANSWER_S_MAX) -> redis.Redis:
        """Give a client that reads texts and sends nothing twice; to be closed by the caller."""
        return redis.Redis(
            host=HOST,
            port=self.port,
            decode_responses=True,
            socket_timeout=answer_s_max,
            socket_connect_timeout=answer_s_max,
            retry=Retry(NoBackoff(), 0),
        )

    def ask(self, *command: Any, answer_s_max: float = ANSWER_S_MAX) -> Any:
        """Send one command on a connection of its own and give the answer. Raises RedisError."""
        with self.client(answer_s_max) as client:
            return client.execute_command(*command)

    def try_ask(self, *command: Any) -> Any:
        """Send one command; give the answer, or None when there is none or it is refused."""
        if self.paused or not self.running:
            return None
        try:
            return self.ask(*command, answer_s_max=TRY_S_MAX)
        except redis.RedisError:
            return None

    def info(self, section: str) -> dict[str, Any]:
        """Give a section of INFO; empty while it does not answer."""
        return self.try_ask("INFO", section) or {}

    def answers(self) -> bool:
        """Say whether it runs and answers PING, so neither loads its files nor is paused."""
        return bool(self.try_ask("PING"))


def in_sync(primary: Server, servers: Sequence[Server]) -> int:
    """Count those of `servers` that follow `primary` and have what it had written by now."""
    told = primary.info("replication")
    if told.get("role") != "master":
        return 0
    # Their own word: what the primary knows of them is up to a second old.
    replicas = [server.info("replication") for server in servers if server is not primary]
    return sum(
        each.get("master_port") == primary.known_port
        and each["master_link_status"] == "up"
        and not each["master_sync_in_progress"]
        and each["slave_repl_offset"] >= told["master_repl_offset"]
        for each in replicas
    )
