"""What LicenseSpring clients read: licences as they stand, and who is registered.

Decided here: that a read is true at one moment, that of the instance's last transaction once it was
swept; and that who is registered holds a seat, whatever else is known of him. Not decided here:
what is told of it (protocols/licensespring_answers.py), who may ask (floating_users.py).
Source: protocols/licensespring.md 1 and 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.core.calls import Verdict
from gateway.core.catalogue import CatalogueIndex, period_rule
from gateway.core.errors import Unavailable
from gateway.core.floating import USER_TYPE, License, Licenses, Refusal, licenses_of
from gateway.core.model import Holding
from gateway.protocols.licensespring_answers import Registration, View
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.service.balance import current_periods
from gateway.service.floating import Floating
from gateway.store import reads
from gateway.store.calls import Job
from gateway.store.reads import Standing
from gateway.store.registrations import holders

READ_TRIES_MAX: Final = 5
WALK_S_MAX: Final = 10.0  # over the users of an instance
USERS_MAX: Final = 10_000  # listed of one licence
_PREFIX: Final = f"{USER_TYPE}:"


@dataclass(frozen=True, slots=True)
class FloatingReads:
    """Reads the licences of the instance that floating clients speak to.

    Everything raises FloatingRefused for a licence that is not there, and Unavailable; a retry is
    always safe.
    """

    floating: Floating

    async def one(self, product: str | None, license_id: int | None) -> View:
        """Give a licence as it stands."""
        found = await self._standing()
        index, standing = found if found else (None, None)
        licenses = Licenses(()) if index is None else licenses_of(index)
        license_ = licenses.find(product, license_id)
        if isinstance(license_, Refusal):
            raise FloatingRefused(license_)
        assert index is not None  # noqa: S101 - or no licence would have been found
        assert standing is not None  # noqa: S101 - as above
        return _view(index, standing, license_)

    async def listed(self, product: str | None) -> list[View]:
        """List the licences, or those of a product, in the order in which they were added."""
        found = await self._standing()
        if found is None:
            return []
        index, standing = found
        licenses = licenses_of(index)
        wanted = licenses.all if product is None else licenses.of_product(product)
        return [_view(index, standing, each) for each in wanted]

    async def users(self, license_id: int) -> tuple[Licenses, License, list[Registration]]:
        """List who is registered with a licence, at most USERS_MAX, the first of them first."""
        view = await self.one(None, license_id)
        index = await self.floating.index()
        licenses = Licenses(view.catalogue.lines) if index is None else licenses_of(index)
        seats = view.license.seats
        if seats is None:
            return licenses, view.license, []
        client = self.floating.catalogues.client
        keys = self.floating.catalogues.keys(self.floating.instance)
        until_s = asyncio.get_running_loop().time() + WALK_S_MAX
        held: dict[str, Holding] = {}
        async for step in holders(client, keys, USER_TYPE, {seats.id}, until_s):
            held |= {host: holds[0] for host, holds in step.items()}
            if len(held) > USERS_MAX:
                break
        # By the time since when, then by name: a list of one moment is always the same.
        hosts = sorted(held, key=lambda host: (held[host].since_ms, host))[:USERS_MAX]
        seen = await reads.read_last_seen(client, keys, hosts)
        return (
            licenses,
            view.license,
            [
                Registration(
                    user=host.removeprefix(_PREFIX),
                    count=held[host].count,
                    lapses_ms=held[host].lapses_ms,
                    since_ms=held[host].since_ms,
                    checked_ms=seen.get(host, held[host].since_ms),
                    borrowed=held[host].borrowed,
                )
                for host in hosts
            ],
        )

    async def _standing(self) -> tuple[CatalogueIndex, Standing] | None:
        """Have the instance swept, and read how it stands after that, by the same catalogue."""
        catalogues, instance = self.floating.catalogues, self.floating.instance
        index = await self.floating.index(fresh=True)
        for _ in range(READ_TRIES_MAX):
            if index is None:
                return None
            job = Job(index, [], "", 0, "", "", "", 0, sweep_only=True)
            reply = await self.floating.lane.submit(job)
            if reply.verdict is not Verdict.STALE:
                standing = await reads.read_standing(catalogues.client, catalogues.keys(instance))
                if standing.settled and standing.version == index.catalogue.version:
                    return index, standing
            index = await self.floating.index(fresh=True)
        raise Unavailable("The instance changes too fast to follow", "not_applied")


def _view(index: CatalogueIndex, standing: Standing, license_: License) -> View:
    periods = current_periods(index, standing.at_ms)

    def totals(lines: Iterable[str]) -> dict[str, int]:
        found = {}
        for id_ in lines:
            label = periods[period_rule(index.line[id_])]
            found[id_] = standing.used(id_, label) + standing.elsewhere(id_, label)
        return found

    return View(index.catalogue, license_, totals(line.id for line in license_.lines))
