"""What each line of an instance has counted, and what of that its upstreams do not have yet.

Decided here: an entry per metered line and attached upstream, read at one moment; what is unsynced
(open, under way, and parked: all that may still go), and that what was last heard of a cloud may be
unreadable without hiding the rest. Not decided here: which sums must agree (balance.py), what a
cloud's word means (core/elsewhere.py). Lines of seats are held, not consumed: they are not listed.
Source: DESIGN 4 and 5, protocols/licensespring.md 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from gateway.core.catalogue import CatalogueIndex, period_rule
from gateway.core.elsewhere import Known
from gateway.core.model import Line
from gateway.service.balance import current_periods, read_books
from gateway.store.catalogues import Catalogues
from gateway.store.damages import describe, is_damage
from gateway.store.ledgers import Ledger, UpstreamSums
from gateway.store.syncs import Syncs


class Consumed(msgspec.Struct, frozen=True):
    """A metered line on its way to one upstream, "" where none is attached.

    `used` and `elsewhere` are of the present reset period, here and by other servers. `cloud`: the
    upstream tells what it has; `known` is what it last said, None: nothing yet.
    """

    line: Line
    upstream: str
    used: int
    elsewhere: int
    sums: UpstreamSums
    carried: int
    cloud: bool
    known: Known | None

    @property
    def unsynced(self) -> int:
        """Units that the upstream does not have and may still get; what is carried is not among
        them.
        """
        return self.sums.open - self.carried + self.sums.sealed + self.sums.parked


class Listed(msgspec.Struct, frozen=True):
    """The entries of an instance at a moment. `unheard` says why clouds' words are missing."""

    entries: list[Consumed]
    now_ms: int
    unheard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Consumption:
    """Lists what was consumed. `clouds` names the configured upstreams that tell what they have."""

    catalogues: Catalogues
    syncs: Syncs
    clouds: Collection[str]

    async def list(self, instance: str) -> Listed:
        """List all metered lines, what is unsynced most first.

        Raises Unavailable; InvalidInput for an instance that is not there.
        """
        index, ledger = await read_books(self.catalogues, instance)
        heard: dict[str, Mapping[str, Known]] = {}
        unheard: list[str] = []
        for each in index.catalogue.upstreams:
            if each.name not in self.clouds:
                continue
            try:
                heard[each.name] = await self.syncs.known(instance, each.name)
            except Exception as error:
                if not is_damage(error):
                    raise
                heard[each.name] = {}
                unheard.append(f"{each.name}: {describe(error)}")
        entries = await asyncio.to_thread(_entries, index, ledger, heard)
        return Listed(entries, ledger.now_ms, tuple(unheard))


def _entries(
    index: CatalogueIndex, ledger: Ledger, heard: Mapping[str, Mapping[str, Known]]
) -> list[Consumed]:
    periods = current_periods(index, ledger.now_ms)
    names = [each.name for each in index.catalogue.upstreams] or [""]
    entries = []
    for line in index.catalogue.lines:
        if not line.model.metered:
            continue
        place = f"{line.id}|{periods[period_rule(line)]}"
        entries += [
            Consumed(
                line=line,
                upstream=name,
                used=ledger.used.get(place, 0),
                elsewhere=ledger.used.get(f"elsewhere|{place}", 0),
                sums=ledger.upstream(line.id, name),
                carried=ledger.carried.get((line.id, name), 0),
                cloud=name in heard,
                known=heard.get(name, {}).get(line.id),
            )
            for name in names
        ]
    return sorted(entries, key=_most_unsynced)


def _most_unsynced(entry: Consumed) -> tuple[int, int, str, str]:
    return -abs(entry.unsynced), -entry.used, entry.line.id, entry.upstream
