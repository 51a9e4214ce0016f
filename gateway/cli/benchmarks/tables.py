"""Findings as a table for people and as JSON for machines.

Decided here: how both look. `FORMAT` changes when a member of the JSON goes or means another thing.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from gateway.cli.benchmarks.cases import CASES
from gateway.cli.benchmarks.findings import Findings, Spread
from gateway.cli.benchmarks.rounds import Plan
from gateway.cli.benchmarks.targets import Target
from gateway.web.servers import HYPERCORN

FORMAT: Final = 1
BUSY: Final = 0.5  # load average from which on others are measured as well
# What --help says of the file.
SCHEMA: Final = """\
{"format": 1,
 "targets": [{"target", "what", "value": SPREAD|null, "sense": "≥"|"≤",
              "bound", "unit", "reached": true|false|null, "missing"}],
 "cases": {NAME: {"requests_per_s", "cpu_us", "store_us",
                  "p50_ms", "p99_ms": SPREAD}},
 "figures": {NAME: [NUMBER per round]},
 "run": {"server", "load_generator", "rounds", "round_s", "whole",
         "load_average", "cpus", "python"}}
SPREAD is {"median", "min", "max"}; cpu_us and store_us are
microseconds of the gateway's and the store's processes per access
request; value is a ratio where unit is ""."""


def report(
    targets: Sequence[Target], findings: Findings, plan: Plan, run: dict[str, Any]
) -> dict[str, Any]:
    """Give the JSON of a run; `run` is what else is said of it."""
    return {
        "format": FORMAT,
        "targets": [_target(each, findings) for each in targets],
        "cases": {name: found for name in CASES if (found := findings.case(name))},
        "figures": {
            name: [round(number, 6) for number in numbers]
            for name, numbers in findings.figures.items()
        },
        "run": {
            **run,
            "rounds": plan.rounds,
            "round_s": plan.round_s,
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
    }


def show(
    console: Console, targets: Sequence[Target], findings: Findings, plan: Plan, run: dict[str, Any]
) -> None:
    """Print what was measured."""
    if any(findings.case(name) for name in CASES):
        console.print(_cases(findings, plan))
    console.print(_targets(targets, findings))
    console.print(
        f"Load by {run['load_generator']}. One worker on {run['server']}, two features a request,"
        " 32 connections where nothing else is said. CPU is per access request."
    )
    if run["server"] != HYPERCORN:
        console.print("The targets are those on Hypercorn.")
    if run["load_average"] > BUSY:
        console.print(
            f"The machine was busy before (load {run['load_average']}): take care with all of it."
        )
    if not run["whole"]:
        console.print("It was broken off; this is what was measured until then.")


def _cases(findings: Findings, plan: Plan) -> Table:
    table = Table(title=f"{plan.rounds} rounds of {plan.round_s:g} s: medians, and the spread")
    table.add_column("case", overflow="fold")
    for title in ("req/s", "least … greatest", "CPU µs", "store µs", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right", no_wrap=True)
    for name in CASES:
        case = findings.case(name)
        if case:
            rate = case["requests_per_s"]
            table.add_row(
                name,
                f"{rate['median']:,.0f}",
                f"{rate['min']:,.0f} … {rate['max']:,.0f}",
                *(f"{case[kind]['median']:.0f}" for kind in ("cpu_us", "store_us")),
                *(f"{case[kind]['median']:.2f}" for kind in ("p50_ms", "p99_ms")),
            )
    return table


def _targets(targets: Sequence[Target], findings: Findings) -> Table:
    table = Table(title="Targets")
    table.add_column("", no_wrap=True)
    table.add_column("what", overflow="fold")
    for title in ("measured", "least … greatest", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for target in targets:
        found, reached = target.value(findings), target.reached(findings)
        if found is None:
            cells = ["", "", _bound(target), target.why_missing(findings)]
        else:
            numbers = (_number(target, found.median), f"{_number(target, found.least)} … ")
            cells = [
                f"{numbers[0]} {target.unit}".rstrip(),
                numbers[1] + _number(target, found.greatest),
                _bound(target),
                _verdict(target, found, reached=bool(reached)),
            ]
        table.add_row(target.number, target.what, *cells)
    return table


def _verdict(target: Target, found: Spread, *, reached: bool) -> str:
    word = "reached" if reached else "missed"
    return word if target.certain(found) else f"{word} (not in every round)"


def _bound(target: Target) -> str:
    return f"{target.sense} {target.bound:g} {target.unit}".rstrip()


def _number(target: Target, number: float) -> str:
    return f"{number:.0f}" if target.unit in ("bytes", "MB") else f"{number:.2f}"


def _target(target: Target, findings: Findings) -> dict[str, Any]:
    found: Spread | None = target.value(findings)
    return {
        "target": target.number,
        "what": target.what,
        "value": found.rounded(3) if found else None,
        "sense": target.sense,
        "bound": target.bound,
        "unit": target.unit,
        "reached": target.reached(findings),
        "missing": "" if found else target.why_missing(findings),
    }
