"""When an instance is synced with an upstream: a cloud by a schedule that is kept, any when asked.

Decided here: what a schedule is and when it is due. Not decided here: where it is kept
(store/syncs.py), what a sync does (upstream/). Pure. Source: protocols/licensespring.md 2 and 5.
"""

from __future__ import annotations

from typing import Final

import msgspec

HOURS_MAX: Final = 8_760
MINUTES_MAX: Final = 59
SPAN_MS_MIN: Final = 60_000


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When to sync, and what of that was done. Moments are the store's, in ms.

    `hours` and `minutes` None: nobody has said, and the upstream's own interval holds. `asked`
    counts the demands for a sync at once, `answered` is how many of them the last one met, which
    began at `begun_ms` (0: there was none).
    """

    enabled: bool = True
    hours: int | None = None
    minutes: int | None = None
    asked: int = 0
    answered: int = 0
    begun_ms: int = 0
    now_ms: int = 0

    @property
    def demanded(self) -> bool:
        """Whether a sync was demanded that was not made yet."""
        return self.asked != self.answered

    def span_ms(self, default_ms: int) -> int:
        """Give the time from one sync to the next."""
        if self.hours is None and self.minutes is None:
            return default_ms
        return max(SPAN_MS_MIN, ((self.hours or 0) * 60 + (self.minutes or 0)) * 60_000)

    def due(self, default_ms: int) -> bool:
        """Say whether it is time for a sync; a clock that went back does not put it off."""
        if self.demanded:
            return True
        since_ms = self.now_ms - self.begun_ms
        return self.enabled and not 0 <= since_ms < self.span_ms(default_ms)
