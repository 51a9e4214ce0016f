"""`backup`: all that a store knows, or some instances of it, in one file.

Decided here: the arguments and what is said at the end. Not decided here: what is read in which
order (service/backup.py), how the file is written (backing/files.py). Source: DESIGN 4.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final

import click

from gateway.cli.backing.files import opened_backup, streamed, written_whole
from gateway.cli.backing.shown import Teller, show_contents
from gateway.cli.names import Named
from gateway.cli.options import configured, example
from gateway.config import Config
from gateway.core.backups import Totals
from gateway.core.errors import InvalidInput
from gateway.protocols.backup_file import Writer, read_frames
from gateway.service.backup import Backup, contents
from gateway.service.server import distribution_version
from gateway.store.opening import Store
from gateway.store.own import FILES, LICENSESPRING, SIGNING_KEY
from gateway.wiring_store import open_store

STDOUT: Final = Path("-")


@click.command(
    cls=Named,
    epilog=example(
        "backup --out /backups/$(date +%F).gwb --redis redis://10.0.0.1:6379",
        "backup --out demo.gwb DEMO00000001",
        "backup --out - | ssh vault 'umask 077; cat > nightly.gwb'",
        "backup --list demo.gwb",
    ),
)
@click.argument("instances", nargs=-1, metavar="[INSTANCE]...")
@click.option("--out", type=Path, metavar="FILE", help="Where to write it; -: stdout.")
@click.option("--list", "listed", type=Path, metavar="FILE", help="Show what is in FILE instead.")
@configured()
def backup(
    config: Config, instances: tuple[str, ...], out: Path | None, listed: Path | None
) -> None:
    """Write all that the store knows, or some INSTANCEs of it, to one file.

    Gateways may run meanwhile. Each instance is read in one step, for which its server waits:
    a few ms, some 60 ms with 30,000 hosts. It can be restored to any kind and version of store.

    FILE HOLDS SECRETS: the gateway's own keys, those of its data dir too, and password hashes. It
    is readable by its owner only, and replaced when the new one is whole. It does not hold
    configuration, key files that it names, or the spool.
    """
    if (out is None) is (listed is None) or (listed and instances):
        raise InvalidInput("Say either --out FILE, with or without instances, or --list FILE")
    if listed is not None:
        with opened_backup(listed) as file:
            show_contents(*contents(read_frames(file)))
    elif out == STDOUT:
        _write(config, instances, "stdout", streamed(sys.stdout.buffer))
    elif out is not None:
        _write(config, instances, str(out), written_whole(out))


def _write(
    config: Config,
    instances: tuple[str, ...],
    name: str,
    opened: AbstractContextManager[BinaryIO],
) -> None:
    with opened as file:
        totals, size, unsure = asyncio.run(_back_up(config, file, instances))
    click.echo(
        f"{name}: {totals.instances} instances, {totals.ids} idempotency ids,"
        f" {size} bytes; it holds secrets",
        err=name == "stdout",
    )
    if unsure:
        click.echo(
            f"{unsure} idempotency ids of an earlier release are not in it: their requests,"
            " sent again after a restore, would count once more. Back up again after"
            " dedupe.retention",
            err=True,
        )


async def _back_up(
    config: Config, file: BinaryIO, instances: tuple[str, ...]
) -> tuple[Totals, int, int]:
    # To read nothing need be durable, so a store weaker than `ack` will do.
    async with open_store(config, allow_weaker=True) as store:
        files = own_files(config, store)
        making = Backup(store, distribution_version(), files, Teller().tell)
        writer = Writer()
        size = file.write(writer.begin())
        async for frame in making.frames(instances):
            size += file.write(writer.frame(frame))
        size += file.write(writer.end())
    return writer.totals, size, making.unsure


def own_files(config: Config, store: Store) -> dict[str, Path]:
    """Give the files that the gateway makes for itself: none beside a store of its own, and none
    in the place of those that the configuration names.
    """
    if store.embedded is None:
        return {}
    named = {name for name in LICENSESPRING if config.licensespring.key_file}
    named |= {SIGNING_KEY} if config.signing.key_file else set()
    return {name: config.data_dir / file for name, file in FILES.items() if name not in named}
