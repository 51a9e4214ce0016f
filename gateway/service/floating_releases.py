"""Everybody unregistered at once, or a feature released for everybody: a walk, and a job for each.

Decided here: that users of floating clients are meant and nobody else who holds the same lines,
that each is released as if he had asked for it himself, and how many go at a time. What is told of
it is that all who were there when it began hold nothing; who registers meanwhile may keep it.
Source: protocols/licensespring.md 1 and 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.calls import Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.floating import (
    USER_TYPE,
    License,
    Refusal,
    licenses_of,
)
from gateway.core.floating_asks import release
from gateway.core.model import Line, Model
from gateway.protocols.cmapi_answer import write_echo
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.service.access import CATALOGUE_TRIES_MAX, OWN_ID_TTL_MS
from gateway.service.floating import Floating
from gateway.store.calls import Job
from gateway.store.registrations import Holders, holders

WALK_S_MAX: Final = 30.0  # the releases on the way included
AT_ONCE_MAX: Final = 64  # releases that wait for the lane together
_PREFIX: Final = f"{USER_TYPE}:"


@dataclass(frozen=True, slots=True)
class FloatingReleases:
    """Releases what users hold, one walk at a time in this process."""

    floating: Floating
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def everybody(self, request_id: str) -> None:
        """Release all users from all licences. Raises Unavailable; a retry goes on."""
        index = await self.floating.index(fresh=True)
        if index is not None:
            lines = [line for each in licenses_of(index).all for line in _held(each)]
            await self._release(lines, request_id)

    async def features(self, request_id: str) -> None:
        """Release all users from all features of all licences. Raises Unavailable."""
        index = await self.floating.index(fresh=True)
        if index is not None:
            lines = [line for each in licenses_of(index).all for line in each.features]
            await self._release(lines, request_id)

    async def of_license(self, license_id: int, request_id: str) -> License:
        """Release all users from a licence and its features; give it.

        Raises FloatingRefused; Unavailable.
        """
        license_ = await self._license(license_id)
        await self._release(_held(license_), request_id)
        return license_

    async def of_feature(self, license_id: int, feature: str, request_id: str) -> None:
        """Release all users from a feature of a licence, or from each of them where it is "".

        Raises FloatingRefused; Unavailable.
        """
        license_ = await self._license(license_id)
        lines = [line for line in license_.features if line.model is Model.CONCURRENT]
        if feature:
            line = license_.feature(feature)
            if line is None or line not in lines:
                raise FloatingRefused(Refusal.UNSUPPORTED_FEATURE)
            lines = [line]
        await self._release(lines, request_id)

    async def _license(self, license_id: int) -> License:
        index = await self.floating.index(fresh=True)
        found = None if index is None else licenses_of(index).find(None, license_id)
        if not isinstance(found, License):
            raise FloatingRefused(Refusal.LICENSE_NOT_FOUND)
        return found

    async def _release(self, lines: Iterable[Line], request_id: str) -> None:
        wanted = {line.id for line in lines}
        loop = asyncio.get_running_loop()
        until_s = loop.time() + WALK_S_MAX
        try:
            async with asyncio.timeout_at(until_s):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable("Too many release everybody", "not_applied") from None
        try:
            number = 0
            async for found in self._walk(wanted, until_s):
                hosts = list(found)
                for start in range(0, len(hosts), AT_ONCE_MAX):
                    part = hosts[start : start + AT_ONCE_MAX]
                    await asyncio.gather(
                        *(
                            self._give_back(host, found, f"{request_id}:{number + at}")
                            for at, host in enumerate(part)
                        )
                    )
                    number += len(part)
        finally:
            self._turn.release()

    def _walk(self, lines: set[str], until_s: float) -> AsyncIterator[Holders]:
        catalogues = self.floating.catalogues
        keys = catalogues.keys(self.floating.instance)
        return holders(catalogues.client, keys, USER_TYPE, lines, until_s)

    async def _give_back(self, host: str, found: Holders, own_id: str) -> None:
        for _ in range(CATALOGUE_TRIES_MAX):
            index = await self.floating.index()
            if index is None:
                return
            reply = await self.floating.lane.submit(self._job(index, host, found, own_id))
            if reply.verdict is not Verdict.STALE:
                return
            await self.floating.index(fresh=True)
        raise Unavailable("The catalogue changes too fast to follow", "unknown")

    def _job(self, index: CatalogueIndex, host: str, found: Holders, own_id: str) -> Job:
        lines = [index.line[hold.line] for hold in found[host]]
        planned = release(index, host.removeprefix(_PREFIX), lines)
        return Job(
            index,
            planned.wants,
            own_id,
            max(OWN_ID_TTL_MS, self.floating.resend_ms),
            "",
            write_echo(planned.echo) if self.floating.explain_ms else "",
            host,
            planned.flags,
            explain_ms=self.floating.explain_ms,
        )


def _held(license_: License) -> list[Line]:
    return [line for line in license_.lines if line.model is Model.CONCURRENT]
