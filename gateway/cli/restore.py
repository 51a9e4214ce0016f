"""`restore`: put a backup into a store, unless that knows more.

Decided here: the arguments, that what would be forgotten is shown and refused without --force, and
what is said at the end. Not decided here: in which order it is done (service/restoring.py).
Source: DESIGN 4.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import click

from gateway.cli.backing.files import opened_backup
from gateway.cli.backing.shown import Teller, show_losses
from gateway.cli.backup import own_files
from gateway.cli.forwarding.desk import check_signature, operator, signed
from gateway.cli.names import Named
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.core.backups import Frame
from gateway.core.moments import iso
from gateway.protocols.backup_file import read_frames
from gateway.service.backup import contents
from gateway.service.restoring import Refused, Restore
from gateway.store.outbox import RedisOutbox
from gateway.store.own import Own, describe
from gateway.upstream.leases import Leases
from gateway.wiring_store import open_store

_EPOCH_BITS: Final = 52  # a whole number that every reader of a ledger takes


@click.command(
    cls=Named,
    epilog=example(
        "restore demo.gwb --dry-run",
        "restore demo.gwb --redis redis://10.0.0.2:6379",
        "restore demo.gwb --force --reason 'the store was lost at noon'",
    ),
)
@click.argument("file", type=Path)
@click.argument("instances", nargs=-1, metavar="[INSTANCE]...")
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten; 1 if refused.")
@click.option(
    "--outbox",
    type=click.Choice(["park", "send"]),
    default="park",
    show_default=True,
    help="What waited to go upstream: set aside for a person, or send. Send only if nothing was"
    " forwarded since the backup.",
)
@click.option("--force", is_flag=True, help="Also where the store knows more than the backup.")
@signed
@configured()
@click.pass_context
def restore(
    ctx: click.Context,
    config: Config,
    file: Path,
    instances: tuple[str, ...],
    dry_run: bool,
    outbox: str,
    force: bool,
    reason: str,
    by: str | None,
) -> None:
    """Put a backup, or some INSTANCEs of it, into the store. Stop gateways and forwarders first.

    Refused, with nothing changed, where the store has anything that FILE has not: requests, units
    forwarded, decisions, catalogues. What would be forgotten is listed. --force --reason TEXT does
    it all the same, on record. Instances that FILE lacks are left alone.

    While it is restored an instance is closed: it answers as one that does not exist. Cut off, run
    the same again. Then cmapi-gateway verify --deep, and start the gateways.
    """
    who, why = _signature(by, reason, force=force)
    with opened_backup(file) as opened:
        try:
            refused = asyncio.run(
                _restore(config, opened, instances, outbox == "send", dry_run, force, (who, why))
            )
        except KeyboardInterrupt:
            click.echo(
                "cut off: run the same again; what is not done is as it was, or closed", err=True
            )
            raise
    ctx.exit(1 if refused else 0)


async def _restore(
    config: Config,
    file: BinaryIO,
    instances: tuple[str, ...],
    send: bool,
    dry_run: bool,
    force: bool,
    signature: tuple[str, str],
) -> bool:
    def frames() -> Iterator[Frame]:
        file.seek(0)
        return read_frames(file)

    contents(frames())  # so that a bad file is told before any store is opened
    async with open_store(config) as store:
        files = own_files(config, store)
        task = Restore(store, frames, instances, send, tell=Teller().tell, files=files)
        losses = await task.look()
        why_not = losses.against_sending if send else ""
        refused = bool(losses.of or losses.own) and not force
        if dry_run or refused or why_not:
            show_losses(losses)
            if why_not and dry_run:
                click.echo(why_not)
            if not dry_run:
                how = why_not or "--force --reason TEXT does it"
                raise Refused(f"Refused, and nothing was changed: {how}")
            return refused or bool(why_not)
        outbox = RedisOutbox(store.topology, store.scripts, store.partitions)
        leases = Leases(outbox, time.monotonic, asyncio.sleep)
        epoch = secrets.randbits(_EPOCH_BITS) | 1
        ids = await task.run(leases, losses, epoch, *signature)
        left_out = Own(store, task.files).without_place(losses.header.meta)
    click.echo(
        f"restored the backup of {iso(losses.header.at_ms)}: {len(losses.instances)} instances,"
        f" {ids} idempotency ids"
    )
    if task.parked:
        click.echo(
            f"{task.parked} batches that waited to go upstream are set aside: cmapi-gateway"
            " forward list"
        )
    for path in task.kept:
        click.echo(f"what the backup has of it took its place; before it was {path}")
    for name in left_out:
        click.echo(f"left out, for here the configuration names such files: {describe(name)}")
    click.echo("next: cmapi-gateway verify --deep, then start the gateways")
    return False


def _signature(by: str | None, reason: str, *, force: bool) -> tuple[str, str]:
    if force or by is not None or reason:
        return check_signature(by, reason)
    return operator(), "restored over a store that knew nothing more"
