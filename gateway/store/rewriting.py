"""A change of a catalogue as a function of what is in force, made again when it was overtaken.

Decided here: how often that is tried. Not decided here: what becomes of a catalogue, and what
writing one means (catalogues.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.decisions import Decision
from gateway.core.model import Catalogue
from gateway.store.catalogues import CatalogueConflict, Catalogues

WRITE_TRIES_MAX: Final = 5


async def current_catalogue(catalogues: Catalogues, instance: str) -> Catalogue:
    """Read the catalogue in force; version 0 when there is no such instance."""
    index = await catalogues.read(instance)
    return Catalogue(id=instance) if index is None else index.catalogue


async def rewrite(
    catalogues: Catalogues,
    instance: str,
    edit: Callable[[Catalogue], Catalogue],
    discards: Mapping[str, Decision] | None = None,
) -> Catalogue:
    """Write what `edit` makes of a catalogue, again if somebody else wrote meanwhile.

    Usage that waits for an upstream in `discards` is given up when that is detached. Writes nothing
    when `edit` changes nothing of an instance that is there. Raises what `edit` raises, and
    CatalogueConflict when WRITE_TRIES_MAX writes were overtaken; a retry helps then.
    """
    tries = 0
    while True:
        current = await current_catalogue(catalogues, instance)
        new = edit(current)
        if new == current and current.version:
            return current
        tries += 1
        try:
            return await catalogues.put(new, discards)
        except CatalogueConflict:
            if tries == WRITE_TRIES_MAX:
                raise
