"""Keeping days as days for a while, and as months after that.

Decided here: that a month is folded only when all of it is older than is kept, by the instance's
own last transaction and in its time zone; that what has lapsed is swept before, so that nothing is
recorded in a month that was folded, as far as can be; and that earlier months go first, a bounded
part of them in a visit. Not decided here: who visits and when (upstream/folding.py), how lines are
moved (store/folding.py). Source: INTERFACE 2 (report.retention), SEMANTICS 11.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.calendar import DAY_MS
from gateway.core.catalogue import CatalogueIndex
from gateway.core.periods import local_day, zone
from gateway.core.reports_periods import months_before
from gateway.store.catalogues import Catalogues
from gateway.store.folding import FOLD_LINES_MAX, Folds


@dataclass(frozen=True, slots=True)
class Folder:
    """Folds what is older than `retention_months`. `sweep` has returned what has lapsed.

    `now_ms` is only a hint at what is old: the sweep, and what it leaves as the instance's last
    transaction, has the say.
    """

    catalogues: Catalogues
    sweep: Callable[[str], Awaitable[object]]
    retention_months: int
    now_ms: Callable[[], int]

    async def fold(self, instance: str) -> bool:
        """Fold some lines of what is old, the earliest month first; say whether more can be now.

        Raises Unavailable. May be called at any time and by several at once; a repeat is safe.
        """
        keys = self.catalogues.keys(instance)
        folds = Folds(self.catalogues.client, self.catalogues.scripts, keys)
        # Most have nothing that is old anywhere on earth, and a round over all must not put their
        # catalogues in the place of those in use.
        if not await self._old(folds, None, self.now_ms()):
            return False
        index = await self.catalogues.fresh(instance)
        if index is None:
            return False
        if not await self._old(folds, index, self.now_ms()):
            return False
        await self.sweep(instance)
        left, moved = FOLD_LINES_MAX, 0
        months = await self._old(folds, index)
        for month in months:
            done = await folds.fold(month, left)
            left, moved = left - done.lines, moved + done.moved
            # A line that cannot be moved is not tried again and again.
            if done.left or left <= 0:
                return moved > 0 and (done.left or month != months[-1])
        return False

    async def _old(self, folds: Folds, index: CatalogueIndex | None, now_ms: int = 0) -> list[int]:
        """List the months (yyyymm) that are wholly older than is kept and still have days.

        Without an index: those that are so in any time zone.
        """
        since_ms, last_ms = await folds.moments()
        if not since_ms:
            return []
        tz, spread_ms = (zone(index.catalogue.timezone), 0) if index else (zone("UTC"), DAY_MS)
        since = local_day(since_ms - spread_ms, tz)
        today = local_day(max(now_ms, last_ms) + spread_ms, tz)
        return await folds.with_days(months_before(since, today, self.retention_months))
