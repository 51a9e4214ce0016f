"""How a process of ours is told to stop, and that it then really ends.

Decided here: what SIGTERM and SIGINT mean, and the bounds that hold after the drain, whatever
hangs. With the default drain of 3 s they add up to less than the 10 s that are promised. Not
decided: what is done in that time (serving.py, supervisor.py). Source: INTERFACE 1, RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from typing import Final

import structlog

FINISH_S_MAX: Final = 4.0  # for requests in flight; a call to the store takes 2 s at most
CLOSE_S_MAX: Final = 2.0  # for the lane, the forwarder and the embedded store

_log = structlog.get_logger("gateway.stopping")


def leave_when_told() -> None:
    """Have SIGTERM end this process at once, with code 0, until a Stop is there to hear it.

    Nothing is open yet that would be closed. Process 1 of a container would not hear it at all, and
    be killed when its time is up.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


class Stop:
    """The wish to stop, as told by signals; made inside the running loop of the main thread.

    Until `started` is called a signal cancels the task that made this: there is nothing to drain.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._starting = asyncio.current_task()
        self._deadline: threading.Timer | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard)

    def started(self) -> None:
        """Note that from now on a stop is an orderly one."""
        self._starting = None

    async def wait_out(self, drain_s: float) -> None:
        """Wait for `drain_s`, or less when a second signal comes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hurried.wait(), drain_s)

    def exit_within(self, span_s: float) -> None:
        """End this process with code 0 after `span_s`, unless it has ended by itself before.

        A thread, since what hangs may be the loop. Nothing acknowledged is lost by it: what the
        store had answered by then has been passed on.
        """
        self._deadline = threading.Timer(span_s, _exit)
        self._deadline.daemon = True
        self._deadline.start()

    def disarm(self) -> None:
        """Take the deadline back: the process has nothing left that could hang."""
        if self._deadline is not None:
            self._deadline.cancel()

    def hear_no_more(self) -> None:
        """Let signals change nothing any more: the process is over, and ends as it was told to."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def _heard(self) -> None:
        if self.asked.is_set():
            self.hurried.set()
            return
        self.asked.set()
        if self._starting is not None:
            self._starting.cancel()


def _exit() -> None:
    _log.warning("stopped before everything was finished")
    sys.stderr.flush()
    os._exit(0)
