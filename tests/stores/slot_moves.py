"""A slot on its way from one primary of a cluster to another, in steps; a test may stop between.

Decided here: the order of the commands, as the cluster specification has it: the receiver is told
first and last, so that at no moment nobody has the slot. In between a key is in one place or the
other, and a call with keys in both is told TRYAGAIN. Not decided here: who owns what (clusters.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.stores.clusters import Cluster
from tests.stores.programs import HOST
from tests.stores.servers import Server
from tests.system.processes import eventually

PORTION_KEYS_MAX = 10
MIGRATE_MS_MAX = 20_000
ANSWER_S_MAX = 30.0  # the change of an owner waits for the replicas
AGREED_S_MAX = 60.0


def move_slot(cluster: Cluster, slot: int, to: Server) -> int:
    """Move a slot to another primary with all its keys; give how many they were."""
    move = SlotMove(cluster, slot, to)
    move.begin()
    keys = 0
    while moved := move.portion():
        keys += moved
    move.finish()
    return keys


@dataclass
class SlotMove:
    """One move, from who has the slot now: `begin`, then `portion` until it gives 0, `finish`."""

    cluster: Cluster
    slot: int
    to: Server
    origin: Server = field(init=False)

    def __post_init__(self) -> None:
        self.origin = self.cluster.owner(self.slot)
        assert self.origin is not self.to, f"{self.to} has slot {self.slot} already"

    def begin(self) -> None:
        """Let the origin send on who asks for what it does not have, and the other expect them."""
        self._set(self.to, "IMPORTING", self.cluster.id_of(self.origin))
        self._set(self.origin, "MIGRATING", self.cluster.id_of(self.to))

    def portion(self, keys_max: int = PORTION_KEYS_MAX) -> int:
        """Move some keys; give how many: 0 says that the origin has none of this slot left."""
        keys = self._ask(self.origin, "CLUSTER", "GETKEYSINSLOT", self.slot, keys_max)
        if keys:
            target = (HOST, self.to.port, "", 0, MIGRATE_MS_MAX)
            self._ask(self.origin, "MIGRATE", *target, "KEYS", *keys)
        return len(keys)

    def finish(self) -> None:
        """Give the slot to the receiver and wait until every node that answers knows it.

        The origin must have no key of it left: it refuses, or would delete them.
        """
        owner = self.cluster.id_of(self.to)
        for server in (self.to, self.origin):
            self._set(server, "NODE", owner)
        eventually(self._is_known, AGREED_S_MAX)

    def _is_known(self) -> bool:
        views = [self.cluster.nodes(server) for server in self.cluster.servers]
        return all(
            any(self.slot in each for each in node.slots) == (node.port == self.to.known_port)
            for view in views
            for node in view
        )

    def _set(self, server: Server, state: str, node_id: str) -> None:
        self._ask(server, "CLUSTER", "SETSLOT", self.slot, state, node_id)

    @staticmethod
    def _ask(server: Server, *command: Any) -> Any:
        return server.ask(*command, answer_s_max=ANSWER_S_MAX)
