"""Sweeping lapses in the background, so that a request seldom has to do it first.

A lapse takes effect at its moment whether it is swept or not; this only spares requests the work,
and sends the usage of reusable metered lines that lapsed on its way. Source: DESIGN 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.core.calls import Verdict
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.lanes import Lane

TRIES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps instances through the lane, where the script does it as it does for requests."""

    catalogues: Catalogues
    lane: Lane

    async def sweep(self, instance: str) -> None:
        """Have everything that has lapsed in an instance returned. Raises Unavailable."""
        index = await self.catalogues.get(instance)
        for _ in range(TRIES_MAX):
            if index is None:
                return
            job = Job(index, [], "", 0, "", "", "", 0, sweep_only=True)
            reply = await self.lane.submit(job)
            if reply.verdict is not Verdict.STALE:
                return
            index = await self.catalogues.read(instance)
