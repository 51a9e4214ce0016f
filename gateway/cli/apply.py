"""`apply`: bring the instances of the store to what a provisioning file declares.

Decided here: in which order catalogues are written, and that an upstream with usage waiting for it
is detached only when --discard gives that up. Not decided here: what a file may say and what a
change is (core/provisioning.py), what waits (store/asides.py).
Source: INTERFACE 1 and 3.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from msgspec.structs import replace

from gateway.cli.forwarding.desk import operator
from gateway.cli.names import Named
from gateway.cli.options import configured, example, read_bounded
from gateway.config import Config
from gateway.core.decisions import Decision
from gateway.core.errors import InvalidInput
from gateway.core.key_uploads import without_lapsed
from gateway.core.keys import KEY_BYTES_MAX
from gateway.core.model import Catalogue
from gateway.core.provisioning import Declared, difference, next_catalogue, read_provisioning
from gateway.core.provisioning_change import not_in_force
from gateway.core.provisioning_text import with_license_keys
from gateway.service.decisions import Action
from gateway.store.asides import Waiting
from gateway.store.catalogues import Catalogues
from gateway.store.durable import answered
from gateway.store.keys import META
from gateway.store.opening import Store
from gateway.store.rewriting import current_catalogue, rewrite
from gateway.wiring_forwarding import asides_of
from gateway.wiring_store import open_store

FILE_BYTES_MAX: Final = 2**24
LISTED_MAX: Final = 10  # lines named in one problem
NAME_SHOWN_MAX: Final = 64  # characters of a wrong name that are repeated


@click.command(cls=Named, epilog=example("apply demo.toml --dry-run", "apply demo.toml"))
@click.argument("file", type=Path, metavar="FILE.toml")
@click.option("--dry-run", is_flag=True, help="Show the difference, write nothing.")
@click.option(
    "--discard",
    multiple=True,
    metavar="NAME",
    help="Give up what waits for this upstream, which the file detaches; may be repeated.",
)
@configured()
def apply(config: Config, file: Path, dry_run: bool, discard: tuple[str, ...]) -> None:
    """Validate a provisioning file, show what it changes, and write that.

    An upstream is not detached while usage waits for it, unless --discard names it: that usage is
    then counted as dead, and the record tells who gave it up.
    """
    try:
        text = read_bounded(file, "The provisioning file", FILE_BYTES_MAX).decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"The provisioning file {file} is not UTF-8") from None
    declared = read_provisioning(text, lambda name: _read_key(file.parent / name))
    asyncio.run(_apply(config, declared, frozenset(discard), dry_run=dry_run))


async def _apply(
    config: Config, declared: list[Declared], discarded: Collection[str], *, dry_run: bool
) -> None:
    who = operator()
    discards = {
        name: Decision(who, Action.DISCARD, "detached with --discard", name) for name in discarded
    }
    async with open_store(config) as store:
        edits = await _edits(store.catalogues, declared)
        told = await _judged(store, edits, discarded)
        kept = [await _kept(store, each) for each in declared]
        for line in (*told, *(line for lines in kept for line in lines)):
            click.echo(line)
        if dry_run:
            click.echo("dry run: nothing was written" if told else "nothing to change")
            return
        for instance, edit in edits.items():
            before = await current_catalogue(store.catalogues, instance)
            written = await rewrite(store.catalogues, instance, edit, discards)
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
    # A key that has run out only takes the place of another.
    lasting = without_lapsed(current, int(time.time() * 1000))
    return next_catalogue(lasting, with_license_keys(declared, current))


async def _judged(store: Store, edits: Edits, discarded: Collection[str]) -> list[str]:
    """Put all changes in words. Raises InvalidInput with all problems; nothing is written."""
    told: list[str] = []
    problems: list[str] = []
    detached: set[str] = set()
    for instance, edit in edits.items():
        current = await current_catalogue(store.catalogues, instance)
        try:
            new = edit(current)
        except InvalidInput as error:
            problems += error.problems
            continue
        told += difference(current, new)
        kept = {upstream.name for upstream in new.upstreams}
        for name in sorted({upstream.name for upstream in current.upstreams} - kept):
            detached.add(name)
            waiting = await asides_of(store).waiting(instance, name)
            if waiting is not None and name in discarded:
                told.append(f"- instance {instance}, upstream {name}: {_given_up(waiting)}")
            elif waiting is not None:
                problems.append(
                    f"instance {instance}: upstream {name} cannot be detached, usage waits for it:"
                    f" {_listed(waiting)}; forward it and decide about what is set aside"
                    f" (cmapi-gateway forward list), or give it up with --discard {name}"
                )
    # With other problems it is not known what the file would detach.
    if not problems:
        problems += [
            f"--discard {name[:NAME_SHOWN_MAX]}: this file detaches no upstream of that name;"
            " nothing is given up for one that stays"
            for name in sorted(set(discarded) - detached)
        ]
    if problems:
        raise InvalidInput(*problems)
    return told


async def _kept(store: Store, declared: Declared) -> list[str]:
    """Put in words which limits of the file are not in force, because a cloud decides them."""
    current = await current_catalogue(store.catalogues, declared.id)
    return not_in_force(current, with_license_keys(declared, current))


def _given_up(waiting: Waiting) -> str:
    """Say how many units are given up; those of dead batches were given up before."""
    lines = {
        line: sum(units for place, units in places.items() if place != "dead")
        for line, places in waiting.units.items()
    }
    undecided = sum(places.get("dead", 0) for places in waiting.units.values())
    more = f"; {undecided} units of dead batches stay dead" if undecided else ""
    return f"{sum(lines.values())} units are given up ({_listed(waiting)}){more}"


def _listed(waiting: Waiting) -> str:
    """Name what waits, units by line and place."""
    told = [
        f"{' and '.join(f'{units} {place}' for place, units in places.items())} of line {line}"
        for line, places in waiting.units.items()
    ]
    more = f" and {len(told) - LISTED_MAX} more lines" if len(told) > LISTED_MAX else ""
    return f"{', '.join(told[:LISTED_MAX]) or 'rows that come to nothing'}{more}"


async def _settle_default(store: Store, declared: Iterable[Declared]) -> None:
    """Let `~` mean what the file says, also when an earlier run ended before it came to that."""
    reading: Any = store.client.hget(META, "default")
    found = await answered(reading)
    for each in declared:
        if each.default and found != each.id.encode():
            await store.durable.run("HSET", META, "default", each.id)
        elif not each.default and found == each.id.encode():
            await store.durable.run("HDEL", META, "default")


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(KEY_BYTES_MAX + 1)
