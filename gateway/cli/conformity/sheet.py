"""The score sheet: on a terminal, as JSON, and as the table of a README.

Decided here: what of a run is shown, and its members as JSON, which are only ever added to. Not
decided here: the verdicts (suite.py). Source: INTERFACE 1.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from gateway.cli.conformity.checks import Mark, Result, Section
from gateway.cli.conformity.suite import SECTIONS, Verdict

PIPE_COLUMNS: Final = 160  # of a table that goes to no terminal
BEGIN: Final = "<!-- conformance: begin -->"
END: Final = "<!-- conformance: end -->"

Found = Sequence[tuple[Section, Sequence[Verdict]]]


def totals(found: Found) -> dict[str, int]:
    """Count the verdicts by result; every result is there."""
    counted = Counter(verdict.result for _, verdicts in found for verdict in verdicts)
    return {result.value: counted[result] for result in Result}


def as_json(found: Found, *, url: str, instance: str, when: str, left: Sequence[str]) -> bytes:
    """Write the sheet as JSON. `left` is what could not be given back."""
    sections = [
        {"name": section.name, "checks": [msgspec.to_builtins(verdict) for verdict in verdicts]}
        for section, verdicts in found
    ]
    sheet: dict[str, Any] = {
        "url": url,
        "instance": instance,
        "when": when,
        "sections": sections,
        "totals": totals(found),
        "left": list(left),
    }
    return msgspec.json.format(msgspec.json.encode(sheet), indent=2) + b"\n"


def show(found: Found) -> None:
    """Print a table per section, with what did not pass, and the totals."""
    console = Console(
        markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS
    )
    for section, verdicts in found:
        console.print(f"{section.name}: {_counts(totals([(section, verdicts)]))}")
        differing = [verdict for verdict in verdicts if verdict.result is Result.DIFFERS]
        if differing:
            console.print(_table(differing))
        for verdict in verdicts:
            if verdict.result is Result.NOT_OFFERED:
                console.print(f"  not offered: {verdict.title} ({verdict.why})")
        untried = Counter(verdict.why for verdict in verdicts if verdict.result is Result.NOT_TRIED)
        for why, number in untried.items():
            console.print(f"  {number} not tried: {why}")
    console.print(f"conformance: {_counts(totals(found))}")


def compatibility_table(results: Mapping[str, Result]) -> str:
    """Write the table of a README, Markdown, from each check's result by id; always the same for
    the same results.
    """
    rows = [
        "| section | what is checked | CMAPI | ours | this gateway |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for section in SECTIONS:
        ours = sum(check.mark is Mark.OURS for check in section.checks)
        passed = sum(results.get(check.id) is Result.PASS for check in section.checks)
        every = len(section.checks)
        score = f"all {every} pass" if passed == every else f"{passed} of {every} pass"
        rows.append(
            f"| {section.name} | {section.about} | {every - ours or ''} | {ours or ''} | {score} |"
        )
    return "\n".join(rows)


def _table(verdicts: Sequence[Verdict]) -> Table:
    """Show differences with both sides, and how sure the public record is of the expected one."""
    table = Table(show_lines=True)
    for title in ("differs", "mark", "expected", "found"):
        table.add_column(title, overflow="fold", ratio=None if title == "mark" else 1)
    for verdict in verdicts:
        told = (verdict.title, f"({verdict.source})", verdict.why)
        title = " ".join(each for each in told if each)
        mark = f"[{verdict.mark.value}]"
        table.add_row(title, mark, verdict.expected or "", verdict.found or "")
    return table


def _counts(counted: Mapping[str, int]) -> str:
    said = [f"{number} {result}" for result, number in counted.items() if number]
    return ", ".join(said) or "nothing checked"
