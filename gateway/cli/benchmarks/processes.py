"""The servers under load: real processes on loopback, started, looked at and ended.

Decided here: how each is started, how long a start and an end may take, that none outlives this
process however it ends (the kernel kills it then), and that no setting of this process's
environment reaches one. Source: INTERFACE 1 (the ready line).
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.errors import GatewayError

START_S_MAX: Final = 30.0
END_S_MAX: Final = 15.0
KIB: Final = 1_024
_BOUND: Final = "from gateway.cli.worker import die_with; die_with({pid}); "
_GATEWAY: Final = "from gateway.cli import main; main()"
_EMPTY: Final = "from gateway.cli.benchmarks.empty import main; main()"


class ServerFailed(GatewayError):
    """A server did not become ready; the message ends with the last it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its base URL, and its one process."""

    url: str
    pid: int


def serving(data_dir: Path, *arguments: str) -> tuple[str, ...]:
    """Give the code and arguments of a gateway on a free port."""
    bind = ("serve", "--no-forward", "--bind", "127.0.0.1:0")
    return (_GATEWAY, *bind, "--data-dir", str(data_dir), *arguments)


def empty(server: str) -> tuple[str, ...]:
    """Give the code and arguments of the yardstick on the server of that name."""
    return (_EMPTY, server)


@asynccontextmanager
async def started(
    arguments: tuple[str, ...], environ: Mapping[str, str], log: Path
) -> AsyncIterator[Server]:
    """Start Python code that says `ready URL`, and end it afterwards. Raises ServerFailed."""
    code, *rest = arguments
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")}
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _BOUND.format(pid=os.getpid()) + code, *rest),
            env={**kept, **environ},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for us, and we end it
        )
    try:
        yield Server(await _ready(process, log), process.pid)
    finally:
        await ended(process)


def cpu_s(pid: int) -> float:
    """Say how much processor time a process has used; in the kernel's ticks, mostly 10 ms."""
    # After the name, which is in brackets and may hold anything: fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Say how much memory a process has in use, shared libraries included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    return 0


async def ended(process: Process, *, at_once: bool = False) -> None:
    """End a process, unless it has ended: in order first, where that is not to be `at_once`."""
    if process.returncode is not None:
        return
    try:
        if not at_once:
            process.terminate()
            await asyncio.wait_for(process.wait(), END_S_MAX)
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(process: Process, log: Path) -> str:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_S_MAX)
    except TimeoutError:
        line = b""
    word, _, url = line.decode().strip().partition(" ")
    if word != "ready":
        told = await asyncio.to_thread(log.read_text, errors="replace")
        raise ServerFailed(f"A server to measure did not start: {' '.join(told.split())[-300:]}")
    return url
