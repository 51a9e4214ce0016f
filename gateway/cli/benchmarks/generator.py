"""One round of load on a server: by wrk where it is installed, by our own client elsewhere.

Decided here: which of the two, what is read of what they say, and how much processor time the
server and its store took meanwhile, by the kernel's account of their processes. A round in which
anything was refused is void.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.cli.benchmarks import wrk
from gateway.cli.benchmarks.client import Orders
from gateway.cli.benchmarks.loads import Load, Sample
from gateway.cli.benchmarks.processes import cpu_s, ended
from gateway.core.errors import GatewayError

TRIES_MAX: Final = 3
SLACK_S: Final = 60.0  # how much longer than its time a generator may take
OWN_CLIENT: Final = "the bundled client (wrk is not installed; it shows lower rates)"

_SAMPLE: Final = msgspec.json.Decoder(Sample)


class LoadFailed(GatewayError):
    """A load generator ended without a result, or a server refused the load."""


@dataclass(frozen=True, slots=True)
class Generator:
    """A load generator; `wrk` is None where there is none. `scratch` is a directory for files."""

    wrk: str | None
    scratch: Path

    @classmethod
    def find(cls, scratch: Path) -> Generator:
        """Take wrk, or else our own client."""
        return cls(shutil.which("wrk"), scratch)

    @property
    def name(self) -> str:
        return OWN_CLIENT if self.wrk is None else "wrk"

    async def run(
        self, load: Load, seconds: float, pid: int, store_pid: int | None = None
    ) -> Sample:
        """Put load on the server that is process `pid`. Raises LoadFailed."""
        pids = [pid] if store_pid is None else [pid, store_pid]
        before_s = [cpu_s(each) for each in pids]
        for _ in range(TRIES_MAX):
            sample = await (self._own if self.wrk is None else self._wrk)(load, seconds)
            if sample.errors or sample.requests:
                break  # else the machine stood still for the whole round
        if sample.errors or not sample.requests:
            raise LoadFailed(f"{load.root} answered {sample.errors} requests with something else")
        if load.once and sample.requests > len(load.bodies):
            raise LoadFailed(f"{len(load.bodies)} bodies are too few for {seconds:g} s")
        spent_us = [
            (cpu_s(each) - began_s) * 1e6 / sample.requests
            for each, began_s in zip(pids, before_s, strict=True)
        ]
        return msgspec.structs.replace(sample, cpu_us=spent_us[0], store_us=sum(spent_us[1:]))

    async def _wrk(self, load: Load, seconds: float) -> Sample:
        assert self.wrk is not None  # noqa: S101 - the caller has looked
        script = await asyncio.to_thread(wrk.write_script, load, self.scratch)
        return await _told(wrk.command(self.wrk, load, seconds, script), b"", seconds)

    async def _own(self, load: Load, seconds: float) -> Sample:
        module = [sys.executable, "-m", "gateway.cli.benchmarks.client"]
        return await _told(module, msgspec.msgpack.encode(Orders(load, seconds)), seconds)


async def _told(command: list[str], orders: bytes, seconds: float) -> Sample:
    """Run a generator to its end and read the JSON on the last line it writes."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE if orders else DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,  # Ctrl-C is for us, and we end it
    )
    try:
        out, told = await asyncio.wait_for(process.communicate(orders or None), seconds + SLACK_S)
    except TimeoutError:
        raise LoadFailed(f"{Path(command[0]).name} did not end in time") from None
    finally:
        await ended(process, at_once=True)
    try:
        return _SAMPLE.decode(out.splitlines()[-1])
    except (IndexError, msgspec.MsgspecError):
        reason = " ".join(told.decode(errors="replace").split()[-30:])
        raise LoadFailed(f"{Path(command[0]).name} gave no result: {reason}") from None
