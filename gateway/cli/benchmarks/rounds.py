"""A run: probes with stores of their own, then all cases in interleaved rounds, then reports.

Decided here: the order of a run, that each round measures every case once, one after the other, so
that what else goes on here slows all alike, and that what cannot be measured on this machine is
noted and the rest goes on. Not decided here: what is measured (cases.py, probes.py) and what is
made of it (targets.py, tables.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.progress import Progress, TaskID

from gateway.cli.benchmarks import probes
from gateway.cli.benchmarks.cases import CASES, Bench
from gateway.cli.benchmarks.findings import Findings
from gateway.cli.benchmarks.plant import Missing

ROUND_S: Final = 2.0
ROUNDS_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: cases and probes by name, so many rounds of so many seconds."""

    cases: Sequence[str]
    probes: Sequence[str]
    rounds: int
    round_s: float

    @classmethod
    def make(cls, cases: Sequence[str], probes: Sequence[str], seconds: float) -> Plan:
        """Divide the seconds of measuring: rounds of two seconds, or three shorter ones."""
        each_s = seconds / max(1, len(cases))
        rounds = max(ROUNDS_MIN, int(each_s / ROUND_S))
        return cls(cases, probes, rounds, max(1.0, float(int(each_s / rounds))))

    @property
    def steps(self) -> int:
        """How many steps there are, for a bar: probes, rounds of cases and warming up."""
        return len(self.probes) + len(self.cases) * (self.rounds + 1)


async def measure(plan: Plan, bench: Bench, findings: Findings, progress: Progress) -> None:
    """Carry out a plan; figures are in `findings` as they come, also when this is cancelled."""
    task = progress.add_task("", total=plan.steps)
    last = [name for name in plan.probes if name == probes.REPORTS]
    first = [name for name in plan.probes if name not in last]
    for name in first:
        await _probe(name, bench, findings, progress, task)
    left = list(plan.cases)
    for number in range(plan.rounds + 1):
        for name in list(left):
            case = CASES[name]
            told = f"round {number} of {plan.rounds}, {name}" if number else f"warming up, {name}"
            progress.update(task, description=told)
            try:
                if not number:
                    await case.prove(bench)
                sample = await case.run(bench, plan.round_s if number else case.warm_up_s)
            except Missing as error:
                findings.missing[name] = error.message
                left.remove(name)
                progress.advance(task, plan.rounds - number)
            else:
                if number:
                    findings.add_sample(name, sample, case.each)
            progress.advance(task)
    for name in last:
        await _probe(name, bench, findings, progress, task)


async def _probe(
    name: str, bench: Bench, findings: Findings, progress: Progress, task: TaskID
) -> None:
    def tell(how_far: str) -> None:
        progress.update(task, description=f"{name}: {how_far}")

    tell("")
    await probes.make(name, bench, findings, tell)
    progress.advance(task)
