"""Sessions at the pages that were ended by logging out, for as long as their cookies would be good.

Decided here: that all replicas know of it at once. Not decided here: what a session is
(core/page_sessions.py). Nothing of a session is kept but a digest of its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.core.page_sessions import IDLE_S
from gateway.store.durable import Durable, answered
from gateway.store.keys import InstanceKeys
from gateway.store.topology import Client

KEPT_MS = 2 * IDLE_S * 1000  # a cookie is good for half of that; clocks differ


@dataclass(frozen=True, slots=True)
class EndedSessions:
    """The sessions of a store's instances that are over before their time."""

    client: Client
    durable: Durable
    partitions: int

    async def end(self, instance: str, session_id: str) -> None:
        """Have a session be over. Raises Unavailable; a retry is safe."""
        key = InstanceKeys(instance, self.partitions).ended_session(session_id)
        await self.durable.run("SET", key, "1", "PX", str(KEPT_MS))

    async def is_over(self, instance: str, session_id: str) -> bool:
        """Say whether a session was ended. Raises Unavailable."""
        key = InstanceKeys(instance, self.partitions).ended_session(session_id)
        reading: Any = self.client.exists(key)
        return bool(await answered(reading))
