"""What a gateway keeps in memory after a million requests over a hundred thousand instances.

Decided here: that the requests come in batches of twenty, so that a million of them is a matter
of a minute or two; half of them to one instance after the other, so that whatever is kept per
instance is filled, and half as unevenly as the rounds ask (scene.py); and that memory is what the
kernel says the process has in use, looked at after each step: the greatest of the last quarter is
told, and set against the greatest of the first half. Ends early, and says at how many, on a machine
on which it would take too long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.loads import CONNECTIONS
from gateway.cli.benchmarks.plant import MANY
from gateway.cli.benchmarks.processes import resident_bytes
from gateway.cli.benchmarks.scene import numbered

REQUESTS: Final = 1_000_000
LINES: Final = 20
STEP_S: Final = 4.0
SECONDS_MAX: Final = 240.0
MB: Final = 1_000_000


async def probe(
    bench: Bench, add: Callable[[str, float], None], tell: Callable[[str], None]
) -> None:
    """Fill the gateway of many instances, and look at its memory."""
    plant = bench.plant
    tell(f"providing {plant.instances:,} instances")
    place = await plant.place(MANY)
    names = numbered(plant.instances)
    done = first = 0
    looks: list[tuple[int, int]] = []
    end_s = time.monotonic() + SECONDS_MAX
    while done < REQUESTS and time.monotonic() < end_s:
        tell(f"{done:,} requests to {plant.instances:,} instances")
        zipf = len(looks) % 2 == 1
        load = plant.scene.batches(place.url, names, LINES, CONNECTIONS, zipf=zipf)
        load = msgspec.structs.replace(load, first=first)
        sample = await bench.generator.run(load, STEP_S, place.pid)
        done += sample.requests * LINES
        first += 0 if zipf else sample.requests
        looks.append((done, await asyncio.to_thread(resident_bytes, place.pid)))
        add("looks_requests", done)
        add("looks_megabytes", looks[-1][1] / MB)
    # The greatest of several looks, since what a batch needs while it is served comes and goes.
    half = max(size for at, size in looks if at <= done / 2 or at == looks[0][0])
    end = max(size for at, size in looks if at >= done * 3 / 4)
    add("requests", done)
    add("megabytes", end / MB)
    add("growth", end / half)
