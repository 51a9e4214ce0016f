"""The targets: which figures are held against which bound, as a table.

Decided here: for each of R1 to R12 its figures, bound and sense. A ratio is of figures of one run,
taken round by round. No bound is a test's: a machine that is busy with other things misses them
all. Not decided here: how figures come about (cases.py, probes.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.cli.benchmarks import cases, probes
from gateway.cli.benchmarks.cases import CASES
from gateway.cli.benchmarks.findings import P99, RATE, Findings, Spread
from gateway.cli.benchmarks.probes import PROBES
from gateway.core.errors import InvalidInput
from gateway.web.servers import HYPERCORN

AT_LEAST: Final = "≥"
AT_MOST: Final = "≤"
GRANIAN_TARGET: Final = "R5"  # compares two servers, so the others must run on the first of them


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, or the ratio of two, and what it shall be. `unit` is "" for a ratio."""

    number: str
    what: str
    figure: str
    over: str
    sense: str
    bound: float
    unit: str = ""

    def value(self, findings: Findings) -> Spread | None:
        """Give what was measured so far."""
        return findings.spread(self.figure, self.over)

    def reached(self, findings: Findings) -> bool | None:
        """Say whether the median is within the bound; None while there is none."""
        found = self.value(findings)
        return None if found is None else self._within(found.median)

    def certain(self, found: Spread) -> bool:
        """Say whether all rounds were on the same side of the bound."""
        return self._within(found.least) == self._within(found.greatest)

    def _within(self, number: float) -> bool:
        return number >= self.bound if self.sense == AT_LEAST else number <= self.bound

    @property
    def sources(self) -> list[str]:
        """The cases and probes that its figures come from."""
        return [figure.partition(".")[0] for figure in (self.figure, self.over) if figure]

    def why_missing(self, findings: Findings) -> str:
        """Say why it has no value."""
        told = (findings.missing.get(source) for source in self.sources)
        return next(filter(None, told), "not measured")


def _rates(number: str, what: str, case: str, over: str, bound: float) -> Target:
    return Target(number, what, f"{case}.{RATE}", f"{over}.{RATE}", AT_LEAST, bound)


def _probed(number: str, what: str, figure: str, bound: float, unit: str = "") -> Target:
    return Target(number, what, figure, "", AT_MOST, bound, unit)


TARGETS: Final = (
    _rates("R1", "token ÷ empty POST", cases.TOKEN, cases.EMPTY_POST, 0.80),
    _rates("R1", "token ÷ empty POST, our connections", cases.TOKEN, cases.EMPTY_OURS, 0.80),
    _rates("R2", "signed ES256 ÷ empty POST", cases.ES256, cases.EMPTY_POST, 0.66),
    _rates("R2", "ES256 ÷ empty POST, our connections", cases.ES256, cases.EMPTY_OURS, 0.66),
    _rates("R3", "batch of 1,000 ÷ token, in access requests", cases.BATCH, cases.TOKEN, 10),
    _rates("R4", "batch of 1,000 ÷ script alone", cases.BATCH, cases.SCRIPT, 0.70),
    _rates(GRANIAN_TARGET, "token on granian ÷ on Hypercorn", cases.ON_GRANIAN, cases.TOKEN, 2.5),
    _rates("R6", "100,000 instances ÷ 10 instances", cases.THOUSANDS, cases.FEW, 0.85),
    Target(
        "R7",
        "p99 ÷ that of empty POST, 8 connections",
        f"{cases.TOKEN_FEW}.{P99}",
        f"{cases.EMPTY_FEW}.{P99}",
        AT_MOST,
        2.5,
    ),
    _rates("R8", "ack local ÷ written, 64 connections", cases.ON_DISK, cases.WRITTEN, 0.60),
    _probed("R9", "store: a remembered idempotency id", probes.ID_BYTES, 300, "bytes"),
    _probed("R9", "store: an idle line", probes.LINE_BYTES, 400, "bytes"),
    _probed("R9", "store: a holding host", probes.HOST_BYTES, 400, "bytes"),
    _probed("R10", "gateway memory after 1,000,000 requests", probes.MEMORY_MB, 200, "MB"),
    _probed("R10", "that ÷ memory in the first half (flat)", probes.MEMORY_GROWTH, 1.05),
    _probed("R11", "report: a year × 1,000 lines, by feature", probes.BY_FEATURE_S, 1, "s"),
    _probed("R11", "report: the same by month and line", probes.BY_MONTH_LINE_S, 1, "s"),
    _probed("R11", "report: the same by day and line", probes.BY_DAY_LINE_S, 1, "s"),
    _probed("R11", "forwarding: 100,000 requests ÷ 1,000, CPU", probes.FORWARD_RATIO, 2),
    _probed("R12", "start of serve, empty data dir", probes.START_S, 2, "s"),
)
NUMBERS: Final = tuple(dict.fromkeys(target.number for target in TARGETS))


def chosen(text: str | None, server: str) -> list[Target]:
    """Read a list of numbers such as `R1,R7`; None: all that this server is measured by.

    Raises InvalidInput.
    """
    numbers = NUMBERS if text is None else [each.strip().upper() for each in text.split(",")]
    unknown = [each for each in numbers if each not in NUMBERS]
    if unknown:
        raise InvalidInput(f"--only: there is no {unknown[0]}; there are {', '.join(NUMBERS)}")
    if server != HYPERCORN:
        if text is not None and GRANIAN_TARGET in numbers:
            raise InvalidInput(f"{GRANIAN_TARGET} compares both servers; leave --server out")
        numbers = [each for each in numbers if each != GRANIAN_TARGET]
    return [target for target in TARGETS if target.number in numbers]


def cases_of(targets: Iterable[Target]) -> list[str]:
    """Name the cases that targets need, in the order of their table; EdDSA goes with ES256."""
    needed = {source for target in targets for source in target.sources}
    if cases.ES256 in needed:
        needed.add(cases.EDDSA)
    return [name for name in CASES if name in needed]


def probes_of(targets: Iterable[Target]) -> list[str]:
    """Name the probes that targets need, in the order of their table."""
    needed = {source for target in targets for source in target.sources}
    return [name for name in PROBES if name in needed]
