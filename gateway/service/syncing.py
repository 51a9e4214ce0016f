"""The story of a sync with the cloud as an administrator sees it: when, and at once.

Decided here: which upstream an instance's syncs are about, what is said when there is none, and
what is listed of what was heard. Not decided here: who may ask (floating_users.py), what a sync
does (upstream/licensespring_sync.py); it is made by whoever forwards, which sees a demand within
some seconds.
Source: protocols/licensespring.md 2 and 5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.core.elsewhere import Known
from gateway.core.floating import Refusal
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.protocols.licensespring_sync import SyncAsked, SyncSettings
from gateway.store.catalogues import Catalogues
from gateway.store.syncs import Syncs

MINUTE_MS: Final = 60_000


class HeardLine(msgspec.Struct, frozen=True):
    """What a cloud last said of a line of an instance."""

    instance: str
    upstream: str
    line: str
    known: Known


async def heard_of(
    catalogues: Catalogues, syncs: Syncs, clouds: Collection[str]
) -> AsyncIterator[HeardLine]:
    """Give what was last heard of each line, by instance; `clouds` names the upstreams.

    Raises Unavailable.
    """
    for instance in await catalogues.instances():
        index = await catalogues.get(instance)
        for attached in index.catalogue.upstreams if index else ():
            if attached.name in clouds:
                known = await syncs.known(instance, attached.name)
                for line, each in sorted(known.items()):
                    yield HeardLine(instance, attached.name, line, each)


@dataclass(frozen=True, slots=True)
class CloudSyncs:
    """The syncs of one instance. `intervals_ms` are those of the configured clouds, by name."""

    catalogues: Catalogues
    syncs: Syncs
    instance: str
    intervals_ms: Mapping[str, int]

    async def settings(self) -> SyncSettings:
        """Tell when syncs are made; not at all where no cloud is attached. Raises Unavailable."""
        name = await self._attached()
        if name is None:
            return SyncSettings(False, 0, 0)
        schedule = await self.syncs.schedule(self.instance, name)
        minutes = max(1, schedule.span_ms(self.intervals_ms[name]) // MINUTE_MS)
        return SyncSettings(schedule.enabled, *divmod(minutes, 60))

    async def change(self, asked: SyncAsked) -> None:
        """Say when syncs are made. Raises FloatingRefused where no cloud is attached."""
        await self.syncs.set_schedule(
            self.instance,
            await self._needed(),
            enabled=asked.enabled,
            hours=asked.hours,
            minutes=asked.minutes,
        )

    async def trigger(self) -> None:
        """Demand a sync at once. Raises FloatingRefused where no cloud is attached; Unavailable."""
        await self.syncs.ask(self.instance, await self._needed())

    async def _needed(self) -> str:
        name = await self._attached()
        if name is None:
            why = "no upstream of kind licensespring is attached to this instance"
            raise FloatingRefused(Refusal.VALIDATION, why)
        return name

    async def _attached(self) -> str | None:
        index = await self.catalogues.fresh(self.instance)
        attached = index.catalogue.upstreams if index else ()
        return next((each.name for each in attached if each.name in self.intervals_ms), None)
