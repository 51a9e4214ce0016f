"""Demands of people that what waits goes now: seen by whoever forwards, and met by a visit.

Decided here: that a visit meets the demands made before it began, whatever it came to, and is noted
as a sync, so that people see when the last one was; and that what cannot be read here keeps nothing
from being forwarded. An upstream with a schedule of its own sees to its demands itself
(Route.sync). Not decided here: how often it is looked (forwarder.py), where demands are kept
(store/syncs.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gateway.core.ports import Demands, Route
from gateway.core.syncing import Schedule

_log = structlog.get_logger("gateway.forward")


@dataclass(frozen=True)
class Demanded:
    """The demands as a forwarder sees them; None: nobody can make any."""

    demands: Demands | None = None

    async def at(self, route: Route) -> Collection[str]:
        """List the instances where something is to go now. Raises Unavailable."""
        if self.demands is None or route.sync is not None:
            return ()
        return await self.demands.demanded(route.name)

    @asynccontextmanager
    async def met(self, instance: str, route: Route) -> AsyncIterator[None]:
        """Note after a visit, which is made inside, when it began and which demands it met."""
        if self.demands is None or route.sync is not None:
            yield
            return
        schedule = Schedule()
        try:
            schedule = await self.demands.schedule(instance, route.name)
        except Exception as error:  # a defect of it, or the store's: then the visit says so
            _log.warning("demand_unread", instance=instance, error=type(error).__name__)
        yield
        if schedule.now_ms:  # else it could not be read
            await self.demands.synced(instance, route.name, schedule.now_ms, schedule.asked)
