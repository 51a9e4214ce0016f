"""Connections taken by Granian: HTTP/1.1, read and written outside Python.

Decided here: how its worker is set up in this process and loop, that a request comes to the app
with the first part of its body, and what Granian does not know of: an answer that breaks off, a
client that takes nothing, a request that is still there at the end. Its own command, loop and
processes are not used, so that starting, draining and stopping are the same under every server.
Not decided here: the layers before the app (serving.py), and what one request is
(granian_requests.py). Source: INTERFACE 1 and 2, RELIABILITY 3 (6) and 4 row 16.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from granian import _granian
from granian.http import HTTP1Settings
from starlette.types import ASGIApp

from gateway.config import Config
from gateway.web.connection import REQUEST_S_MAX
from gateway.web.connections import CUT_S_MAX, HEAD_BYTES_MAX
from gateway.web.granian_requests import GranianRequest
from gateway.web.peers import Cutter, cut_peers
from gateway.web.stopping import FINISH_S_MAX

FIRST_PART_S_MAX: Final = 0.5  # for the first part of a body, before the app is asked without it
BACKLOG: Final = 1_024

_native: Any = _granian  # the types that it tells are those of an earlier version
_log = structlog.get_logger("gateway.serving")


class GranianConnections:
    """All connections of this process, `limits.connections` of them at most; more are left waiting
    where the system keeps them.
    """

    def __init__(self, app: ASGIApp, config: Config, *, tls: bool) -> None:
        self._app, self._config, self._tls = app, config, tls
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._signal = _native.WorkerSignal()
        self._ended = asyncio.Event()
        self._port = 0
        self._cutter = Cutter(0)
        # Requests of which nothing but the head has come, oldest first, and when it came.
        self._beginning: dict[GranianRequest, float] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket) -> None:
        """Begin to take the connections that come; the listener is Granian's from now on."""
        listener.setblocking(False)
        # Each connection has it of its listener: whoever takes nothing for so long is dropped.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(REQUEST_S_MAX * 1_000))
        self._port = listener.getsockname()[1]
        self._cutter = Cutter(self._port)
        self._signal.add_cb(self._heard_end)
        holder = _native.SocketHolder(listener.detach(), False, BACKLOG)
        _worker(self._config, holder, tls=self._tls).serve_async(
            _scheduler(self._loop, self._take), self._loop, self._signal
        )

    def refuse_new(self) -> None:
        """Take no more connections, for ever, and no more requests on those that are there."""
        self._signal.set()

    async def sweep(self) -> None:
        """Ask the app for requests whose bodies do not come: it knows how long it waits."""
        while True:
            await asyncio.sleep(FIRST_PART_S_MAX / 2)
            self._begin_late()

    async def finish(self) -> None:
        """Let requests in flight end, idle connections at once; cut off what is left."""
        if await self._has_ended(FINISH_S_MAX):
            return
        _log.warning("requests cut off", requests=len(self._under_way))
        await asyncio.to_thread(cut_peers, self._port)
        if not await self._has_ended(CUT_S_MAX):
            for task in self._under_way:
                task.cancel()
            await self._has_ended(CUT_S_MAX)

    def _take(self, watcher: Any) -> None:
        """Take a request. Granian calls this in its own thread, and hears of no error."""
        with suppress(RuntimeError):  # the loop is closed: nobody is left to answer
            request = GranianRequest(self._app, watcher, self._cutter)
            if not request.awaits_body:
                self._loop.call_soon_threadsafe(self._begin, request)
                return
            self._beginning[request] = self._loop.time()
            first = request.ask_first_part()
            first.add_done_callback(lambda first: self._came(request, first), context=self._context)

    def _came(self, request: GranianRequest, first: Any) -> None:
        """Note that the first part of a body is there."""
        request.hear(first)
        if request in self._beginning:
            self._begin(request)

    def _begin_late(self) -> None:
        before_s = self._loop.time() - FIRST_PART_S_MAX / 2
        for request, came_s in list(self._beginning.items()):
            if came_s > before_s:
                return
            self._begin(request)

    def _begin(self, request: GranianRequest) -> None:
        self._beginning.pop(request, None)
        task = self._loop.create_task(request.serve())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _heard_end(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            self._loop.call_soon_threadsafe(self._ended.set)

    async def _has_ended(self, within_s: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), within_s)
        return self._ended.is_set()


def _scheduler(loop: asyncio.AbstractEventLoop, take: Callable[[Any], None]) -> Any:
    """What Granian hands its requests to: a function, instead of a task for each."""
    scheduler = _native.CallbackScheduler(loop, take, None, None, None)
    scheduler._schedule_fn = take
    return scheduler


def _worker(config: Config, holder: Any, *, tls: bool) -> Any:
    settings = config.server
    certificate, key = (
        (str(config.path(settings.tls_cert)), str(config.path(settings.tls_key)))
        if tls
        else (None, None)
    )
    return _native.ASGIWorker(
        1,  # its number, for its own log
        (None, holder),
        None,  # no process to tell of
        1,  # threads that read and write
        1,  # threads for files: there are none to send
        1,  # threads that enter Python
        30,  # seconds until they end when idle
        config.limits.connections,
        "1",
        HTTP1Settings(
            header_read_timeout=int(settings.header_timeout_s * 1_000),
            max_buffer_size=HEAD_BYTES_MAX,
        ),
        None,
        False,  # no WebSocket
        None,  # no files
        *(tls, certificate, key, None, "tls1.2", None, [], False),
        (None, None),  # no metrics
    )
