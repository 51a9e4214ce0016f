"""A cluster that grows: a new primary joins with a replica, and takes slots over.

Decided here: the order of the commands, and that slots go over as a whole: the server itself moves
their keys, and nobody finds some here and some there (CLUSTER MIGRATESLOTS, since Valkey 9). Slot
by slot, as it is done everywhere else, is tests/stores/slot_moves.py.
"""

from __future__ import annotations

from pathlib import Path

from redis.crc import key_slot

from gateway.store.keys import PartitionKeys, partition_of
from tests.stores.clusters import Cluster
from tests.stores.programs import HOST, lasting_port, start_all
from tests.stores.servers import Server

MOVED_S_MAX = 90.0


class GrowingCluster(Cluster):
    """A cluster of three primaries with a replica each, that serve what they have whoever is away;
    `join` adds a shard."""

    def __init__(self, directory: Path, **settings: object) -> None:
        super().__init__(directory, primaries=3, replicas=1, full_coverage=False, **settings)
        self._directory = directory

    def join(self) -> Server:
        """Let a new primary without slots join, and a replica of it; give the primary."""
        like = self.servers[0].settings
        given = {name for name in like if name.startswith("cluster-")} - {"cluster-port"}
        settings = {name.replace("-", "_"): like[name] for name in given}
        place = self._directory / f"node-{len(self.shards)}"
        shard = [
            Server(Path(f"{place}-{number}"), cluster_port=lasting_port(), **settings)
            for number in range(2)
        ]
        start_all(shard, self._stack)
        for server in shard:
            self._ids[server.port] = server.ask("CLUSTER", "MYID")
        known = list(self.servers)
        for server in shard:
            for other in known:
                server.ask("CLUSTER", "MEET", HOST, other.port, other.settings["cluster-port"])
            known.append(server)
        self.shards.append(shard)
        self.servers += shard
        self._wait(self._all_met, MOVED_S_MAX)
        primary, replica = shard
        replica.ask("CLUSTER", "REPLICATE", self.id_of(primary))
        self.wait_in_sync()
        return primary

    def hand_over(self, slots: range, to: Server) -> None:
        """Let the server itself move slots of one primary to another, and wait until all know."""
        words = ("SLOTSRANGE", slots[0], slots[-1], "NODE", self.id_of(to))
        self.owner(slots[0]).ask("CLUSTER", "MIGRATESLOTS", *words)

        def known() -> bool:
            there = [
                node
                for server in self.servers
                for node in self.nodes(server)
                if node.port == to.known_port
            ]
            return all(any(slot in each for each in node.slots) for node in there for slot in slots)

        self._wait(known, MOVED_S_MAX)


def slot_of(instance: str, partitions: int) -> int:
    """Give the slot of an instance's keys."""
    return key_slot(PartitionKeys(partition_of(instance, partitions)).lease.encode())
