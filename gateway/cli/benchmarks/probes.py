"""The probes: what is measured once or some times, apart from the rounds, and under which names.

Decided here: the table of probes and the names of their figures (`probe.figure`). Each probe has
its own room; the servers it needs are the plant's, or its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.cli.benchmarks import forwarding, memory, reports, starts, storage
from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.findings import Findings

START: Final = "start"
STORAGE: Final = "storage"
FORWARDING: Final = "forwarding"
MEMORY: Final = "memory"
REPORTS: Final = "reports"

START_S: Final = f"{START}.seconds"
ID_BYTES: Final = f"{STORAGE}.id"
LINE_BYTES: Final = f"{STORAGE}.line"
HOST_BYTES: Final = f"{STORAGE}.host"
FORWARD_RATIO: Final = f"{FORWARDING}.ratio"
MEMORY_MB: Final = f"{MEMORY}.megabytes"
MEMORY_GROWTH: Final = f"{MEMORY}.growth"
BY_FEATURE_S: Final = f"{REPORTS}.feature"
BY_MONTH_LINE_S: Final = f"{REPORTS}.month,line"
BY_DAY_LINE_S: Final = f"{REPORTS}.day,line"

Tell = Callable[[str], None]  # how far it is
Add = Callable[[str, float], None]  # a figure of the probe, by its short name
Probe = Callable[[Bench, Add, Tell], Awaitable[None]]

# In the order in which they are made: those with stores of their own first, and `memory` before
# the rounds, since it also makes its gateway know the instances that are asked for most.
PROBES: Final[dict[str, Probe]] = {
    START: starts.probe,
    STORAGE: storage.probe,
    FORWARDING: forwarding.probe,
    MEMORY: memory.probe,
    REPORTS: reports.probe,
}


async def make(name: str, bench: Bench, findings: Findings, tell: Tell) -> None:
    """Make a probe; its figures are in `findings` as they come."""

    def add(figure: str, number: float) -> None:
        findings.add(f"{name}.{figure}", number)

    await PROBES[name](bench, add, tell)
