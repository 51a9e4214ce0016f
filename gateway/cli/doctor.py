"""`doctor`: look at all that a gateway needs before it is needed, one line each.

Decided here: how the findings look on a terminal and as JSON. Not decided here: what is looked at
(doctoring/). Source: INTERFACE 1, RELIABILITY 2.
"""

from __future__ import annotations

import asyncio
from typing import Final

import click
import msgspec

from gateway.cli.doctoring.store import check_store
from gateway.cli.doctoring.upstreams import check_upstreams
from gateway.cli.options import EXIT_FAILURE, configured, example
from gateway.config import Config
from gateway.store.findings import Finding, Verdict

_WORST: Final = (Verdict.FAIL, Verdict.WARN, Verdict.OK)


@click.command(epilog=example("doctor", "doctor --redis redis://127.0.0.1:6379 --format json"))
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@configured()
@click.pass_context
def doctor(ctx: click.Context, config: Config, form: str) -> None:
    """Check the store against redis.ack, clocks, the signing key and the upstreams.

    Each line is ok, warn or FAIL, and says what to do. Of a cluster every primary is looked at.
    Nothing is changed and nothing is posted: durability is tried with a key that is gone at once,
    upstreams with a connection. Exit code 0 says that nothing fails, 1 that something does.
    """
    findings = asyncio.run(_check(config))
    worst = next(each for each in _WORST if any(each is found.verdict for found in findings))
    if form == "json":
        checks = [
            {
                "check": each.check,
                "where": each.where,
                "verdict": each.verdict.value,
                "told": each.told,
                "mend": each.mend,
            }
            for each in findings
        ]
        click.echo(msgspec.json.encode({"checks": checks, "verdict": worst.value}))
    else:
        _show_table(findings)
    ctx.exit(EXIT_FAILURE if worst is Verdict.FAIL else 0)


async def _check(config: Config) -> list[Finding]:
    return [*await check_store(config), *await check_upstreams(config)]


def _show_table(findings: list[Finding]) -> None:
    rows = [(each.verdict.value, each.check, each.where) for each in findings]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, each in zip(rows, findings, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width]
        told = f"{each.told}; {each.mend}" if each.mend else each.told
        click.echo("  ".join([*cells, told]))
