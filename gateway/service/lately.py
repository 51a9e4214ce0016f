"""What a dear look at an instance found lately, kept so that a page which is shown anew is cheap.

Decided here: that one look at an instance is under way at a time, whoever asks; that what took long
is kept for long, so that looking takes at most a part in PRICE of the time; and that nobody waits
for a look longer than PATIENCE_S: what was found before is told, with its moment, or nothing yet.
Not decided here: what is looked at (service/overview.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import GatewayError
from gateway.store.damages import describe, is_damage

KEPT_S: Final = 2.0
KEPT_S_MAX: Final = 300.0
PRICE: Final = 30
PATIENCE_S: Final = 0.7
LOOK_S_MAX: Final = 60.0
INSTANCES_MAX: Final = 256

T = TypeVar("T")

_log: Final = structlog.get_logger("gateway.pages")


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What a look found, and at which moment it began; `found` is None where it failed, and `why`
    says so, or where the first is still under way, and `why` is empty.
    """

    found: T | None = None
    at_ms: int = 0
    why: str = ""


@dataclass
class _Look(Generic[T]):
    seen: Seen[T] = field(default_factory=Seen)
    version: int = 0
    until_s: float = 0.0  # of the loop's clock
    task: asyncio.Task[None] | None = None


class Lately(Generic[T]):
    """Keeps what `look` finds at instances, INSTANCES_MAX of them, for this process."""

    def __init__(self, look: Callable[[CatalogueIndex], Awaitable[T]]) -> None:
        self._look = look
        self._looks: dict[str, _Look[T]] = {}  # the one asked for longest ago comes first

    async def at(self, index: CatalogueIndex) -> Seen[T]:
        """Give what was found at an instance lately, under this version of its catalogue."""
        name, version = index.catalogue.id, index.catalogue.version
        kept = self._looks.pop(name, None) or _Look()
        self._looks[name] = kept
        if len(self._looks) > INSTANCES_MAX:
            self._forget()
        if kept.task is None:
            now_s = asyncio.get_running_loop().time()
            if kept.version == version and now_s < kept.until_s:
                return kept.seen
            kept.task = asyncio.create_task(self._renew(kept, index))
        await asyncio.wait([kept.task], timeout=PATIENCE_S)
        return kept.seen

    async def _renew(self, kept: _Look[T], index: CatalogueIndex) -> None:
        loop = asyncio.get_running_loop()
        began_s, at_ms = loop.time(), time.time_ns() // 1_000_000
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                kept.seen = Seen(await self._look(index), at_ms)
        except Exception as error:
            kept.seen = Seen(None, at_ms, said(error))
        finally:
            now_s = loop.time()
            kept.until_s = now_s + min(KEPT_S_MAX, max(KEPT_S, PRICE * (now_s - began_s)))
            kept.version = index.catalogue.version
            kept.task = None

    def _forget(self) -> None:
        """Forget what was asked for longest ago and is not being looked at."""
        for name, kept in self._looks.items():
            if kept.task is None:
                del self._looks[name]
                return


def said(error: Exception) -> str:
    """Say on a page why a part of it could not be read; what nobody foresaw is told to the log."""
    if is_damage(error):
        _log.warning("unreadable", exc_info=error)
        return f"It cannot be read: {describe(error)}"
    if isinstance(error, GatewayError):
        return error.message
    if isinstance(error, TimeoutError):
        return "It took too long to read"
    if isinstance(error, OSError):
        return "The store cannot be reached"
    _log.error("unexpected", exc_info=error)
    return "It cannot be read; the log says why"
