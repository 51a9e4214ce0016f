"""Bytes of HTTP/1 as they are, sent and read without a client library that would correct them.

Decided here: what is one input and what may come back, and how an answer is read: strictly, since
what cannot be read is no answer. An input of its own connection is told whatever comes until it is
silent or over. Not decided here: what is sent (hostile_inputs.py), what it counts.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

ANSWER_S: Final = 60.0
KEPT_S: Final = 2.0  # that a connection is kept unused for: the gateway ends those that are idle
TRIES_MAX: Final = 3  # of a request that came too slowly because the machine stalled
TOO_SLOW: Final = 408
SILENT_S: Final = (
    0.6  # without an answer on a connection of its own: longer than bodies are awaited
)
OVER_S: Final = 0.02  # after an answer, until there is taken to be no other one
ANSWER_BYTES_MAX: Final = 8 * 2**20
SILENCE: Final = 0  # among statuses: no answer at all

Books = dict[tuple[str, str], int]  # (instance, line) -> units


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Input:
    """What is sent, and which statuses its answers may have. Its number and the seed repeat it."""

    number: int
    kind: str
    raw: bytes
    allowed: frozenset[int]
    let_in: bool = False  # it has a credential: what comes back may be a 2xx
    alone: bool = False  # on a connection of its own, which it may leave in any state
    counts: Callable[[Answer], Books] | None = field(default=None, repr=False)  # what a 200 counted

    def __str__(self) -> str:
        shown = self.raw if len(self.raw) <= 1_500 else self.raw[:1_500] + b"..."
        return f"input {self.number} ({self.kind}), {sorted(self.allowed)} allowed: {shown!r}"


Judge = Callable[[Input, list[Answer]], None]


def request(
    method: str, target: str | bytes, headers: Mapping[str, str | bytes], body: bytes = b""
) -> bytes:
    """Write a request with its length, and headers in their order as they are."""
    said: dict[str, str | bytes] = {"Host": "x", **headers}
    if body or method not in ("GET", "DELETE"):
        said.setdefault("Content-Length", str(len(body)))
    lines = [b" ".join((method.encode(), _bytes(target), b"HTTP/1.1"))]
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in said.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


async def send_all(
    address: tuple[str, int], inputs: Iterator[Input], at_once: int, judge: Judge
) -> None:
    """Send inputs over `at_once` connections, each of which is kept for as long as it can be."""
    async with asyncio.TaskGroup() as senders:
        for _ in range(at_once):
            senders.create_task(_send_some(address, inputs, judge))


async def _send_some(address: tuple[str, int], inputs: Iterator[Input], judge: Judge) -> None:
    kept = _Connection(address)
    try:
        for each in inputs:
            async with asyncio.timeout(ANSWER_S):
                judge(each, await (_alone(address, each) if each.alone else _whole(kept, each)))
    except TimeoutError:
        raise AssertionError(f"no answer within {ANSWER_S:g} s: {each}") from None
    finally:
        kept.close()


async def _whole(kept: _Connection, each: Input) -> list[Answer]:
    """Send a whole request on a connection that is kept."""
    for _ in range(TRIES_MAX):
        answers = await kept.exchange(each.raw)
        if not any(answer.status == TOO_SLOW for answer in answers):
            break
    return answers


async def _alone(address: tuple[str, int], each: Input) -> list[Answer]:
    connection = _Connection(address)
    try:
        # Who must be answered is waited for.
        first_s = SILENT_S if SILENCE in each.allowed else ANSWER_S
        return [answer async for answer in connection.all_answers(each.raw, first_s)]
    finally:
        connection.close()


class _Connection:
    """A connection to the gateway, opened when it is needed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_s = 0.0

    async def exchange(self, raw: bytes) -> list[Answer]:
        """Send a request and read its answer; none if the gateway hangs up without one."""
        if time.monotonic() - self._used_s > KEPT_S:
            self.close()
        reader, writer = await self._open()
        writer.write(raw)
        answer = await _read(reader)
        self._used_s = time.monotonic()
        if answer is None or answer.headers.get("connection") == "close":
            self.close()
        return [] if answer is None else [answer]

    async def all_answers(self, raw: bytes, first_s: float) -> AsyncIterator[Answer]:
        """Send bytes; give whatever is answered until nothing is any more, the first of it within
        a time.
        """
        reader, writer = await self._open()
        writer.write(raw)
        span_s = first_s
        while True:
            try:
                async with asyncio.timeout(span_s):
                    first = await reader.read(1)
            except (TimeoutError, OSError):
                return
            answer = await _read(reader, first) if first else None
            if answer is None:
                return
            yield answer
            span_s = OVER_S

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=ANSWER_BYTES_MAX)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].transport.abort()
            self._streams = None


async def _read(reader: asyncio.StreamReader, first: bytes = b"") -> Answer | None:
    try:
        while True:
            head = first + await reader.readuntil(b"\r\n\r\n")
            first = b""
            status, headers = _head(head)
            if status >= 200:
                return Answer(status, headers, await _body(reader, headers))
    except (asyncio.IncompleteReadError, OSError):
        return None


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r\n]*", first)
    assert found is not None, f"no status line: {head[:200]!r}"
    headers: dict[str, str] = {}
    for line in lines:
        pair = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\r\n\0]*)", line)
        assert pair is not None, f"no header: {line!r}"
        headers[pair[1].lower()] = pair[2]
    return int(found[1]), headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int((await reader.readline()).strip(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(parts)
    return await reader.read()
