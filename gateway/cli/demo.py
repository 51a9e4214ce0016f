"""`demo`: the main job on one machine with nothing set up, and proof that nothing was lost.

Decided here: the order of events (set the scene, load, a kill at half time, drain, compare), and
what becomes of the directory. Not decided here: what is asked, shown and compared (demonstration/).
Source: INTERFACE 1, RELIABILITY 1 and 4 (row 1).
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from gateway.cli.demonstration.casting import Spoken, cast
from gateway.cli.demonstration.fleet import Fleet
from gateway.cli.demonstration.gateways import GatewayProcess
from gateway.cli.demonstration.licensespring import LICENSE_ID, PRODUCT
from gateway.cli.demonstration.progress import console, shown
from gateway.cli.demonstration.report import accounts, differences, table, totals, verdict
from gateway.cli.demonstration.scene import INSTANCE, PARENT, USER, Scene, open_scene
from gateway.cli.options import EXIT_FAILURE, configured, example
from gateway.config import Config
from gateway.core.errors import InvalidInput

SECONDS_MAX: Final = 3_600
CLIENTS_MAX: Final = 500  # each has a connection; the usual bound on open files is 1,024
SEED_MAX: Final = 2**32 - 1
LAST_STRETCH_S_MIN: Final = 0.5  # of load on the gateway that came back
KILLS: Final = 1
EXIT_TERMINATED: Final = 128 + signal.SIGTERM


def _spoken(_: click.Context, __: click.Parameter, text: str) -> list[Spoken]:
    """Read a list of protocols, each named once."""
    names = [name.strip() for name in text.split(",")]
    known = ", ".join(Spoken)
    if not set(names) <= set(Spoken) or len(set(names)) < len(names):
        raise click.BadParameter(f"{text!r} is no list of {known}, each at most once")
    return [Spoken(name) for name in names]


@click.command(
    epilog=example(
        "demo",
        "demo --seconds 30 --clients 200 --seed 7",
        "demo --protocols cmapi,licensespring",
    )
)
@click.option(
    "--seconds",
    type=click.IntRange(1, SECONDS_MAX),
    default=10,
    show_default=True,
    help="How long the fleet works.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, CLIENTS_MAX),
    default=50,
    show_default=True,
    help="How many hosts ask at once.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_MAX),
    help="The same seed asks the same; random by default.",
)
@click.option(
    "--protocols",
    default=Spoken.CMAPI.value,
    show_default=True,
    callback=_spoken,
    metavar="P,P",
    help="What the clients speak, in turn: cmapi, licensespring, or both.",
)
@click.option("--keep", is_flag=True, help="Leave both gateways running until Ctrl-C.")
@configured()
@click.pass_context
def demo(
    ctx: click.Context,
    config: Config,
    seconds: int,
    clients: int,
    seed: int | None,
    protocols: list[Spoken],
    keep: bool,
) -> int:
    """Run two gateways, a fleet of signing clients, faults and a kill; then compare all records.

    One gateway forwards its usage to the other. Clients retry under the same id after resets that
    are injected, and while the gateway, killed with SIGKILL at half time, is away. Those of
    LicenseSpring, of both versions of its floating server, count on the same lines as those of
    CMAPI. In the end the clients' journals, the gateway's ledger and the upstream's must agree to
    the unit: exit code 0 says that they do. Everything is in a temporary directory, which a failure
    leaves, or in --data-dir, which must be empty.
    """
    if ctx.params.get("config_file") is not None or config.redis.url != "embedded":
        raise InvalidInput(
            "`demo` sets up gateways of its own on embedded stores; leave --config and --redis out"
        )
    if clients < len(protocols):
        raise InvalidInput(f"--clients {clients} is too few for {len(protocols)} protocols")
    if seed is None:
        seed = secrets.randbelow(SEED_MAX + 1)
    given: Path | None = ctx.params.get("data_dir")
    directory = _temporary() if given is None else _empty(given)
    spent = False  # whether nobody will want to look into the directory
    try:
        found = asyncio.run(_perform(directory, seconds, clients, seed, protocols, keep=keep))
        spent = not found
    except (KeyboardInterrupt, SystemExit):
        spent = True
        raise
    finally:
        if spent and given is None and not keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            click.echo(f"everything is left in {directory}", err=True)
    return EXIT_FAILURE if found else 0


async def _perform(
    directory: Path, seconds: int, clients: int, seed: int, spoken: list[Spoken], *, keep: bool
) -> list[str]:
    """Set the scene, play, and tell the verdict; gives the differences.

    Ctrl-C and SIGTERM end it at any moment, with both gateways stopped.
    """
    with _terminable():
        floating = Spoken.LICENSESPRING in spoken
        who = f"clients of {' and '.join(spoken)}" if floating else "clients"
        click.echo(f"seed {seed}: {clients} {who}, {seconds} s")
        async with open_scene(directory, floating=floating) as scene:
            click.echo(f"gateway {scene.gateway.url}, its upstream {scene.parent.url}")
            fleet = Fleet(scene.gateway.address, cast(scene, spoken, seed, clients))
            found = await _play(scene, fleet, seconds)
            for line in verdict(found):
                click.echo(line)
            if keep:
                _tell_of(scene, directory, await scene.let_in(), floating=floating)
                await asyncio.Event().wait()
    return found


async def _play(scene: Scene, fleet: Fleet, seconds: int) -> list[str]:
    """Let the fleet work, with a kill at half time, and compare what everybody wrote down."""
    stop = asyncio.Event()
    began_s = time.monotonic()
    with shown(fleet.tally, seconds) as say:
        work = asyncio.create_task(fleet.work(stop))
        try:
            await asyncio.sleep(seconds / 2)
            say(f"gateway and store killed, back after {await _kill(scene.gateway):.1f} s")
            left_s = began_s + seconds - time.monotonic()
            await asyncio.sleep(max(left_s, LAST_STRETCH_S_MIN))
            stop.set()
            await work
        finally:
            work.cancel()
            await asyncio.wait([work])
    load_s = time.monotonic() - began_s
    # May take some seconds: the killed gateway's lease of the outbox has to lapse first.
    click.echo("every request is answered; waiting until all usage is forwarded")
    below, above = await scene.drained_books()
    units = fleet.units()
    rows = accounts(scene.lines, units, below, above)
    console().print(table(rows))
    click.echo(totals(fleet.tally, KILLS, load_s))
    return differences(rows, fleet.tally, fleet.oddities(), [below, above])


async def _kill(gateway: GatewayProcess) -> float:
    """Kill a gateway and start it again; gives how long it was away, in s."""
    began_s = time.monotonic()
    await gateway.kill()
    await gateway.start()
    return time.monotonic() - began_s


def _tell_of(scene: Scene, directory: Path, password: str, *, floating: bool) -> None:
    """Say where everything is, who may log in, and how it ends."""
    key = directory / "keys" / "token" / "private.pem"
    for name, instance, gateway in (
        ("gateway", INSTANCE, scene.gateway),
        ("upstream", PARENT, scene.parent),
    ):
        click.echo(f"{name}: {gateway.url}/api/1.0/instances/{instance}")
        click.echo(f"  its store: --data-dir {gateway.data_dir}")
    click.echo(f"pages: {scene.gateway.url}/ui/login?instance={INSTANCE}")
    click.echo(f"  user {USER}, password {password}")
    click.echo(f"a client's key: {key}")
    if floating:
        click.echo(f"LicenseSpring: {scene.gateway.url}, product {PRODUCT}, licence {LICENSE_ID}")
        click.echo(f"  its chain: {scene.chain_file}")
    click.echo("both run until Ctrl-C")


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="cmapi-gateway-demo-"))


def _empty(directory: Path) -> Path:
    """Make a directory, or take an empty one. Raises InvalidInput."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise InvalidInput(f"--data-dir {directory} is not empty; `demo` starts from nothing")
    except OSError as error:
        raise InvalidInput(f"--data-dir {directory} cannot be used: {error.strerror}") from None
    return directory.absolute()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the task as Ctrl-C does, in order, with an exit code of its own."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this runs in one
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    except asyncio.CancelledError:
        if terminated:
            raise SystemExit(EXIT_TERMINATED) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
