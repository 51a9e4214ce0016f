"""Visits to what the store tells of, also where a part of it does not answer.

Decided here: that those who are told of are visited all the same, and that it is said afterwards;
what is noted of a round of visits. Not decided here: whom a round visits (forwarder.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.core.ports import PartlyUnavailable, Places
from gateway.upstream.delivery import Progress


@dataclass
class Round:
    """What a round met: how visits ended, and the instances that another process worked on."""

    ended: dict[str, Progress] = field(default_factory=dict)  # by instance
    elsewhere: set[str] = field(default_factory=set)
    trouble: Exception | None = None  # the first, where the store did not answer

    def having(self, progress: Progress) -> set[str]:
        """The instances where it ended so."""
        return {instance for instance, ended in self.ended.items() if ended is progress}

    @property
    def hindered(self) -> bool:
        """Whether something kept it from an outbox that is neither the outbox's nor upstream's."""
        return bool(self.elsewhere) or self.trouble is not None


async def visited(asked: Awaitable[Places], visit: Callable[[Places], Awaitable[object]]) -> None:
    """Visit what was asked for. Raises PartlyUnavailable after that when it was told in part."""
    try:
        places = await asked
    except PartlyUnavailable as error:
        await visit(error.found)
        raise
    await visit(places)
