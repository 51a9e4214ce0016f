"""Commands that change one instance: it is found, edited and written as its next version.

Decided here: that `~` is the default instance, and that an instance must exist. Not decided here:
what is edited; that is each command's. Source: INTERFACE 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.model import Catalogue
from gateway.store.catalogues import Catalogues
from gateway.store.rewriting import current_catalogue, rewrite
from gateway.wiring_store import open_store

DEFAULT_INSTANCE: Final = "~"


async def edit_instance(
    config: Config, instance: str, edit: Callable[[Catalogue], Catalogue]
) -> Catalogue:
    """Write what `edit` makes of an instance's catalogue, and give that.

    Raises InvalidInput when there is no such instance, and what `edit` raises.
    """
    async with open_store(config) as store:
        name = await resolved(store.catalogues, instance)
        return await rewrite(store.catalogues, name, edit)


async def resolved(catalogues: Catalogues, instance: str) -> str:
    """Find the id of an instance that exists. Raises InvalidInput."""
    name = await catalogues.default() if instance == DEFAULT_INSTANCE else instance
    if name is None or not (await current_catalogue(catalogues, name)).version:
        raise InvalidInput(f"There is no instance {instance[:64]!r}; declare it with `apply` first")
    return name
