"""What tests of syncs do to the one of a forwarder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.upstream.forwarder import Forwarder
from gateway.upstream.licensespring_sync import Syncing


def syncing(forwarder: Forwarder) -> Syncing:
    found = forwarder.routes[0].sync
    assert isinstance(found, Syncing)
    return found


def after_each_look(forwarder: Forwarder, then: Callable[[], Awaitable[object]]) -> None:
    """Let something happen once a licence was told, before it is taken over."""
    calls = syncing(forwarder).calls
    look = calls.look

    async def looking(*told: Any) -> Any:
        found = await look(*told)
        await then()
        return found

    calls.look = looking  # type: ignore[method-assign]
