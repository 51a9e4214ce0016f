"""A load as a script for wrk, and the command that runs it.

Decided here: how the shapes of a load are spelt in Lua. Bodies and paths are read from files, a
line each, since a Lua chunk has a bound on its constants; what can be is written out before the
clock starts. Not decided here: what is made of the numbers (generator.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.cli.benchmarks.loads import Load

TIMEOUT_S: Final = 10  # of one answer, by wrk's clock; later it is an error

_HEAD: Final = """\
local paths, bodies, requests = {}, {}, {}
local at, number = %(first)d, 0
%(headers)s
math.randomseed(%(seed)d)
local function read(name, list)
  for line in io.lines(name) do list[#list + 1] = line end
end
"""
_IN_TURN: Final = """\
local function place(n)
  at = at %% n + 1
  return at
end
"""
_PICKED: Final = """\
local weights = {}
local function place(n)
  if #weights == 0 then
    local sum = 0
    for i = 1, n do
      sum = sum + i ^ -%(zipf_s)f
      weights[i] = sum
    end
  end
  local wanted, low, high = math.random() * weights[n], 1, n
  while low < high do
    local middle = math.floor((low + high) / 2)
    if weights[middle] < wanted then low = middle + 1 else high = middle end
  end
  return low
end
"""
_WRITTEN_OUT: Final = """\
function init()
  read("%(paths)s", paths)
  read("%(bodies)s", bodies)
  for _, path in ipairs(paths) do
    for _, body in ipairs(bodies) do
      requests[#requests + 1] = wrk.format("POST", path, nil, body)
    end
  end
end
function request()
  return requests[place(#requests)]
end
"""
_BATCHES: Final = """\
local lines = {}
function init()
  read("%(paths)s", paths)
  read("%(bodies)s", bodies)
end
function request()
  local before, after = bodies[1] .. "%(seed)d-", bodies[2]
  for i = 1, %(lines)d do
    number = number + 1
    lines[i] = before .. number .. after
  end
  return wrk.format("POST", paths[place(#paths)], nil, table.concat(lines, "\\n"))
end
"""
_DONE: Final = """\
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%%d,"seconds":%%f,"errors":%%d,"p50_ms":%%f,"p99_ms":%%f}\\n',
    summary.requests, summary.duration / 1e6, e.status + e.read + e.write + e.timeout + e.connect,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def write_script(load: Load, scratch: Path) -> Path:
    """Write the script of a load, and the files that it reads, into a directory."""
    paths, bodies, script = (scratch / name for name in ("paths", "bodies", "load.lua"))
    paths.write_text("\n".join(load.paths) + "\n")
    bodies.write_bytes(b"\n".join(load.bodies) + b"\n")
    headers = (f'wrk.headers["{name}"] = "{value}"' for name, value in load.headers.items())
    text = _HEAD + (_PICKED if load.zipf_s else _IN_TURN)
    text += (_BATCHES if load.lines else _WRITTEN_OUT) + _DONE
    script.write_text(
        text
        % {
            "headers": "\n".join(headers),
            "paths": paths,
            "bodies": bodies,
            "zipf_s": load.zipf_s,
            "first": load.first,
            "lines": load.lines,
            "seed": load.seed,
        }
    )
    return script


def command(wrk: str, load: Load, seconds: float, script: Path) -> list[str]:
    """Give the command of a round; wrk counts whole seconds only."""
    whole = max(1, round(seconds))
    return [
        *(wrk, "-t1", f"-c{load.connections}", f"-d{whole}s", f"--timeout={TIMEOUT_S}s"),
        *("-s", str(script), load.root),
    ]
