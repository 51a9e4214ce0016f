"""Leases of partitions: one forwarder at a time among all workers and replicas.

Decided here: how long a lease lasts, that it is renewed by a task of its own whatever a send waits
for, and that tasks of one process share it. A lease is only a hint to work here; what protects the
counts is that every script compares its full uuid:token. Source: DESIGN 5.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from gateway.core.errors import Unavailable
from gateway.core.ports import Outbox

LEASE_S: Final = 15.0
RENEW_S: Final = 5.0  # two renewals may fail before a lease lapses


@dataclass
class Lease:
    """A lease held by this process; `holder` goes with every script that writes under it."""

    partition: int
    holder: str
    until_s: float  # by this process's monotonic clock, counted from before the call
    lost: bool = False
    users: int = 0
    renewal: asyncio.Task[None] | None = None

    def valid(self, now_s: float) -> bool:
        """Say whether it may still be worked under, as far as can be known here."""
        return not self.lost and now_s < self.until_s


@dataclass
class Leases:
    """The leases of one process, each taken under a token that never comes again."""

    outbox: Outbox
    monotonic_s: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    owner: str = field(default_factory=lambda: uuid4().hex)
    _taken: int = 0
    _held: dict[int, Lease] = field(default_factory=dict)
    # One per partition: taking and dropping must not cross.
    _locks: defaultdict[int, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    @asynccontextmanager
    async def hold(self, partition: int) -> AsyncIterator[Lease | None]:
        """Hold a partition's lease while inside; None: another process has it.

        Raises Unavailable when the store does not answer.
        """
        async with self._locks[partition]:
            lease = self._held.get(partition) or await self._take(partition)
            if lease is not None:
                lease.users += 1
        try:
            yield lease
        finally:
            if lease is not None:
                async with self._locks[partition]:
                    lease.users -= 1
                    if not lease.users:
                        await self._drop(lease)

    async def _take(self, partition: int) -> Lease | None:
        self._taken += 1
        holder = f"{self.owner}:{self._taken}"
        until_s = self.monotonic_s() + LEASE_S
        if not await self.outbox.take_lease(partition, holder, int(LEASE_S * 1000)):
            return None
        lease = self._held[partition] = Lease(partition, holder, until_s)
        lease.renewal = asyncio.create_task(self._renew(lease))
        return lease

    async def _renew(self, lease: Lease) -> None:
        while not lease.lost:
            await self.sleep(RENEW_S)
            until_s = self.monotonic_s() + LEASE_S
            try:
                kept = await self.outbox.keep_lease(
                    lease.partition, lease.holder, int(LEASE_S * 1000)
                )
            except Unavailable:
                continue  # it runs out by itself if this goes on
            if kept:
                lease.until_s = until_s
            lease.lost = not kept

    async def _drop(self, lease: Lease) -> None:
        del self._held[lease.partition]
        if lease.renewal is not None:
            lease.renewal.cancel()
        with suppress(Unavailable):  # then it runs out by itself
            await self.outbox.drop_lease(lease.partition, lease.holder)
