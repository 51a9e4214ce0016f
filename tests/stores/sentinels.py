"""A primary with replicas, and sentinels that watch them, as processes of a test.

Decided here: how they are set up, so that a failover takes two or three seconds, and what is told
about them from outside. Sentinels know one another from the start: to find out would take longer
than a test. Not decided here: what is done to them (they are killed and paused one by one, as any
Server; wired_sentinels.py cuts them off), and what must be true then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

from tests.stores.programs import HOST, start_all
from tests.stores.servers import Server, in_sync
from tests.system.processes import eventually

NAME = "main"
DOWN_AFTER_MS = 1_000
QUIET_MS = 60_000  # more than a machine stalls
FAILOVER_MS_MAX = 3_000
# How often a sentinel looks, and tells others what it sees. By default 10 and 2 s: then an old
# primary that is back is left alone for 12 s until it is made a replica. And for how long it does
# nothing after it was itself held up for 2 s, as on a busy machine it may be: by default 30 s.
PERIODS_MS = {"INFO-PERIOD": 1_000, "PUBLISH-PERIOD": 400, "TILT-PERIOD": 1_000}
LAG_S_MAX = 2  # of a replica that still counts for min-replicas-to-write
IN_SYNC_S_MAX = 60.0
FAILOVER_S_MAX = 60.0


class Sentinels(AbstractContextManager["Sentinels"]):
    """A primary, `replicas` of it and `sentinels`; all run once it is entered.

    `min_replicas` is min-replicas-to-write, `down_after_ms` when a silent server is taken for one
    that is down: QUIET_MS where none is meant to be. Further `settings` are those of every server,
    as Server takes them. The first of `servers` is the primary at the beginning.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        min_replicas: int = 0,
        down_after_ms: int = DOWN_AFTER_MS,
        **settings: object,
    ) -> None:
        settings = {
            "min_replicas_to_write": min_replicas,
            "min_replicas_max_lag": LAG_S_MAX,
            **settings,
        }
        self.servers = [
            Server(directory / f"server-{number}", **settings) for number in range(1 + replicas)
        ]
        self.sentinels: list[Server] = [
            _Sentinel(directory / f"sentinel-{each}") for each in range(sentinels)
        ]
        self._down_after_ms = down_after_ms
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._lay_wires(stack)
            self._introduce()
            start_all(self.servers, stack)
            self._wait(lambda: self._in_sync(self.servers[0]), IN_SYNC_S_MAX)
            # Only now: one that is still starting would be taken for one that is down.
            start_all(self.sentinels, stack)
            self._wait(self._all_known, IN_SYNC_S_MAX)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL by which the gateway finds the primary."""
        addresses = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{addresses}/{NAME}"

    def primary(self) -> Server:
        """Give the server that the sentinels call the primary, by the first one that answers."""
        port = next(self._told(), None)
        assert port is not None, "no sentinel answers"
        return self._server(port)

    @property
    def switches(self) -> int:
        """How often another server became the primary since the sentinels were started."""
        return max(sentinel.log.count("+switch-master") for sentinel in self.sentinels)

    def replicas(self) -> list[Server]:
        """Give the servers that are not the primary, running or not."""
        primary = self.primary()
        return [server for server in self.servers if server is not primary]

    def failover(self, *, coordinated: bool = False) -> Server:
        """Let the sentinels make another one the primary, with nothing amiss; give the new one.

        `coordinated`: the old one stops and waits for it, as servers can since Valkey 9.
        """
        before = self.primary()
        words = ("SENTINEL", "FAILOVER", NAME, *(["COORDINATED"] if coordinated else []))
        # Refused while another one is under way, and by a sentinel that sees no good replica yet.
        self._wait(lambda: any(each.try_ask(*words) for each in self.sentinels), FAILOVER_S_MAX)
        return self.wait_other_primary(before)

    def wait_other_primary(self, before: Server) -> Server:
        """Wait until all sentinels call another server the primary, and it is one; give it."""
        self._wait(lambda: self._agreed() not in (None, before), FAILOVER_S_MAX)
        return self.primary()

    def wait_in_sync(self, count: int | None = None) -> None:
        """Wait until `count` replicas, by default all, follow the primary and lack nothing."""
        self._wait(lambda: self._in_sync(self._agreed(), count), IN_SYNC_S_MAX)

    def _lay_wires(self, stack: ExitStack) -> None:
        """Lay what they reach one another by: nothing, for they do so directly."""

    def _introduce(self) -> None:
        """Write down who follows whom, and what each sentinel knows of them and of the others."""
        ids = {sentinel: secrets.token_hex(20) for sentinel in self.sentinels}
        first, *replicas = self.servers
        for replica in replicas:
            replica.configure([f"replicaof {HOST} {first.known_port}"])
        quorum = len(self.sentinels) // 2 + 1
        for sentinel in self.sentinels:
            lines = [
                f"myid {ids[sentinel]}",
                f"monitor {NAME} {HOST} {first.known_port} {quorum}",
                f"down-after-milliseconds {NAME} {self._down_after_ms}",
                f"failover-timeout {NAME} {FAILOVER_MS_MAX}",
            ]
            lines += [f"known-replica {NAME} {HOST} {replica.known_port}" for replica in replicas]
            lines += [
                f"known-sentinel {NAME} {HOST} {other.port} {id_}"
                for other, id_ in ids.items()
                if other is not sentinel
            ]
            sentinel.configure(f"sentinel {line}" for line in lines)

    def _wait(self, condition: Callable[[], object], within_s: float) -> None:
        try:
            eventually(condition, within_s)
        except AssertionError as error:
            for server in self.servers:
                error.add_note(f"{server}: {server.info('replication')}")
            for sentinel in self.sentinels:
                error.add_note(f"{sentinel}: {sentinel.log_tail}")
            raise

    def _in_sync(self, primary: Server | None, count: int | None = None) -> bool:
        wanted = len(self.servers) - 1 if count is None else count
        return primary is not None and in_sync(primary, self.servers) >= wanted

    def _all_known(self) -> bool:
        """Whether every sentinel hears from a quorum of them, and finds all servers well."""
        for sentinel in self.sentinels:
            quorum = sentinel.try_ask("SENTINEL", "CKQUORUM", NAME)
            replicas = sentinel.try_ask("SENTINEL", "REPLICAS", NAME) or []
            if quorum is None or len(replicas) != len(self.servers) - 1:
                return False
        return self._agreed() is self.servers[0]

    def _agreed(self) -> Server | None:
        """Give the primary that all sentinels name who answer, if it is one; else None."""
        ports = set(self._told())
        if len(ports) != 1:
            return None
        primary = self._server(ports.pop())
        return primary if primary.info("replication").get("role") == "master" else None

    def _told(self) -> Iterator[int]:
        """Give the ports that sentinels name, of those who answer, one by one."""
        for sentinel in self.sentinels:
            address = sentinel.try_ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
            if address is not None:
                yield int(address[1])

    def _server(self, port: int) -> Server:
        (server,) = [server for server in self.servers if server.known_port == port]
        return server


class _Sentinel(Server):
    """A sentinel: the same program in another mode, in more of a hurry than by default."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, mode="--sentinel")

    def wait_ready(self) -> None:
        super().wait_ready()
        # The file has no words for it, so it is said anew after each start.
        words = [word for name, ms in PERIODS_MS.items() for word in (name, ms)]
        self.ask("SENTINEL", "DEBUG", *words)
