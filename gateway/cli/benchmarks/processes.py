"""The servers under load: real processes on loopback, started and ended.

Decided here: how each is started, how long a start and an end may take. Source: INTERFACE 1 (the
ready line).
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.errors import GatewayError

START_S_MAX: Final = 20.0
END_S_MAX: Final = 10.0
GATEWAY: Final = ("-c", "from gateway.cli import main; main()", "serve", "--no-forward")
EMPTY: Final = ("-m", "gateway.cli.benchmarks.empty")


class ServerFailed(GatewayError):
    """A server did not become ready; the message ends with the last it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its base URL, and its one process."""

    url: str
    pid: int


@asynccontextmanager
async def started(
    arguments: tuple[str, ...], environ: Mapping[str, str], log: Path
) -> AsyncIterator[Server]:
    """Start a Python process that says `ready URL`, and end it afterwards. Raises ServerFailed."""
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=os.environ | environ, stdout=PIPE, stderr=stderr
        )
    try:
        yield Server(await _ready(process, log), process.pid)
    finally:
        await _end(process)


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


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_S_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
