"""Sentinels, and servers that others reach by wires that can be cut: partitions as they are.

Decided here: who is on which side. Every server is known by the port of a byte proxy, to replicas,
sentinels and clients alike; whoever is cut off finds the sentinels by wires of its own. Over a cut
wire nothing arrives, and nobody hears that. Not decided here: what must be true then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.stores.byte_proxy import ByteProxy
from tests.stores.programs import lasting_port
from tests.stores.sentinels import NAME, Sentinels
from tests.stores.servers import Server


class WiredSentinels(Sentinels):
    """Servers and sentinels as in Sentinels; a primary can be cut off from all but some clients."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self._wires: dict[Server, ByteProxy] = {}
        self._far_wires: list[ByteProxy] = []  # to the sentinels, from beside the primary

    @property
    def far_url(self) -> str:
        """The URL by which a gateway finds the primary that is on the primary's side of a cut."""
        addresses = ",".join(wire.address for wire in self._far_wires)
        return f"redis+sentinel://{addresses}/{NAME}"

    def wire(self, server: Server) -> ByteProxy:
        """Give the wire by which all others reach a server."""
        return self._wires[server]

    @contextmanager
    def cut(self, primary: Server, beside: Collection[str]) -> Iterator[None]:
        """Cut a server off from all others within, and from all clients but those named so.

        Those stay connected who are; nobody connects anew. Who uses `far_url` reaches no sentinel.
        """
        with primary.client() as asking:
            addresses = [each["addr"] for each in asking.client_list() if each["name"] in beside]
        spared = {int(address.rpartition(":")[2]) for address in addresses}
        for wire in self._far_wires:
            wire.partition()
        self._wires[primary].partition(spared)
        try:
            yield
        finally:
            for wire in (self._wires[primary], *self._far_wires):
                wire.heal()

    def _lay_wires(self, stack: ExitStack) -> None:
        for server in self.servers:
            wire = stack.enter_context(ByteProxy(server.address, lasting_port()))
            self._wires[server] = wire
            server.be_known_by(wire.port)
        for sentinel in self.sentinels:
            self._far_wires.append(stack.enter_context(ByteProxy(sentinel.address)))
