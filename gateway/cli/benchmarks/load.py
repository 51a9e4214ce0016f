"""One round of load on a server: by wrk where it is installed, by our own client elsewhere.

Decided here: how a request is spelt for either, and what is read of what they say. Not decided
here: which requests (cases.py). Both keep the same number of connections, with one request in
flight on each.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.cli.benchmarks.client import Orders, Sample
from gateway.core.errors import GatewayError

CONNECTIONS: Final = 32
SLACK_S: Final = 30.0  # how much longer than its time a generator may take
OWN_CLIENT: Final = "bundled client (wrk is not installed)"

_SAMPLE: Final = msgspec.json.Decoder(Sample)
# Bodies are read from a file, a line each, since a Lua chunk has a bound on its constants.
_SCRIPT: Final = """\
local requests, at = {}, 0
%(headers)s
function init()
  for body in io.lines("%(file)s") do
    requests[#requests + 1] = wrk.format("POST", "%(path)s", nil, body)
  end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%%d,"seconds":%%f,"errors":%%d,"p50_ms":%%f,"p99_ms":%%f}\\n',
    summary.requests, summary.duration / 1e6, e.status + e.read + e.write + e.timeout + e.connect,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class LoadFailed(GatewayError):
    """A load generator ended without a result, or a server refused the load."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent to a server; bodies have no line breaks. `once`: no body may be sent twice."""

    url: str
    headers: dict[str, str]
    bodies: Sequence[bytes]
    once: bool = False


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

    async def run(self, load: Load, seconds: float, pid: int) -> Sample:
        """Put load on the server that is process `pid`. Raises LoadFailed."""
        before_s = cpu_s(pid)
        sample = await (self._own(load, seconds) if self.wrk is None else self._wrk(load, seconds))
        if sample.errors or not sample.requests:
            raise LoadFailed(f"{load.url} answered {sample.errors} requests with something else")
        if load.once and sample.requests > len(load.bodies):
            raise LoadFailed(f"{len(load.bodies)} bodies are too few for {seconds:g} s")
        spent_us = (cpu_s(pid) - before_s) * 1e6
        return msgspec.structs.replace(sample, cpu_us=spent_us / sample.requests)

    async def _wrk(self, load: Load, seconds: float) -> Sample:
        bodies, script = self.scratch / "bodies", self.scratch / "load.lua"
        headers = "\n".join(
            f'wrk.headers["{name}"] = "{value}"' for name, value in load.headers.items()
        )
        text = _SCRIPT % {"headers": headers, "file": bodies, "path": urlsplit(load.url).path}
        await asyncio.to_thread(bodies.write_bytes, b"\n".join(load.bodies) + b"\n")
        await asyncio.to_thread(script.write_text, text)
        # wrk counts whole seconds only.
        whole = max(1, round(seconds))
        arguments = ["-t1", f"-c{CONNECTIONS}", f"-d{whole}s", "-s", str(script), load.url]
        assert self.wrk is not None  # noqa: S101 - the caller has looked
        return await _told([self.wrk, *arguments], b"", seconds)

    async def _own(self, load: Load, seconds: float) -> Sample:
        parts = urlsplit(load.url)
        orders = Orders(
            host=parts.hostname or "",
            port=parts.port or 80,
            connections=CONNECTIONS,
            seconds=seconds,
            requests=[_spelt(parts.netloc, parts.path, load.headers, body) for body in load.bodies],
            once=load.once,
        )
        module = [sys.executable, "-m", "gateway.cli.benchmarks.client"]
        return await _told(module, msgspec.msgpack.encode(orders), seconds)


def cpu_s(pid: int) -> float:
    """Say how much processor time a process has used; in the kernel's ticks, mostly 10 ms."""
    # After the name, which is in brackets and may hold anything: fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spelt(host: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    head = {"Host": host, "Content-Length": str(len(body))} | headers
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _told(command: list[str], orders: bytes, seconds: float) -> Sample:
    """Run a generator to its end and read the JSON on the last line it writes."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        out, told = await asyncio.wait_for(process.communicate(orders), seconds + SLACK_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return _SAMPLE.decode(out.splitlines()[-1])
    except (IndexError, msgspec.MsgspecError):
        reason = " ".join(told.decode(errors="replace").split()[-30:])
        raise LoadFailed(f"{Path(command[0]).name} gave no result: {reason}") from None
