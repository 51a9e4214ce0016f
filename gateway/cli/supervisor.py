"""Several workers on one listening socket, kept alive, and stopped together.

Decided here: who is started when, when a dead worker is replaced and when that is given up, and the
order of a stop. Workers are fresh processes in sessions of their own, so that Ctrl-C reaches only
us and they hear of it once; the kernel ends them with us. Source: INTERFACE 1, RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from gateway.cli.worker import READY, Orders
from gateway.config import Config
from gateway.core.errors import GatewayError
from gateway.service.boards import Board
from gateway.web.servers import HYPERCORN
from gateway.web.stopping import CLOSE_S_MAX, FINISH_S_MAX, Stop
from gateway.wiring_seeing import layout_of

FIRST: Final = 1
START_S_MAX: Final = 30.0
STEADY_S: Final = 5.0  # who lived that long did not die of the start
DEATHS_MAX: Final = 10  # in a row, without a steady one between
BACKOFF_S_MIN: Final = 0.05
BACKOFF_S_MAX: Final = 5.0
KILL_S: Final = 0.3  # beyond a worker's own deadline, which it keeps by itself

_log = structlog.get_logger("gateway.supervisor")


class WorkersFailed(GatewayError):
    """A worker did not start, or kept dying. `code`, unless 0, is the exit code of one that has
    told why.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Supervisor:
    """The workers of one gateway. The listener is shared: while one lives, no connection is
    refused.
    """

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        *,
        forward: bool,
        allow_weaker: bool,
        server: str = HYPERCORN,
    ) -> None:
        self._config = config
        self._listener = listener
        self._forward = forward
        self._allow_weaker = allow_weaker
        self._server = server
        self._processes: dict[int, Process] = {}
        self._layout = layout_of(config)
        self._board_fd = -1

    async def run(self, stop: Stop, announce: Callable[[], None]) -> None:
        """Keep the workers until `stop` is asked for, then end them; `announce` when all answer.

        Raises WorkersFailed, after the others were ended. None of them outlives this.
        """
        keepers: list[asyncio.Task[None]] = []
        self._board_fd = Board.make(self._layout, self._config.server.workers)
        try:
            # One goes ahead: what is wrong with the set-up is then said once, and ends us. Once it
            # serves, another that does not start is like one that died: tried again.
            others = range(FIRST + 1, self._config.server.workers + 1)
            for numbers in (range(FIRST, FIRST + 1), others):
                ready = [asyncio.Event() for _ in numbers]
                started = [
                    asyncio.create_task(self._keep(number, event))
                    for number, event in zip(numbers, ready, strict=True)
                ]
                keepers += started
                await _unless_failed(keepers, _all_set(ready))
            stop.started()
            announce()
            await _unless_failed(keepers, stop.asked.wait())
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._end_all(stop)
            os.close(self._board_fd)

    async def _keep(self, number: int, ready: asyncio.Event) -> None:
        """Have one worker running, for ever; `ready` is set when the first one answers."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            started_s = loop.time()
            process = await self._start(number)
            if await _says_ready(process):
                ready.set()
            code = await process.wait()
            if number == FIRST and not ready.is_set():
                raise WorkersFailed(f"Worker {number} did not start", max(code, 0))
            Board.count_death(self._layout, self._board_fd, number - 1)
            deaths = 1 if loop.time() - started_s >= STEADY_S else deaths + 1
            if deaths >= DEATHS_MAX:
                raise WorkersFailed(f"Worker {number} died {deaths} times in a row")
            _log.error("worker died", worker=number, pid=process.pid, code=code, deaths=deaths)
            await asyncio.sleep(min(BACKOFF_S_MIN * 2**deaths, BACKOFF_S_MAX))

    async def _start(self, number: int) -> Process:
        fd = self._listener.fileno()
        orders = Orders(
            *(self._config, number, os.getpid(), fd, self._forward, self._allow_weaker),
            board_fd=self._board_fd,
            server=self._server,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli.worker"),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(fd, self._board_fd),
            start_new_session=True,
        )
        self._processes[number] = process
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        process.stdin.write(orders.encode())
        process.stdin.close()
        return process

    async def _end_all(self, stop: Stop) -> None:
        """End the workers: SIGTERM, again for a second signal, SIGKILL when their time is up."""
        self._listener.close()  # theirs are open until they have drained
        alive = [each for each in self._processes.values() if each.returncode is None]
        _signal(alive)
        ends = asyncio.create_task(_all_ended(alive))
        drain_s = self._config.server.drain_s
        hurry = asyncio.create_task(stop.wait_out(drain_s))
        await asyncio.wait((ends, hurry), return_when=asyncio.FIRST_COMPLETED)
        if stop.hurried.is_set():
            _signal(alive)
        hurry.cancel()
        if stop.asked.is_set():
            stop.exit_within(FINISH_S_MAX + CLOSE_S_MAX + 2 * KILL_S)
        await asyncio.wait((ends,), timeout=FINISH_S_MAX + CLOSE_S_MAX + KILL_S)
        for process in alive:
            if process.returncode is None:
                _log.warning("worker killed", pid=process.pid)
                process.kill()
        await ends


async def _unless_failed(
    keepers: list[asyncio.Task[None]], awaited: Coroutine[Any, Any, Any]
) -> None:
    """Wait for something; raises WorkersFailed, which is all that ends a keeper, when one ends."""
    wish = asyncio.create_task(awaited)
    try:
        await asyncio.wait({wish, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        for keeper in keepers:
            if keeper.done():
                keeper.result()
    finally:
        wish.cancel()


async def _all_set(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def _all_ended(processes: list[Process]) -> None:
    for process in processes:
        await process.wait()


async def _says_ready(process: Process) -> bool:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_S_MAX)
    except TimeoutError:
        process.kill()
        return False
    return line.decode().strip() == READY


def _signal(processes: list[Process]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
