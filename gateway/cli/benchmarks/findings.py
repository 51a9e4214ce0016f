"""What was measured: figures by name, each a number per round, and what they come to.

Decided here: that a figure is the median of its rounds, told with the least and the greatest; that
a ratio is taken round by round, since what disturbs one round disturbs both of its sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from gateway.cli.benchmarks.loads import Sample

# Of a case: requests are access requests, however many of them an HTTP request carries.
RATE: Final = "requests_per_s"
CPU: Final = "cpu_us"
STORE: Final = "store_us"
P50: Final = "p50_ms"
P99: Final = "p99_ms"
PLACES: Final = {RATE: 1, CPU: 1, STORE: 1, P50: 3, P99: 3}


@dataclass(frozen=True, slots=True)
class Spread:
    """A number over several rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread | None:
        """Give the spread of some numbers; None of none."""
        return cls(median(numbers), min(numbers), max(numbers)) if numbers else None

    def rounded(self, places: int) -> dict[str, float]:
        """Give it as a JSON object."""
        named = {"median": self.median, "min": self.least, "max": self.greatest}
        return {name: round(number, places) for name, number in named.items()}


@dataclass
class Findings:
    """All figures so far, in rounds; why a case or probe has none is in `missing`."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, number: float) -> None:
        """Note a number of one round."""
        self.figures.setdefault(name, []).append(number)

    def add_sample(self, case: str, sample: Sample, each: int = 1) -> None:
        """Note a round of a case whose HTTP requests carry `each` access requests."""
        self.add(f"{case}.{RATE}", sample.rate * each)
        self.add(f"{case}.{CPU}", sample.cpu_us / each)
        self.add(f"{case}.{STORE}", sample.store_us / each)
        self.add(f"{case}.{P50}", sample.p50_ms)
        self.add(f"{case}.{P99}", sample.p99_ms)

    def spread(self, name: str, over: str = "") -> Spread | None:
        """Give a figure, or its ratio to another; None while either is missing."""
        numbers = self.figures.get(name, [])
        if over:
            pairs = zip(numbers, self.figures.get(over, []), strict=False)
            numbers = [number / base for number, base in pairs if base]
        return Spread.of(numbers)

    def case(self, name: str) -> dict[str, Any]:
        """Give all figures of a case as JSON objects; empty before its first round."""
        found = {kind: self.spread(f"{name}.{kind}") for kind in PLACES}
        return {kind: each.rounded(PLACES[kind]) for kind, each in found.items() if each}
