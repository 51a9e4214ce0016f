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
from typing import NamedTuple

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

    `used` and `elsewhere` are of the present reset period, here and by other servers. `synced_ms`
    is when the last sync began, 0: there was none. `cloud`: the upstream tells what it has; `known`
    is what it last said, None: nothing yet.
    """

    line: Line
    upstream: str
    used: int
    elsewhere: int
    sums: UpstreamSums
    carried: int
    synced_ms: int
    cloud: bool
    known: Known | None

    @property
    def unsynced(self) -> int:
        """Units that the upstream does not have and may still get; what is carried is not among
        them.
        """
        return self.sums.open - self.carried + self.sums.sealed + self.sums.parked


class _Heard(NamedTuple):
    """What is known of an upstream: when it was last synced and, of a cloud, what it said."""

    begun_ms: int = 0
    cloud: bool = False
    known: Mapping[str, Known] = {}


class Listed(msgspec.Struct, frozen=True):
    """The entries of an instance at a moment. `unheard` says why upstreams' words are missing."""

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
        heard: dict[str, _Heard] = {}
        unheard: list[str] = []
        for each in index.catalogue.upstreams:
            try:
                heard[each.name] = await self._heard(instance, each.name)
            except Exception as error:
                if not is_damage(error):
                    raise
                heard[each.name] = _Heard(cloud=each.name in self.clouds)
                unheard.append(f"{each.name}: {describe(error)}")
        entries = await asyncio.to_thread(_entries, index, ledger, heard)
        return Listed(entries, ledger.now_ms, tuple(unheard))

    async def _heard(self, instance: str, upstream: str) -> _Heard:
        begun_ms = (await self.syncs.schedule(instance, upstream)).begun_ms
        if upstream not in self.clouds:
            return _Heard(begun_ms)
        return _Heard(begun_ms, True, await self.syncs.known(instance, upstream))


def _entries(index: CatalogueIndex, ledger: Ledger, heard: Mapping[str, _Heard]) -> list[Consumed]:
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
                synced_ms=told.begun_ms,
                cloud=told.cloud,
                known=told.known.get(line.id),
            )
            for name in names
            for told in (heard.get(name, _Heard()),)
        ]
    return sorted(entries, key=_most_unsynced)


def _most_unsynced(entry: Consumed) -> tuple[int, int, str, str]:
    return -abs(entry.unsynced), -entry.used, entry.line.id, entry.upstream
