"""Connections that are one too many: who speaks HTTP/1 is told to come again, others are dropped.

Decided here: that a refusal waits for the first bytes, so that nobody is answered in a protocol
that he does not speak, and for what comes after them, since a connection that is closed while its
client still sends is reset, and the reset overtakes the answer; and that only some may be told at a
time, within a second. Also how a crowd is told of in the log. Not decided here: who is one too many
(connections.py, shedding.py). Source: INTERFACE 2.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import structlog

from gateway.core.errors import Unavailable
from gateway.core.meters import Meters
from gateway.protocols import problem

TELLING_MAX: Final = 64  # connections that are being refused at a time; more are dropped at once
TELL_S: Final = 1.0
READ_BYTES_MAX: Final = 64 * 2**10  # at one go
READS_MAX: Final = 256
TOLD_S: Final = 5.0  # from one line in the log about refusals to the next

_STARTS: Final = frozenset({b"GET ", b"HEAD", b"POST", b"PUT ", b"PATC", b"DELE", b"OPTI"})

_log = structlog.get_logger("gateway.refusals")


class Tally:
    """Counts what is refused in `metric`, and logs `event` with how many there were, now and
    then.
    """

    __slots__ = ("_count", "_event", "_meters", "_metric", "_told_at_s")

    def __init__(self, event: str, metric: str, meters: Meters | None) -> None:
        self._event, self._metric = event, metric
        self._meters = meters or Meters()
        self._count = 0
        self._told_at_s = float("-inf")

    def add(self) -> None:
        """Count one more; it is told now, or with those that follow."""
        self._count += 1
        self._meters.add(self._metric)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_at_s >= TOLD_S:
            _log.warning(self._event, count=self._count)
            self._count, self._told_at_s = 0, now_s


class Refusing:
    """Ends connections that were accepted and cannot be served."""

    def __init__(self, meters: Meters | None = None) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._tally = Tally("connections_refused", "gateway_refused_connections_total", meters)

    def refuse(self, accepted: socket.socket, *, told: bool) -> None:
        """Close a non-blocking connection; where it is to be `told`, after an answer if it can be.

        Not under TLS: an answer would cost the handshake that there is no room for.
        """
        self._tally.add()
        if not told or len(self._tasks) >= TELLING_MAX:
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(_tell(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """Drop those that are still being told."""
        for task in self._tasks:
            task.cancel()


async def _tell(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with accepted:
        try:
            async with asyncio.timeout(TELL_S):
                said = await loop.sock_recv(accepted, READ_BYTES_MAX)
                if said[:4] not in _STARTS:
                    return
                await loop.sock_sendall(accepted, _answer())
                accepted.shutdown(socket.SHUT_WR)
                for _ in range(READS_MAX):
                    if not await loop.sock_recv(accepted, READ_BYTES_MAX):
                        return
        except OSError:  # it left, or the time is up
            return


def _answer() -> bytes:
    status, headers, body = problem.render(Unavailable("Too many connections", "not_applied"))
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Service Unavailable\r\n{lines}\r\n".encode() + body
