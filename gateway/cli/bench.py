"""`bench`: measure this machine side by side, in one run of interleaved rounds.

Decided here: which cases there are, how rounds are laid out, and what is made of them (medians, and
ratios to a POST that does nothing). Not decided here: what is sent (benchmarks/cases.py) and by
whom (benchmarks/load.py). No number is judged: a measurement is not a test. Source: INTERFACE 6.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import httpx
import msgspec
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gateway.cli.benchmarks import empty
from gateway.cli.benchmarks.cases import BATCH, INSTANCE, CaseFailed, Cases, drive_lane
from gateway.cli.benchmarks.client import Sample
from gateway.cli.benchmarks.load import Generator
from gateway.cli.benchmarks.processes import EMPTY, GATEWAY, Server, started
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.store.opening import EMBEDDED, Store
from gateway.wiring import open_store

ROUNDS: Final = 3
SECONDS_MAX: Final = 3_600
WARM_UP_S: Final = 1.0
BUSY: Final = 0.5  # load average from which on others are measured as well
SPARE: Final = 2.0  # how many times more signed bodies are made than the last round needed
SIGNED_PER_S_FIRST: Final = 6_000  # before any round has shown how many are needed

EMPTY_CASE: Final = "empty POST"
TOKEN_CASE: Final = "token"  # noqa: S105 - a name
SIGNED_CASE: Final = "signed ES256"
LANE_CASE: Final = f"lane, batches of {BATCH}"

Case = Callable[[float], Awaitable[Sample]]


@click.command(epilog=example("bench", "bench --seconds 60 --json bench.json"))
@click.option(
    "--seconds",
    type=click.IntRange(1, SECONDS_MAX),
    default=24,
    show_default=True,
    help="Of measuring in all; a round of a case is at least one second.",
)
@click.option("--json", "json_file", type=Path, metavar="FILE", help="Write the numbers there.")
@configured()
def bench(config: Config, seconds: int, json_file: Path | None) -> None:
    """Measure requests per second, CPU time and latency on loopback.

    One gateway process on an embedded store of its own, in a temporary directory; two features per
    request. Beside it, on the same server, a POST that does nothing: the ratios to it tell more
    than the rates, which are those of this machine. Load comes from wrk where it is installed.
    """
    if config.redis.url != EMBEDDED:
        raise InvalidInput("bench measures an embedded store of its own; leave --redis out")
    if json_file is not None and not json_file.parent.is_dir():
        raise InvalidInput(f"--json {json_file}: there is no directory {json_file.parent}")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        report = runner.run(_measure(config, Path(scratch), seconds))
    _show(report)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


async def _measure(config: Config, scratch: Path, seconds: int) -> dict[str, Any]:
    load_average = os.getloadavg()[0]
    config = msgspec.structs.replace(config, data_dir=scratch / "store")
    environ = {
        "GATEWAY_REDIS__URL": EMBEDDED,
        "GATEWAY_REDIS__ACK": config.redis.ack,
        "GATEWAY_SERVER__DRAIN_S": "0.1",
    }
    serve = (*GATEWAY, "--bind", "127.0.0.1:0", "--data-dir", str(config.data_dir))
    made = Cases.make()
    generator = Generator.find(scratch)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(config))
        await store.catalogues.put(made.catalogue())
        idle = await stack.enter_async_context(started(EMPTY, {}, scratch / "empty.log"))
        gateway = await stack.enter_async_context(started(serve, environ, scratch / "serve.log"))
        cases = _cases(made, generator, store, idle, gateway)
        await _prove(made, gateway)
        round_s = max(1.0, seconds / (ROUNDS * len(cases)))
        samples = await _rounds(cases, round_s)
    return _report(samples) | {
        "instance": INSTANCE,
        "load_generator": generator.name,
        "ack": config.redis.ack,
        "rounds": ROUNDS,
        "round_s": round(round_s, 2),
        "load_average": round(load_average, 2),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def _cases(
    made: Cases, generator: Generator, store: Store, idle: Server, gateway: Server
) -> dict[str, Case]:
    needed_per_s = float(SIGNED_PER_S_FIRST)

    async def empty_post(round_s: float) -> Sample:
        return await generator.run(made.empty(idle.url + empty.PATH), round_s, idle.pid)

    async def token(round_s: float) -> Sample:
        return await generator.run(made.token(gateway.url), round_s, gateway.pid)

    async def signed(round_s: float) -> Sample:
        nonlocal needed_per_s
        # Made before the clock starts; the generator sends no body twice, or the round is void.
        load = made.signed(gateway.url, int(needed_per_s * SPARE * (round_s + 1)))
        sample = await generator.run(load, round_s, gateway.pid)
        needed_per_s = sample.rate
        return sample

    async def lane(round_s: float) -> Sample:
        return await drive_lane(store, round_s)

    return {EMPTY_CASE: empty_post, TOKEN_CASE: token, SIGNED_CASE: signed, LANE_CASE: lane}


async def _prove(made: Cases, gateway: Server) -> None:
    """See that one request of each kind is granted, lest refusals be measured."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for load in (made.token(gateway.url), made.signed(gateway.url, 1)):
            answer = await client.post(load.url, headers=load.headers, content=load.bodies[0])
            if answer.status_code != 200 or answer.json()["statusList"]:
                raise CaseFailed(f"A request of the benchmark was not granted: {answer.text[:300]}")


