"""A gateway of the demonstration as a process: started, killed, started again, stopped.

Decided here: how commands of ours are run as processes of their own, tied to this one so that none
outlives it, and that a kill takes the gateway's store along. Not decided here: what the gateways
are provisioned with (scene.py). Source: INTERFACE 1, RELIABILITY 4 (row 1).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

from gateway.core.errors import GatewayError
from gateway.store import bundled

READY: Final = b"ready "
START_S_MAX: Final = 20.0
STOP_S_MAX: Final = 12.0  # `serve` ends within 10 s of SIGTERM
COMMAND_S_MAX: Final = 20.0
PORT_TRIES_MAX: Final = 64
PORT_MIN: Final = 10_240
LOG_TAIL_BYTES_MAX: Final = 2_000

_TETHER: Final = Path(bundled.__file__).with_name("tether.py")
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class DemoFailed(GatewayError):
    """The demonstration could not be set up or ended; the message says why."""


class GatewayProcess:
    """`serve` on one port and data dir. Everything it says is in `log`."""

    def __init__(self, config_file: Path, data_dir: Path, port: int, log: Path) -> None:
        self.config_file = config_file
        self.data_dir = data_dir
        self.address = ("127.0.0.1", port)
        self.log = log
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises DemoFailed; it is not running then."""
        bind = f"127.0.0.1:{self.address[1]}"
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command("serve", *self.options, "--bind", bind),
                stdin=subprocess.DEVNULL,
                stdout=PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_S_MAX)
        except TimeoutError:
            line = b""
        if not line.startswith(READY):
            await self.stop()
            raise DemoFailed(f"A gateway did not start: {self._last_words()} ({self.log})")

    @property
    def options(self) -> tuple[str, ...]:
        """The options by which any command speaks to this gateway's store."""
        return "--config", str(self.config_file), "--data-dir", str(self.data_dir)

    async def kill(self) -> None:
        """Kill it and its store with SIGKILL, in one breath, and wait for its end."""
        if self._process is None or self._process.returncode is not None:
            raise DemoFailed(f"A gateway had ended before it was killed ({self.log})")
        # The store first: once the gateway is gone, its children's ids are not ours to signal.
        for pid in (*_children(self._process.pid), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """End it: SIGTERM, at most STOP_S_MAX of waiting, SIGKILL. Safe to repeat."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S_MAX)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _last_words(self) -> str:
        lines = self.log.read_bytes()[-LOG_TAIL_BYTES_MAX:].decode(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


async def run_command(*words: str, told: str = "") -> None:
    """Run a command of ours to its end; `told` is its standard input. Raises DemoFailed with what
    it said when it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *command(*words),
        stdin=PIPE,
        stdout=PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(told.encode()), COMMAND_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise DemoFailed(f"`{' '.join(words[:2])}` failed: {said.decode(errors='replace').strip()}")


def command(*words: str) -> list[str]:
    """Make the command line of a command of ours that ends with this process, however that ends.

    To be started from the main thread, with which the kernel would end it.
    """
    tether = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())]
    return [*tether, sys.executable, "-m", "gateway", *words]


def environment() -> dict[str, str]:
    """Give the environment without settings of a gateway: the scene alone says how they are set."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}


def free_port() -> int:
    """Find a free loopback port that no outgoing connection is ever given.

    A client that knocks at a port of the ephemeral range while nobody listens there may be
    connected to itself, and the gateway could then not come back to it.
    """
    low, high = _ephemeral_range()
    below, above = range(PORT_MIN, low), range(high + 1, 65_536)
    ports = below if len(below) > len(above) else above
    for port in random.sample(ports or range(PORT_MIN, 65_536), PORT_TRIES_MAX):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise DemoFailed("No free port was found on 127.0.0.1")


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = _PORT_RANGE.read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32_768, 60_999  # what Linux has by default


def _children(pid: int) -> list[int]:
    """List the children of a process; none where the kernel does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
