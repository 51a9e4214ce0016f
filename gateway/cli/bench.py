"""`bench`: measure this machine side by side, and hold the figures against the targets.

Decided here: what is asked for, where its processes and files live, and that a run which is broken
off ends what it started and still tells what it found. Not decided here: what is measured, in which
order and against which bound (benchmarks/). No exit code judges a figure: a measurement is not a
test. Source: INTERFACE 6.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import structlog
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.findings import Findings
from gateway.cli.benchmarks.generator import Generator
from gateway.cli.benchmarks.plant import Plant
from gateway.cli.benchmarks.rounds import Plan, measure
from gateway.cli.benchmarks.scene import Scene
from gateway.cli.benchmarks.tables import SCHEMA, report, show
from gateway.cli.benchmarks.targets import NUMBERS, cases_of, chosen, probes_of
from gateway.cli.options import EXIT_INTERRUPTED, configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.store.opening import EMBEDDED
from gateway.web.servers import HYPERCORN, NAMES

SECONDS_MAX: Final = 36_000
SECONDS: Final = 130
WIDTH: Final = 110  # of tables that go into a file

_EPILOG: Final = (
    example("bench", "bench --seconds 300 --json bench.json", "bench --only R1,R7")
    + "\n\n\b\nThe file of --json:\n"
    + "\n".join(f"  {line}" for line in SCHEMA.splitlines())
)


@click.command(epilog=_EPILOG)
@click.option(
    "--server",
    type=click.Choice(NAMES),
    default=HYPERCORN,
    show_default=True,
    help="What the gateway and the empty POST run on.",
)
@click.option(
    "--seconds",
    type=click.IntRange(1, SECONDS_MAX),
    default=SECONDS,
    show_default=True,
    help="Of rounds in all; a round of a case is at least one second.",
)
@click.option("--only", metavar="R1,R2", help=f"Targets to measure: {NUMBERS[0]} to {NUMBERS[-1]}.")
@click.option("--json", "json_file", type=Path, metavar="FILE", help="Write the numbers there.")
@configured()
@click.pass_context
def bench(
    ctx: click.Context,
    config: Config,
    server: str,
    seconds: int,
    only: str | None,
    json_file: Path | None,
) -> int:
    """Measure on loopback, in interleaved rounds, and tell each ratio beside its target.

    Everything is a real process: gateways of one worker on uvloop, each with an embedded store
    whose file is synced every second, and an empty Starlette POST on the same server. Two features
    per request, 32 connections. Load comes from wrk where it is installed, else from a bundled
    client. Files are in a temporary directory, under --data-dir where that is given. Some minutes;
    Ctrl-C ends everything and shows what was measured.
    """
    if config.redis.url != EMBEDDED or ctx.params.get("config_file") is not None:
        raise InvalidInput(
            "`bench` sets up gateways of its own on embedded stores; leave --config and --redis out"
        )
    if json_file is not None and not json_file.parent.is_dir():
        raise InvalidInput(f"--json {json_file}: there is no directory {json_file.parent}")
    targets = chosen(only, server)
    _prepare()
    plan = Plan.make(cases_of(targets), probes_of(targets), seconds)
    findings = Findings()
    run: dict[str, Any] = {
        "server": server,
        "load_generator": "",
        "load_average": round(os.getloadavg()[0], 2),
        "whole": False,
    }
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=_parent(ctx)) as scratch:
            generator = Generator.find(Path(scratch))
            run["load_generator"] = generator.name
            plant = Plant(Scene(), Path(scratch), server)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_measure(plan, plant, generator, findings))
        run["whole"] = True
    except KeyboardInterrupt:
        pass
    finally:
        if findings.figures:
            show(_console(), targets, findings, plan, run)
            if json_file is not None:
                told = msgspec.json.encode(report(targets, findings, plan, run))
                json_file.write_bytes(msgspec.json.format(told, indent=2) + b"\n")
    return 0 if run["whole"] else EXIT_INTERRUPTED


async def _measure(plan: Plan, plant: Plant, generator: Generator, findings: Findings) -> None:
    bar = Progress(
        *(BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")),
        console=Console(stderr=True),
        transient=True,
    )
    with bar as progress:
        async with plant:
            await measure(plan, Bench(plant, generator), findings, progress)


def _prepare() -> None:
    """Be silent about what a store or a forwarder in this process logs; end on SIGTERM as on
    Ctrl-C.
    """
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _console() -> Console:
    """Give where tables go: as wide as the terminal, or wide enough where there is none."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=WIDTH)


def _parent(ctx: click.Context) -> Path | None:
    """Give the directory for files of a run; None is that of the system."""
    given: Path | None = ctx.params.get("data_dir")
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
    return given
