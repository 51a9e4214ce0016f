"""A cluster whose nodes others reach by wires: byte proxies, as in wired_sentinels.py.

Decided here: every node is known by the port of its wire, to replicas and clients alike; what nodes
tell one another on their bus goes directly. Not decided here: what is done to the wires.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.stores.byte_proxy import ByteProxy
from tests.stores.clusters import Cluster
from tests.stores.programs import lasting_port
from tests.stores.servers import Server


class WiredCluster(Cluster):
    """Nodes as in Cluster, each behind a wire of its own."""

    def __init__(self, directory: Path, **settings: object) -> None:
        super().__init__(directory, **settings)  # type: ignore[arg-type]
        self._wires: dict[Server, ByteProxy] = {}

    @property
    def url(self) -> str:
        """The URL by which the gateway finds the nodes: all by their wires."""
        addresses = ",".join(self.wire(server).address for server in self.servers)
        return f"redis+cluster://{addresses}"

    def wire(self, server: Server) -> ByteProxy:
        """Give the wire by which all others reach a node."""
        return self._wires[server]

    def _lay_wires(self, stack: ExitStack) -> None:
        for server in self.servers:
            wire = stack.enter_context(ByteProxy(server.address, lasting_port()))
            self._wires[server] = wire
            server.be_known_by(wire.port)