async def _rounds(cases: dict[str, Case], round_s: float) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("warming up", total=(ROUNDS + 1) * len(cases))
        for number in range(ROUNDS + 1):
            for name, case in cases.items():
                progress.update(task, description=f"round {number}, {name}" if number else name)
                sample = await case(round_s if number else WARM_UP_S)
                if number:
                    samples[name].append(sample)
                progress.advance(task)
    return samples


def _report(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {
        name: {
            "requests_per_s": round(median(each.rate for each in rounds), 1),
            "cpu_us_per_request": round(median(each.cpu_us for each in rounds), 1),
            "p50_ms": round(median(each.p50_ms for each in rounds), 3),
            "p99_ms": round(median(each.p99_ms for each in rounds), 3),
            "rounds_requests_per_s": [round(each.rate, 1) for each in rounds],
        }
        for name, rounds in samples.items()
    }
    ratios, cpu_ratios = {}, {}
    base = cases[EMPTY_CASE]
    for name in (TOKEN_CASE, SIGNED_CASE):
        case, of = cases[name], f"{name} / {EMPTY_CASE}"
        ratios[of] = round(case["requests_per_s"] / base["requests_per_s"], 3)
        # What the rates would come to if the store and the load had processors of their own.
        cpu_ratios[of] = round(base["cpu_us_per_request"] / case["cpu_us_per_request"], 3)
    return {"cases": cases, "ratios": ratios, "cpu_ratios": cpu_ratios}


def _show(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['rounds']} rounds of {report['round_s']} s, medians")
    table.add_column("case", no_wrap=True)
    for title in ("req/s", "CPU µs", "p50 ms", "p99 ms", "of empty", "by CPU"):
        table.add_column(title, justify="right")
    for name, case in report["cases"].items():
        of = f"{name} / {EMPTY_CASE}"
        table.add_row(
            name,
            f"{case['requests_per_s']:,.0f}",
            f"{case['cpu_us_per_request']:.0f}",
            f"{case['p50_ms']:.2f}",
            f"{case['p99_ms']:.2f}",
            *(f"{r[of]:.2f}" if of in r else "" for r in (report["ratios"], report["cpu_ratios"])),
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Load by {report['load_generator']}; ack level {report['ack']}.")
    console.print(
        "CPU is per request and the gateway's, for the lane this process's; not the store's."
    )
    if report["load_average"] > BUSY:
        console.print(f"The machine was busy before (load {report['load_average']}): take care.")
