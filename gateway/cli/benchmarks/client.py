"""A load generator for machines without wrk: raw HTTP/1.1 over keep-alive connections.

Decided here: one request in flight per connection, no pipelining, the next one as soon as the
answer is whole. Written in Python, it takes more of a core than wrk does, and so shows lower rates.
Runs as a process of its own: orders on stdin, one JSON object on stdout.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Final, cast

import msgspec
import uvloop

from gateway.cli.benchmarks.loads import Load, Sample, percentile, requests

GRACE_S: Final = 10.0  # for the answers that are under way when the time is over


class Orders(msgspec.Struct, frozen=True):
    """What to send, and for how long."""

    load: Load
    seconds: float


class _Connection(asyncio.Protocol):
    """One connection, until the requests or the time are over."""

    def __init__(self, source: Iterator[bytes], until_s: float, latencies: list[float]) -> None:
        self.loop = asyncio.get_running_loop()
        self.source, self.until_s, self.latencies = source, until_s, latencies
        self.done = self.loop.create_future()
        self.errors = 0
        self.over = False
        self.buffer = b""
        self.missing = -1  # bytes of the body still to come; -1: the head is not whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # It is TCP, so it can write; uvloop's transports are of no class that could be asked.
        self.transport = cast(asyncio.WriteTransport, transport)
        self._send(first=True)

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.buffer += data
            head, end, body = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            _, _, length = head.lower().partition(b"content-length:")
            self.missing = int(length.split(b"\r\n", 1)[0]) - len(body)
            self.errors += not head.startswith(b"HTTP/1.1 200")
        else:
            self.missing -= len(data)
        if self.missing == 0:
            self.latencies.append((self.loop.time() - self.sent_s) * 1000)
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.errors += not self.over  # the server hung up
        if not self.done.done():
            self.done.set_result(None)

    def _send(self, *, first: bool = False) -> None:
        in_time = first or self.loop.time() < self.until_s
        request = next(self.source, None) if in_time else None
        if request is None:
            self.over = True
            self.transport.close()
            return
        self.buffer, self.missing = b"", -1
        self.sent_s = self.loop.time()
        self.transport.write(request)


async def drive(orders: Orders) -> Sample:
    """Carry out orders and say what came of them."""
    loop = asyncio.get_running_loop()
    load, source = orders.load, requests(orders.load)
    latencies: list[float] = []
    began_s = loop.time()
    connections: list[_Connection] = []
    for _ in range(load.connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(source, began_s + orders.seconds, latencies), *load.address
        )
        connections.append(connection)
    await asyncio.wait([each.done for each in connections], timeout=orders.seconds + GRACE_S)
    latencies.sort()
    return Sample(
        requests=len(latencies),
        seconds=loop.time() - began_s,
        errors=sum(each.errors for each in connections),
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
    )


def main() -> None:
    """Read orders, work, write the sample."""
    orders = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Orders)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sample = runner.run(drive(orders))
    print(msgspec.json.encode(sample).decode())


if __name__ == "__main__":
    main()
