"""The feature lines of an instance, and what is used of them, as they stand at one moment.

Decided here: which lines are listed, and which moment an answer is true at: that of the instance's
last transaction, once it was swept after the request came. So what has lapsed is not counted, and
every replica says the same. Not decided here: how a line is told (protocols/cmapi_features.py), who
may ask (admin.py). Source: protocols/cmapi.md 3.3 and 3.4, SEMANTICS 3, 4 and 7.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.core.calls import Verdict
from gateway.core.catalogue import CatalogueIndex, period_rule
from gateway.core.errors import NotFound, Unavailable
from gateway.core.model import Line
from gateway.protocols.cmapi_features import (
    Feature,
    FeatureClient,
    Page,
    Summaries,
    feature_of,
    served_of,
    summaries_of,
)
from gateway.service.balance import current_periods
from gateway.store import reads
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.lanes import Lane
from gateway.store.reads import Served, Standing

READ_TRIES_MAX: Final = 5
LINES_AT_ONCE_MAX: Final = 1_000  # told before others get their turn: about 5 ms
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")  # an instance has at most 10,000 lines


class Clients(NamedTuple):
    """A page of those who have something of a line; `more`: there is a page after it."""

    elements: list[FeatureClient]
    more: bool


@dataclass(frozen=True, slots=True)
class Features:
    """Reads feature lines, of an instance that somebody was let in to.

    Everything raises Unavailable when the store does not answer, or when the catalogue or the holds
    change faster than they can be read; a retry is always safe.
    """

    catalogues: Catalogues
    lane: Lane

    async def listed(self, index: CatalogueIndex, *, active_only: bool) -> list[Feature]:
        """List the lines in the order of their numbers; expired ones too unless `active_only`."""
        view = await self._view(index)
        lines = sorted(view.active() if active_only else view.lines(), key=lambda line: line.number)
        found: list[Feature] = []
        for start in range(0, len(lines), LINES_AT_ONCE_MAX):
            found += map(view.feature, lines[start : start + LINES_AT_ONCE_MAX])
            await asyncio.sleep(0)
        return found

    async def one(self, index: CatalogueIndex, number: str) -> Feature:
        """Give the line of a number. Raises NotFound."""
        view = await self._view(index)
        return view.feature(view.line(number))

    async def summaries(self, index: CatalogueIndex) -> Summaries:
        """Add up the lines that have started and not expired."""
        view = await self._view(index)
        return summaries_of((line, view.used(line)) for line in view.active())

    async def clients(self, index: CatalogueIndex, number: str, page: Page) -> Clients:
        """Give a page of the hosts that have something of a line which can come back.

        That is what they hold of it, or what of their consumption can still be undone; elements in
        the order of their ids. Raises NotFound.
        """
        view = await self._view(index)
        line = view.line(number)
        # One more than the page has tells whether there is another page.
        found = await self._served(view, line, page.after, page.limit + 1)
        shown = found[: page.limit]
        instance = view.index.catalogue.id
        keys = self.catalogues.keys(instance)
        hosts = [each.host for _, each in shown]
        seen = await reads.read_last_seen(self.catalogues.client, keys, hosts)
        elements = [
            served_of(
                line,
                each.host,
                instance,
                each.units,
                updated_ms=seen.get(each.host, view.at_ms),  # dropped since: it was here till now
                expires_ms=each.lapses_ms or None,
            )
            for _, each in shown
        ]
        return Clients(elements, len(found) > page.limit)

    async def _served(
        self, view: _View, line: Line, after: int, most: int
    ) -> list[tuple[int, Served]]:
        client, keys = self.catalogues.client, self.catalogues.keys(view.index.catalogue.id)
        if line.model.reusable:
            return await reads.read_holders(
                client, keys, line.id, after=after, most=most, now_ms=view.at_ms
            )
        if not line.undo_ms:
            return []
        return await reads.read_undoable(
            client, keys, line.id, line.undo_ms, after=after, most=most, now_ms=view.at_ms
        )

    async def _view(self, index: CatalogueIndex) -> _View:
        """Have the instance swept, and read how it stands after that, by the same catalogue."""
        instance = index.catalogue.id
        keys = self.catalogues.keys(instance)
        for _ in range(READ_TRIES_MAX):
            job = Job(index, [], "", 0, "", "", "", 0, sweep_only=True)
            reply = await self.lane.submit(job)
            if reply.verdict is not Verdict.STALE:
                standing = await reads.read_standing(self.catalogues.client, keys)
                # Between the two another call may have begun to sweep what lapsed after this one.
                if standing.settled and standing.version == index.catalogue.version:
                    return _View(index, standing)
            index = await self.catalogues.fresh(instance) or index
        raise Unavailable("The instance changes too fast to follow", "not_applied")


class _View:
    """A catalogue and how its instance stood at one moment under it."""

    def __init__(self, index: CatalogueIndex, standing: Standing) -> None:
        self.index, self._standing = index, standing
        self.at_ms = standing.at_ms
        self._periods = current_periods(index, standing.at_ms)

    def lines(self) -> Iterator[Line]:
        """Give all lines; a retired one counts as absent."""
        return (line for line in self.index.catalogue.lines if not line.retired)

    def active(self) -> Iterator[Line]:
        """Give the lines that have started and not expired."""
        return (
            line
            for line in self.lines()
            if (line.starts_ms is None or line.starts_ms <= self.at_ms)
            and (line.expires_ms is None or self.at_ms < line.expires_ms)
        )

    def line(self, number: str) -> Line:
        wanted = int(number) if _NUMBER.fullmatch(number) else 0
        for line in self.lines():
            if line.number == wanted and wanted:
                return line
        raise NotFound("There is no feature of this id", number[:64])

    def used(self, line: Line) -> int:
        return self._standing.used(line.id, self._periods[period_rule(line)])

    def feature(self, line: Line) -> Feature:
        return feature_of(line, self.index.catalogue, self.used(line), self._standing.since_ms)
