"""Rounds over the instances where something lapses, so that requests seldom have to sweep.

Decided here: that a partition's lease keeps several processes from doing the same, and that what
fails, a partition or an instance, keeps no other from being swept. Not decided here: how lapses are
swept (service/sweeping.py), how often, and that tasks are started and stopped (forwarder.py).
Source: DESIGN 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.ports import Outbox, Places
from gateway.upstream.leases import Leases
from gateway.upstream.visits import visited


@dataclass
class SweepRounds:
    """Tells `sweep` the instances with lapses due."""

    outbox: Outbox
    leases: Leases
    sweep: Callable[[str], Awaitable[object]]
    now_ms: Callable[[], int]
    stopping: Callable[[], bool]
    _failed: Exception | None = None

    async def make(self) -> None:
        """Make a round. Raises what failed first, after all others."""
        self._failed = None
        await visited(self.outbox.due(self.now_ms()), self._sweep_all)
        if self._failed is not None:
            raise self._failed

    async def _sweep_all(self, due: Places) -> None:
        for partition, instances in due.items():
            if self.stopping():
                return
            try:
                async with self.leases.hold(partition) as lease:
                    for instance in instances if lease else ():
                        await self._try(instance)
            except Exception as error:  # its lease can be neither had nor asked for
                self._failed = self._failed or error

    async def _try(self, instance: str) -> None:
        if self.stopping():
            return
        try:
            await self.sweep(instance)
        except Exception as error:  # whatever a store's client raises
            self._failed = self._failed or error
