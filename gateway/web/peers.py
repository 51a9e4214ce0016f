"""Connections of this process that somebody else's code holds, found by who is at their other end.

Decided here: that they are looked for among the descriptors of this process, that one is cut by
shutting it down, so that whoever holds it learns of it, and that many are cut in one look. Nothing
is taken for a connection but by both its addresses, read from a descriptor of our own: the number
of another's may mean something else a moment later. Source: RELIABILITY 4 row 16.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Collection
from typing import Final

Address = tuple[str, int]

DESCRIPTORS: Final = "/proc/self/fd"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Cutter:
    """Cuts connections that came in on one port. Those asked for at a time share one look."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wanted: set[Address] = set()
        self._looking: asyncio.Task[None] | None = None

    async def cut(self, peer: Address) -> None:
        """Cut the connection of a peer; done when it is, or there is none."""
        self._wanted.add(peer)
        while peer in self._wanted:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            await asyncio.wait((self._looking,))

    async def _look(self) -> None:
        wanted = frozenset(self._wanted)
        try:
            # Thousands of descriptors take a while, and the loop has others to serve.
            await asyncio.to_thread(cut_peers, self._port, wanted)
        finally:
            self._wanted -= wanted
            self._looking = None


def cut_peers(port: int, peers: Collection[Address] | None = None) -> int:
    """Cut the connections to our `port` that `peers` have, or all; give how many there were."""
    count = 0
    for name in os.listdir(DESCRIPTORS):
        try:
            if not os.readlink(f"{DESCRIPTORS}/{name}").startswith("socket:"):
                continue
            held = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # it was closed meanwhile
            continue
        with held:
            if _is_one_of(held, port, peers):
                count += _cut(held)
    return count


def _is_one_of(held: socket.socket, port: int, peers: Collection[Address] | None) -> bool:
    if held.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        if held.getsockname()[1] != port:
            return False
        host, peer_port = held.getpeername()[:2]
    except OSError:  # it listens, or its peer is gone
        return False
    return peers is None or (host.partition("%")[0], peer_port) in peers


def _cut(held: socket.socket) -> bool:
    try:
        # What its peer has not taken is thrown away with the last descriptor.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        held.shutdown(socket.SHUT_RDWR)
    except OSError:  # its peer was faster
        return False
    return True
