"""Clients that mean no good, as a process of their own: `python -m tests.system.crowd PORT KIND`.

Decided here: what each kind does. They go on, and come back when they are cut off, until they are
killed; that all of them are there is said by `there` on stdout, once, and by `back` that one had
been cut off or answered and came again.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import h2.connection
import h2.errors
import h2.exceptions

HOST: Final = "127.0.0.1"
PATH: Final = b"/api/1.0/instances/KILLS/access_request"
HEAD: Final = b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
DRIP_S: Final = 0.2
COME_S: Final = 1.0  # that their coming is spread over
BACK_S: Final = 0.05  # until one that was cut off is back
BODY_BYTES: Final = 2**30
PART: Final = bytes(2**16)
STREAMS: Final = 100

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Callable[[], None]], Awaitable[None]]


async def silent(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    there()
    await reader.read()


async def half_a_head(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    writer.write(HEAD)
    there()
    await reader.read()


async def idle(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    there()
    await reader.read()


async def preface(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    there()
    await reader.read()


async def dripping_head(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    there()
    for byte in HEAD + b"x: " + b"y" * 20_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def dripping_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    writer.write(HEAD + b"Content-Length: 60000\r\n\r\n")
    there()
    for _ in range(60_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def announced(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % BODY_BYTES)
    there()
    await _pour(writer, PART)


async def chunked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    there()
    await _pour(writer, b"%x\r\n" % len(PART) + PART + b"\r\n")


async def unasked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    """A body where nobody looks for one, before an answer that takes the store's time."""
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
    there()
    await _pour(writer, PART)


async def compressed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    body = gzip.compress(bytes(2**25))  # 32 MiB in 32 KiB
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.write(HEAD + head + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 415")
    there()


async def streams(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Callable[[], None]
) -> None:
    """As many requests on a connection as there may be, whose bodies never end."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    said = {":method": "POST", ":path": PATH.decode(), ":scheme": "http", ":authority": "x"}
    for _ in range(STREAMS):
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, list(said.items()))
        connection.send_data(stream, bytes(600))
    writer.write(connection.data_to_send())
    there()
    await reader.read()


async def _pour(writer: asyncio.StreamWriter, part: bytes) -> None:
    for _ in range(BODY_BYTES // len(PART)):
        writer.write(part)
        await writer.drain()


KINDS: Final[dict[str, tuple[tuple[Client, int], ...]]] = {
    "idle": ((silent, 500), (half_a_head, 500), (idle, 500), (preface, 500)),
    "slow": ((dripping_head, 150), (dripping_body, 150)),
    "huge": ((announced, 3), (chunked, 3), (unasked, 3)),
    "compressed": ((compressed, 4),),
    "streams": ((streams, 20),),
}


async def main(port: int, kind: str) -> None:
    wanted = sum(many for _, many in KINDS[kind])
    met = 0
    told = False

    async def come_back(client: Client, after_s: float) -> None:
        nonlocal met, told
        first = True
        await asyncio.sleep(after_s)

        def there() -> None:
            nonlocal met, first
            met += first
            first = False
            if met == wanted:
                met += 1
                print("there", flush=True)

        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(HOST, port)
                try:
                    await client(reader, writer, there)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(BACK_S + after_s)  # as spread as they came
            if met > wanted and not told:
                told = True
                print("back", flush=True)

    clients = [client for client, many in KINDS[kind] for _ in range(many)]
    await asyncio.gather(
        *(come_back(client, COME_S * at / wanted) for at, client in enumerate(clients))
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
