"""A proxy that passes bytes on, or does to them what a bad network does, changed while it runs.

Decided here: what may be done to the bytes of each direction. It knows no protocol: before a store,
before an upstream and before a gateway it is the same. A thread of its own runs it, so that it goes
on while a test waits. Not decided here: when what is done, and what must be true then.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Collection, Coroutine
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

from tests.stores.programs import HOST

PORTION_BYTES_MAX = 65_536
SWITCH_S_MAX = 30.0
TURN_S = 0.01
RESET = struct.pack("ii", 1, 0)  # to linger for no time makes the kernel send RST instead of FIN

Result = TypeVar("Result")


class How(Enum):
    """What is done to the bytes of a direction.

    SWALLOW: they are lost, whatever comes later. HOLD: they stay where they are and arrive once
    something else is done, as over a network that is whole again. DELAY: each portion arrives later
    by a time. SLICE: every byte arrives by itself. RESET: they are lost and the connection with
    them, for both sides.
    """

    PASS = auto()
    SWALLOW = auto()
    HOLD = auto()
    DELAY = auto()
    SLICE = auto()
    RESET = auto()


@dataclass(eq=False)
class _Passage:
    """A client's connection and the one to the target; `spared`: nothing is done to its bytes."""

    ends: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0  # from which the target sees it come
    spared: bool = False


class Direction:
    """The bytes of all connections that go one way. Once a call returns, it holds for the next
    byte.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.passed_bytes = 0
        self.lost_bytes = 0
        self._loop = loop
        self._how = How.PASS
        self._delay_s = 0.0
        self._changed = asyncio.Event()

    def become(self, how: How, delay_s: float = 0.0) -> None:
        """Do this from now on, also to bytes that are held or delayed; `delay_s` is of DELAY."""
        _run(self._loop, self._become(how, delay_s))

    async def carry(self, portion: bytes, target: asyncio.StreamWriter, passage: _Passage) -> None:
        """Do to a portion what is to be done. Raises ConnectionResetError when that is RESET."""
        while portion:
            match self._how_of(passage):
                case How.SWALLOW:
                    self.lost_bytes += len(portion)
                    return
                case How.RESET:
                    self.lost_bytes += len(portion)
                    raise ConnectionResetError
                case How.HOLD:
                    await self._change()
                    continue
                case How.DELAY if await self._change(self._delay_s):
                    continue
            arriving = portion[:1] if self._how_of(passage) is How.SLICE else portion
            portion = portion[len(arriving) :]
            self.passed_bytes += len(arriving)
            target.write(arriving)
            await target.drain()
            await asyncio.sleep(0)  # others have their turn also while much is sliced

    async def open(self, passage: _Passage) -> None:
        """Wait while everything is held: then neither a beginning nor an end comes through."""
        while self._how_of(passage) is How.HOLD:
            await self._change()

    def _how_of(self, passage: _Passage) -> How:
        return How.PASS if passage.spared else self._how

    async def _change(self, within_s: float | None = None) -> bool:
        """Wait until something else is done; False when it was not within the time."""
        changed = self._changed
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await changed.wait()
        return changed.is_set()  # both may have come at once

    async def _become(self, how: How, delay_s: float) -> None:
        self._how, self._delay_s = how, delay_s
        # Those who wait see the old event, those who come later wait for the next change.
        self._changed.set()
        self._changed = asyncio.Event()


class ByteProxy(AbstractContextManager["ByteProxy"]):
    """Listens on `port` of the loopback, by default any, and connects to `target` for each client.

    `target` is "host:port" or the path of a unix socket. `requests` is what clients send,
    `replies` what comes back. It runs from the beginning until it is closed.
    """

    def __init__(self, target: str | Path, port: int = 0) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="byte proxy", daemon=True
        )
        self._connections: dict[asyncio.Task[None], _Passage] = {}
        self.requests = Direction(self._loop)
        self.replies = Direction(self._loop)
        self._server: asyncio.Server | None = None
        self._thread.start()
        self.port = _run(self._loop, self._listen(port))

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Its URL, where a store is behind it."""
        return f"redis://{self.address}"

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._connections)

    def heal(self) -> None:
        """Pass everything on again; what was held arrives."""
        _run(self._loop, self._spare(()))
        self._both(How.PASS)

    def partition(self, spare: Collection[int] = ()) -> None:
        """Let nothing arrive on either side, not even that somebody went away, until `heal`.

        But for the connections there are that the target sees come from the ports `spare`: those
        clients are on its side.
        """
        _run(self._loop, self._spare(spare))
        self._both(How.HOLD)

    def black_hole(self) -> None:
        """Take everything and let nothing of it arrive, then or later."""
        self._both(How.SWALLOW)

    def reset(self) -> None:
        """Reset every connection there is now; new ones are as before."""
        _run(self._loop, self._reset_all())

    def close(self) -> None:
        """End it, and every connection through it."""
        if self._loop.is_closed():
            return
        _run(self._loop, self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _both(self, how: How) -> None:
        for direction in (self.requests, self.replies):
            direction.become(how)

    async def _listen(self, port: int) -> int:
        self._server = await asyncio.start_server(self._serve, HOST, port, limit=PORTION_BYTES_MAX)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until one side is gone, or it is reset."""
        task = asyncio.current_task()
        assert task is not None
        passage = self._connections[task] = _Passage([writer])
        ends = passage.ends
        pumps: list[asyncio.Task[None]] = []
        try:
            await self.requests.open(passage)
            there, back = await self._connect()
            ends.append(back)
            if not isinstance(self._target, Path):
                passage.port = back.get_extra_info("sockname")[1]
            pumps.append(asyncio.create_task(_pump(self.requests, reader, back, passage)))
            pumps.append(asyncio.create_task(_pump(self.replies, there, writer, passage)))
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
            for end in ends:
                end.close()
        except OSError:  # nobody is there, or it was reset
            _reset(ends)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            del self._connections[task]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target, limit=PORTION_BYTES_MAX)
        host, _, port = self._target.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=PORTION_BYTES_MAX)

    async def _spare(self, ports: Collection[int]) -> None:
        for passage in self._connections.values():
            passage.spared = passage.port in ports

    async def _reset_all(self) -> None:
        for passage in self._connections.values():
            _reset(passage.ends)

    async def _end(self) -> None:
        assert self._server is not None
        # Who was only just accepted is not among the connections yet, but is a turn later; closed
        # before, the server would leave its socket open.
        for listener in self._server.sockets:
            self._loop.remove_reader(listener)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task, passage in self._connections.items():
                task.cancel()
                for end in passage.ends:
                    end.transport.abort()
            await asyncio.wait(others, timeout=TURN_S)
        self._server.close()
        await asyncio.sleep(0)  # a socket that is aborted is closed at the next turn


async def _pump(
    direction: Direction,
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    passage: _Passage,
) -> None:
    while portion := await source.read(PORTION_BYTES_MAX):
        await direction.carry(portion, target, passage)
    await direction.open(passage)


def _reset(ends: list[asyncio.StreamWriter]) -> None:
    for end in ends:
        raw: socket.socket = end.get_extra_info("socket")
        with suppress(OSError):  # it is gone already
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.transport.abort()


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Result]) -> Result:
    """Do something where the proxy runs, and wait until it is done."""
    return asyncio.run_coroutine_threadsafe(work, loop).result(SWITCH_S_MAX)
