"""What outboxes still have, listed with the reasons: for whoever stops, or drains.

Decided here: how many are listed, and which reason is said. Not decided here: what is in the way
(hindrances.py). Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from gateway.core.ports import CatalogueReader, Outbox
from gateway.upstream.hindrances import Hindrances

LEFTOVERS_MAX: Final = 1_000


class Leftover(msgspec.Struct, frozen=True):
    """An outbox that is not empty: open rows, the sealed batch ("" for none), and why."""

    instance: str
    upstream: str
    open_rows: int
    sealed: str
    reason: str


async def leftovers(
    outbox: Outbox,
    catalogues: CatalogueReader,
    hindrances: Hindrances,
    configured: Collection[str],
) -> list[Leftover]:
    """List outboxes that are not empty, LEFTOVERS_MAX at most; `configured` are upstreams."""
    left: list[Leftover] = []
    for instances in (await outbox.dirty()).values():
        for instance in instances:
            index = await catalogues.read(instance)
            for attachment in index.catalogue.upstreams if index else ():
                name = attachment.name
                rest = await outbox.rest(instance, name)
                if rest.open_rows or rest.sealed:
                    reason = hindrances.reason((instance, name))
                    if name not in configured:
                        reason = "upstream is not configured"
                    left.append(Leftover(instance, name, rest.open_rows, rest.sealed, reason))
            if len(left) >= LEFTOVERS_MAX:
                return left
    return left
