"""A cluster of primaries, each with replicas, as processes of a test.

Decided here: how nodes are made a cluster, and what is told about them from outside: who has a
slot, who follows whom, whether all is well. It needs no tool: the commands are those that such a
tool sends. Not decided here: how a slot moves (slot_moves.py), what is done to the nodes, and what
must be true then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from redis.crc import key_slot

from tests.stores.programs import HOST, lasting_port, start_all
from tests.stores.servers import Server, in_sync
from tests.system.processes import eventually

SLOTS = 16_384
NODE_TIMEOUT_MS = 1_500
QUIET_MS = 60_000  # where no node is meant to be down: more than a machine stalls
FORM_S_MAX = 60.0
IN_SYNC_S_MAX = 60.0
PROMOTE_S_MAX = 60.0


@dataclass(frozen=True)
class Node:
    """A line of CLUSTER NODES: what one node thinks of another, or of itself.

    `primary` is the id of the one it follows, "" of one that follows nobody.
    """

    id: str
    port: int
    flags: frozenset[str]
    primary: str
    linked: bool
    slots: tuple[range, ...]

    @property
    def sound(self) -> bool:
        return self.linked and not self.flags & {"fail", "fail?", "handshake", "noaddr"}


class Cluster(AbstractContextManager["Cluster"]):
    """`primaries` nodes that share the slots, each with `replicas`; all run once it is entered.

    `full_coverage` is cluster-require-full-coverage; further `settings` are those of every node,
    as Server takes them. `shards` are the nodes that take one another's place, the first of each
    being the primary at the beginning.
    """

    def __init__(
        self,
        directory: Path,
        *,
        primaries: int = 3,
        replicas: int = 1,
        full_coverage: bool = True,
        **settings: object,
    ) -> None:
        settings = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": NODE_TIMEOUT_MS,
            # However long it has been without its primary, it may take its place.
            "cluster_replica_validity_factor": 0,
            "cluster_require_full_coverage": "yes" if full_coverage else "no",
            # A replica stays in its shard, also when all slots are moved away from its primary.
            "cluster_allow_replica_migration": "no",
            **settings,
        }
        self.shards = [
            [
                Server(
                    directory / f"node-{shard}-{number}", cluster_port=lasting_port(), **settings
                )
                for number in range(1 + replicas)
            ]
            for shard in range(primaries)
        ]
        self.servers = [server for shard in self.shards for server in shard]
        self._ids: dict[int, str] = {}  # by port
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            self._lay_wires(stack)
            start_all(self.servers, stack)
            self._form()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL by which the gateway finds the nodes."""
        return f"redis+cluster://{','.join(server.address for server in self.servers)}"

    def id_of(self, server: Server) -> str:
        """Give the id by which the nodes know one of them; it stays over restarts."""
        return self._ids[server.port]

    def nodes(self, server: Server) -> list[Node]:
        """Give what a node thinks of all of them; empty while it does not answer."""
        told = server.try_ask("CLUSTER", "NODES")
        return [_read(line) for line in (told or "").splitlines()]

    def owner(self, slot: int) -> Server:
        """Give the node that has a slot, as most of those think who answer."""
        owners = [
            node.port
            for server in self.servers
            for node in self.nodes(server)
            if any(slot in each for each in node.slots)
        ]
        assert owners, f"nobody has slot {slot}"
        return self._server(max(set(owners), key=owners.count))

    def owner_of(self, key: str) -> Server:
        """Give the node that has a key's slot."""
        return self.owner(key_slot(key.encode()))

    def primaries(self) -> list[Server]:
        """Give the nodes that have slots, as all of those think who answer."""
        views = [self.nodes(server) for server in self.servers]
        ports = {node.port for view in views for node in view if node.slots}
        return [server for server in self.servers if server.known_port in ports]

    def replicas(self, primary: Server) -> list[Server]:
        """Give the nodes that follow a primary, as they say themselves."""
        return [
            server
            for server in self.servers
            for node in self.nodes(server)
            if "myself" in node.flags and node.primary == self.id_of(primary)
        ]

    def wait_ok(self) -> None:
        """Wait until every node that runs and is not paused finds that all slots are served."""
        self._wait(lambda: self._all_is_well(self._answering()), PROMOTE_S_MAX)

    def wait_promoted(self, lost: Server) -> Server:
        """Wait until another node of its shard has the place of one that is away; give it.

        Then all is well among those that answer. Fails when the lost one had no slots.
        """
        (shard,) = [shard for shard in self.shards if lost in shard]
        promoted: list[Server] = []

        def has_happened() -> bool:
            others = [server for server in self._answering() if server is not lost]
            views = [self.nodes(server) for server in others]
            owners = [{node.port for node in view if node.slots} for view in views]
            promoted[:] = [server for server in shard if owners and server.known_port in owners[0]]
            agreed = all(each == owners[0] for each in owners)
            return agreed and bool(promoted) and lost not in promoted and self._all_is_well(others)

        self._wait(has_happened, PROMOTE_S_MAX)
        return promoted[0]

    def wait_in_sync(self) -> None:
        """Wait until every node runs, all is well, and each replica has what its primary has."""
        self._wait(self._in_sync, IN_SYNC_S_MAX)

    def _lay_wires(self, stack: ExitStack) -> None:
        """Lay what they and clients reach one another by: nothing, for they do so directly."""

    def _form(self) -> None:
        """Make a cluster of nodes that know only themselves."""
        for epoch, server in enumerate(self.servers, 1):
            self._ids[server.port] = server.ask("CLUSTER", "MYID")
            # Else two of them would begin with one epoch, and it takes seconds to solve it.
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for number, (primary, *_) in enumerate(self.shards):
            first, end = (SLOTS * each // len(self.shards) for each in (number, number + 1))
            primary.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        # Everybody is told of everybody: to hear it from one another would take longer.
        for one, other in combinations(self.servers, 2):
            one.ask("CLUSTER", "MEET", HOST, other.port, other.settings["cluster-port"])
        self._wait(self._all_met, FORM_S_MAX)
        for primary, *replicas in self.shards:
            for replica in replicas:
                replica.ask("CLUSTER", "REPLICATE", self.id_of(primary))
        self._wait(self._in_sync, FORM_S_MAX)

    def _wait(self, condition: Callable[[], object], within_s: float) -> None:
        try:
            eventually(condition, within_s)
        except AssertionError as error:
            for server in self.servers:
                error.add_note(f"{server}: {server.try_ask('CLUSTER', 'NODES')}")
                error.add_note(f"{server}: {server.log_tail}")
            raise

    def _all_met(self) -> bool:
        views = [self.nodes(server) for server in self.servers]
        return all(
            len(view) == len(self.servers) and all(node.sound for node in view) for view in views
        )

    def _in_sync(self) -> bool:
        if not self._all_met() or not self._all_is_well(self.servers):
            return False
        for shard in self.shards:
            primaries = [s for s in shard if s.info("replication").get("role") == "master"]
            if len(primaries) != 1 or in_sync(primaries[0], shard) != len(shard) - 1:
                return False
        return True

    def _answering(self) -> list[Server]:
        return [server for server in self.servers if server.answers()]

    def _all_is_well(self, servers: list[Server]) -> bool:
        told = [server.try_ask("CLUSTER", "INFO") or "" for server in servers]
        return bool(told) and all("cluster_state:ok" in each for each in told)

    def _server(self, port: int) -> Server:
        (server,) = [server for server in self.servers if server.known_port == port]
        return server


def _read(line: str) -> Node:
    id_, address, flags, primary, _, _, _, link, *slots = line.split(" ")
    return Node(
        id=id_,
        port=int(address.partition("@")[0].rpartition(":")[2]),
        flags=frozenset(flags.split(",")),
        primary=primary.strip("-"),
        linked=link == "connected",
        # A slot that is on its way is told of in brackets besides.
        slots=tuple(_slots(each) for each in slots if not each.startswith("[")),
    )


def _slots(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
