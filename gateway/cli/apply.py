"""`apply`: bring the instances of the store to what a provisioning file declares.

Decided here: in which order catalogues are written, and that an upstream with usage waiting for it
is not detached. Not decided here: what a file may say and what a change is (core/provisioning.py).
Source: INTERFACE 1 and 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace

from gateway.cli.options import configured, example, read_bounded
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.keys import KEY_BYTES_MAX
from gateway.core.model import Catalogue
from gateway.core.provisioning import Declared, difference, next_catalogue, read_provisioning
from gateway.store.catalogues import CatalogueConflict, Catalogues
from gateway.store.keys import META
from gateway.store.opening import Store
from gateway.wiring import open_store

FILE_BYTES_MAX: Final = 2**24
WRITE_TRIES_MAX: Final = 5
LISTED_MAX: Final = 10  # lines named in one problem


@click.command(epilog=example("apply demo.toml --dry-run", "apply demo.toml"))
@click.argument("file", type=Path, metavar="FILE.toml")
@click.option("--dry-run", is_flag=True, help="Show the difference, write nothing.")
@click.option("--discard", metavar="NAME", help="Give up what waits for this upstream.")
@configured()
def apply(config: Config, file: Path, dry_run: bool, discard: str | None) -> None:
    """Validate a provisioning file, show what it changes, and write that."""
    if discard is not None:
        raise InvalidInput(
            "--discard is not built yet; forward what waits for the upstream, then apply again"
        )
    try:
        text = read_bounded(file, "The provisioning file", FILE_BYTES_MAX).decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"The provisioning file {file} is not UTF-8") from None
    declared = read_provisioning(text, lambda name: _read_key(file.parent / name))
    asyncio.run(_apply(config, declared, dry_run=dry_run))


async def current_catalogue(catalogues: Catalogues, instance: str) -> Catalogue:
    """Read the catalogue in force; version 0 when there is no such instance."""
    index = await catalogues.read(instance)
    return Catalogue(id=instance) if index is None else index.catalogue


async def rewrite(
    catalogues: Catalogues, instance: str, edit: Callable[[Catalogue], Catalogue]
) -> Catalogue:
    """Write what `edit` makes of a catalogue, again if somebody else wrote meanwhile.

    Writes nothing when `edit` changes nothing. Raises what `edit` raises, and CatalogueConflict
    when WRITE_TRIES_MAX writes were overtaken; a retry helps then.
    """
    tries = 0
    while True:
        current = await current_catalogue(catalogues, instance)
        new = edit(current)
        if new == current:
            return current
        tries += 1
        try:
            return await catalogues.put(new)
        except CatalogueConflict:
            if tries == WRITE_TRIES_MAX:
                raise


async def _apply(config: Config, declared: list[Declared], *, dry_run: bool) -> None:
    async with open_store(config) as store:
        edits = await _edits(store.catalogues, declared)
        told = await _judged(store, edits)
        for line in told:
            click.echo(line)
        if dry_run:
            click.echo("dry run: nothing was written" if told else "nothing to change")
            return
        for instance, edit in edits.items():
            before = await current_catalogue(store.catalogues, instance)
            written = await rewrite(store.catalogues, instance, edit)
            if written.version != before.version:
                click.echo(f"instance {instance} is at version {written.version}")
        await _settle_default(store, declared)
        if not told:
            click.echo("nothing to change")


Edits = dict[str, Callable[[Catalogue], Catalogue]]


async def _edits(catalogues: Catalogues, declared: list[Declared]) -> Edits:
    """Say what is to be done to which instance, in order: the former default first, the new one
    last.

    Should this end in the middle, `~` still means the former one, and no gateway trusts its memory
    of that any more.
    """
    edits: Edits = {}
    former = await catalogues.default()
    named = {each.id for each in declared}
    if former is not None and former not in named and any(each.default for each in declared):
        edits[former] = partial(replace, default=False)
    for each in sorted(declared, key=lambda each: each.default):
        edits[each.id] = partial(_merged, each)
    return edits


def _merged(declared: Declared, current: Catalogue) -> Catalogue:
    return next_catalogue(current, declared)


async def _judged(store: Store, edits: Edits) -> list[str]:
    """Put all changes in words. Raises InvalidInput with all problems; nothing is written."""
    told: list[str] = []
    problems: list[str] = []
    for instance, edit in edits.items():
        current = await current_catalogue(store.catalogues, instance)
        try:
            new = edit(current)
        except InvalidInput as error:
            problems += error.problems
            continue
        problems += await _detached(store, current, new)
        told += difference(current, new)
    if problems:
        raise InvalidInput(*problems)
    return told


async def _detached(store: Store, current: Catalogue, new: Catalogue) -> list[str]:
    """Name the upstreams that would be detached while usage waits for them."""
    kept = {upstream.name for upstream in new.upstreams}
    lines = [line.id for line in current.lines if line.model.metered]
    problems = []
    for name in sorted({upstream.name for upstream in current.upstreams} - kept):
        waiting = [line for line in lines if await _waits(store, current.id, line, name)]
        if waiting:
            problems.append(
                f"instance {current.id}: upstream {name} cannot be detached, usage of"
                f" {_listed(waiting)} waits for it; forward it first"
            )
    return problems


async def _waits(store: Store, instance: str, line: str, upstream: str) -> bool:
    fields = [f"open|{line}|{upstream}", f"sealed|{line}|{upstream}"]
    values = await store.client.hmget(store.catalogues.keys(instance).ledger, fields)
    return any(int(value or 0) for value in values)


def _listed(lines: list[str]) -> str:
    more = f" and {len(lines) - LISTED_MAX} more" if len(lines) > LISTED_MAX else ""
    return f"line {', '.join(lines[:LISTED_MAX])}{more}"


async def _settle_default(store: Store, declared: Iterable[Declared]) -> None:
    """Let `~` mean what the file says, also when an earlier run ended before it came to that."""
    found = await store.client.hget(META, "default")
    for each in declared:
        if each.default and found != each.id.encode():
            await store.client.hset(META, "default", each.id)
        elif not each.default and found == each.id.encode():
            await store.client.hdel(META, "default")


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(KEY_BYTES_MAX + 1)
