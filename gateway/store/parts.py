"""What parts of a store have in common: how they are reached, and how what they write is made safe.

Not decided here: what each part keeps (outbox.py, asides.py, syncs.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.store.durability import NO_WAIT, Wait
from gateway.store.durable import Durable
from gateway.store.scripts import Scripts
from gateway.store.topology import Client, Topology


@dataclass(frozen=True)
class Part:
    """A part of a store. `wait` follows each step that must be safe (Strength.wait)."""

    topology: Topology
    scripts: Scripts
    partitions: int
    wait: Wait = NO_WAIT

    @property
    def client(self) -> Client:
        """What takes ordinary commands."""
        return self.topology.client

    @property
    def durable(self) -> Durable:
        """The way to run what writes."""
        return Durable(self.topology, self.wait)
