"""How long `serve` takes to be ready: embedded store, empty data directory.

Decided here: from the moment the process is asked for to its ready line, which it prints when it
answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.processes import serving, started

STARTS: Final = 5


async def probe(
    bench: Bench, add: Callable[[str, float], None], tell: Callable[[str], None]
) -> None:
    """Start and end a gateway some times."""
    scratch, server = bench.plant.scratch, bench.plant.server
    for number in range(STARTS):
        tell(f"start {number + 1} of {STARTS}")
        code = serving(scratch / f"start-{number}", "--server", server)
        began_s = time.perf_counter()
        async with started(code, {"GATEWAY_SERVER__DRAIN_S": "0"}, scratch / "start.log"):
            add("seconds", time.perf_counter() - began_s)
