"""HTTP/1.1 as a client of the demonstration speaks it: one connection, one request at a time.

Decided here: what counts as no answer (refusal, reset, time-out, anything that does not read as
HTTP), and how a connection is reset on purpose after the request is out. Written on bare streams,
since no client library lets go of a connection at that moment. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Final

ANSWER_S_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 2**20
HEAD_BYTES_MAX: Final = 2**16

# On, for 0 s: closing throws away what is under way and sends RST instead of FIN.
_RESET: Final = struct.pack("ii", 1, 0)


class Unanswered(Exception):
    """No answer came; whether the request was applied is not known."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; `replayed` is its Idempotency-Replayed, `signature` its LicenseSignature."""

    status: int
    body: bytes
    replayed: bool
    signature: str = ""


def post(path: str, headers: str, body: bytes) -> bytes:
    """Write a POST; `headers` are lines that end in CRLF. Every retry sends these bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: demo\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Wire:
    """A connection that is opened when it is needed. Not for two requests at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, request: bytes) -> Reply:
        """Send a whole request and read its answer. Raises Unanswered; the connection is then gone.

        A retry opens a new one.
        """
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                reader = await self._send(request)
                return await self._read(reader)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise Unanswered(type(error).__name__) from error
        except asyncio.CancelledError:
            self.close()  # half an answer may be left in it
            raise

    async def post_and_reset(self, request: bytes, after_s: float) -> None:
        """Send a whole request and reset the connection before reading; raises nothing expected."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._send(request)
                await asyncio.sleep(after_s)
        if self._writer is not None:
            sock: socket.socket = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _send(self, request: bytes) -> asyncio.StreamReader:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                *self._address, limit=HEAD_BYTES_MAX
            )
        self._writer.write(request)
        await self._writer.drain()
        return self._reader

    async def _read(self, reader: asyncio.StreamReader) -> Reply:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = start.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        length = int(headers["content-length"]) if "content-length" in headers else -1
        if not 0 <= length <= ANSWER_BYTES_MAX:
            raise ValueError("an answer without a length, or with one that is out of bounds")
        body = await reader.readexactly(length)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(
            int(status),
            body,
            headers.get("idempotency-replayed") == "true",
            headers.get("licensesignature", ""),
        )
