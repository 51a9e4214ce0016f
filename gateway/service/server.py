"""What the gateway tells of itself: to anybody whether it is well, to administrators which it is.

Decided here: that health looks at the store for a bounded time, and gives nothing away of which
instances exist. Not decided here: whether requests should come to this gateway (health.py).
Source: protocols/cmapi.md 3.3 and 3.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Final, TypeVar

from redis.exceptions import RedisError

from gateway.core.errors import GatewayError
from gateway.core.model import Role, is_instance_id
from gateway.protocols.cmapi_server import Health, InstanceInfo, health_of
from gateway.service.admin import Admin
from gateway.service.credentials import DEFAULT_INSTANCE

LOOK_S_MAX: Final = 2.0
_DISTRIBUTION: Final = "cmapi-gateway"

T = TypeVar("T")


def distribution_version() -> str:
    """Give the version of the installed gateway; `unknown` when it runs without being installed."""
    try:
        return version_of(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Server:
    """Tells of the gateway. `reachable` says whether the store answers now."""

    admin: Admin
    reachable: Callable[[], Awaitable[bool]]
    version: str
    look_s: float = LOOK_S_MAX

    async def health(self, named: str) -> tuple[Health, bool]:
        """Give the health of the server, and whether the store is connected. Raises nothing."""
        connected = await self._within(self.reachable) or False
        instance: str | None = named if is_instance_id(named) else None
        if named == DEFAULT_INSTANCE and connected:
            instance = await self._within(self.admin.catalogues.default)
        # A text that can name no instance is not repeated: whoever reads this did not write it.
        return health_of(self.version, instance or DEFAULT_INSTANCE, connected=connected), connected

    async def information(self, named: str, authorization: str | None) -> InstanceInfo:
        """Tell what an instance is called. Raises Unauthorized, Forbidden, Unavailable."""
        who = await self.admin.admin(named, authorization, Role.READ)
        return InstanceInfo(who.instance, who.index.catalogue.name, self.version)

    async def reservation_groups(self, named: str, authorization: str | None) -> list[object]:
        """List the groups of reservations: there are none. Raises as `information`."""
        await self.admin.admin(named, authorization, Role.READ)
        return []

    async def _within(self, look: Callable[[], Awaitable[T]]) -> T | None:
        """Give what a look at the store says; None when it says nothing in time."""
        try:
            async with asyncio.timeout(self.look_s):
                return await look()
        except (GatewayError, RedisError, OSError):  # TimeoutError is an OSError
            return None
