"""One gateway process at work: everything opened, served, closed in order.

Decided here: how a worker of the supervisor gets its orders (on stdin, since an address may hold a
password and arguments are for all to read), that it says it is ready on stdout, and that it dies
with its parent. `serve` with one worker runs `work` itself. Source: INTERFACE 1, RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from gateway import logs
from gateway.cli.options import run
from gateway.config import Config
from gateway.service.boards import Board
from gateway.web.lifecycle import Lifecycle
from gateway.web.servers import GRANIAN, HYPERCORN
from gateway.web.serving import serve, tls_context
from gateway.web.stopping import Stop
from gateway.wiring import open_gateway
from gateway.wiring_seeing import layout_of

READY: Final = "ready"
FILES_BESIDE_CONNECTIONS: Final = 256  # the store's connections, upstreams, logs
_PR_SET_PDEATHSIG: Final = 1


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told; `listener_fd` is a descriptor that it inherited."""

    config: Config
    number: int
    parent_pid: int
    listener_fd: int
    forward: bool
    allow_weaker: bool
    board_fd: int
    server: str

    def encode(self) -> bytes:
        """Give the form in which they go to the worker's stdin."""
        return msgspec.json.encode(self, enc_hook=str)  # a Path, the one type it does not know

    @classmethod
    def decode(cls, encoded: bytes) -> Orders:
        """Give the orders back; the reverse of `encode`."""
        return msgspec.json.decode(encoded, type=cls, dec_hook=_path)


def work(
    config: Config,
    listener: socket.socket,
    *,
    forward: bool,
    allow_weaker: bool,
    announce: Callable[[], None],
    board: Board | None = None,
    server: str = HYPERCORN,
) -> None:
    """Be a gateway until SIGTERM or SIGINT; `announce` is called when it answers.
    `board` is where all workers count, if there are others.

    Raises what opening the gateway raises. Main thread only. The process is to end after this.
    """
    _allow_files(config.limits.connections + FILES_BESIDE_CONNECTIONS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        board = board or Board.alone(layout_of(config))
        serving = partial(
            serve,
            listener=listener,
            config=config,
            announce=announce,
            meters=board.meters,
            server=server,
        )
        stop = runner.run(_work(config, serving, forward, allow_weaker, board))
    stop.disarm()
    if server == GRANIAN:
        leave()


def leave() -> None:
    """End this process with code 0, all being closed: threads that are not Python's may be about to
    enter it, and must not find it half taken down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _work(
    config: Config,
    serving: Callable[..., Awaitable[None]],
    forward: bool,
    allow_weaker: bool,
    board: Board,
) -> Stop:
    stop = Stop()
    lifecycle = Lifecycle()
    tls = tls_context(config)
    try:
        async with open_gateway(
            config, lifecycle, forward=forward, allow_weaker=allow_weaker, board=board
        ) as app:
            _settle_memory()
            await serving(app, tls=tls, lifecycle=lifecycle, stop=stop)
    except asyncio.CancelledError:
        if not stop.asked.is_set():
            raise
    stop.hear_no_more()
    return stop


def main() -> None:
    """Work under orders from stdin; `run` says how it ends."""
    orders = Orders.decode(sys.stdin.buffer.read())
    die_with(orders.parent_pid)
    logs.set_up(orders.config.log.level, orders.config.log.format, worker=orders.number)
    work(
        orders.config,
        socket.socket(fileno=orders.listener_fd),
        forward=orders.forward,
        allow_weaker=orders.allow_weaker,
        announce=lambda: print(READY, flush=True),
        board=Board.shared(layout_of(orders.config), orders.board_fd, orders.number - 1),
        server=orders.server,
    )


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends.

    SIGKILL, since an answer from a gateway that nobody supervises any more is one too many.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "No parent-death signal can be set")
    # Signal first, look second: a parent that ended before the signal was set never sends it.
    if os.getppid() != parent_pid:
        raise SystemExit("The parent ended before its worker started")


def _settle_memory() -> None:
    """Have the collector leave alone what stays for ever, and look less often for the rest.

    Requests leave no cycles behind; looking for some after every few hundred allocations cost a
    tenth of the processor.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _allow_files(wanted: int) -> None:
    """Raise the bound on open files as far as it is ours to raise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _path(kind: type, value: Any) -> Any:
    return Path(value) if kind is Path else value


if __name__ == "__main__":
    sys.exit(run(main))
