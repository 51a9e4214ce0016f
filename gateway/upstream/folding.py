"""Rounds over all instances, so that days which are old enough become months.

Decided here: that each instance is visited once a day and, while more is to be folded there, again
after a pause in which reports find it at rest; that a partition's lease keeps several processes
from doing the same, and that one held elsewhere is asked for again. Not decided here: what is old
and how it is folded (service/folding.py), that tasks are started and stopped (forwarder.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.ports import Outbox, PartlyUnavailable
from gateway.upstream.leases import Leases

FOLD_EVERY_S: Final = 86_400.0
FOLD_AGAIN_S: Final = 5.0  # a report that meets a fold reads anew, and has this long for it
FOLD_TROUBLE_S: Final = 60.0


@dataclass
class FoldRounds:
    """Visits instances with `fold`, which folds a part and says whether there is more."""

    outbox: Outbox
    leases: Leases
    fold: Callable[[str], Awaitable[bool]]
    monotonic_s: Callable[[], float]
    random: Callable[[], float]
    stopping: Callable[[], bool]
    pause_s: float = 0.0  # until the next round
    _all_s: float = 0.0  # when all are to be visited
    _left: dict[int, list[str]] = field(default_factory=dict)  # before that, by partition

    async def make(self) -> None:
        """Make a round over all instances, or over those where the last one left something.

        Raises what a visit raised, after all others; such an instance is visited again.
        """
        self.pause_s = FOLD_TROUBLE_S
        begun_s = self.monotonic_s()
        failed: Exception | None = None
        if begun_s >= self._all_s:
            try:
                self._left = await self.outbox.instances()
                self._all_s = begun_s + FOLD_EVERY_S
            except PartlyUnavailable as error:  # these now, and all again in the next round
                self._left, failed = error.found, error
        places = self._left
        order = list(places)
        # Each replica begins elsewhere, so that they share the work instead of meeting.
        first = int(self.random() * len(order))
        left: dict[int, list[str]] = {}
        for partition in order[first:] + order[:first]:
            # What fails, a partition or an instance, must not keep the others waiting.
            try:
                async with self.leases.hold(partition) as lease:
                    for instance in places[partition]:
                        try:
                            more = lease is None or self.stopping() or await self.fold(instance)
                        except Exception as error:
                            more, failed = True, error
                        if more:
                            left.setdefault(partition, []).append(instance)
            except Exception as error:  # its lease can be neither had nor asked for
                left[partition], failed = places[partition], error
        self._left = left
        if failed is not None:
            raise failed
        self.pause_s = FOLD_AGAIN_S if left else max(0.0, self._all_s - self.monotonic_s())
