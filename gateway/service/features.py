"""The feature lines of an instance, and what is used of them, as they stand at one moment.

Decided here: which lines are listed, and which moment an answer is true at: that of the instance's
last transaction, once it was swept after the request came. So what has lapsed is not counted, and
every replica says the same. Also that those who want the hosts of an instance walk over them one
after another. Not decided here: how a line is told (protocols/cmapi_features.py), who may ask
(admin.py). Source: protocols/cmapi.md 3.3 and 3.4, SEMANTICS 3, 4 and 7.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from gateway.core.calls import Verdict
from gateway.core.catalogue import CatalogueIndex, period_rule
from gateway.core.errors import NotFound, Unavailable
from gateway.core.model import Held, Line
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
from gateway.service.clients import as_client
from gateway.service.line_standings import LineStanding, akin, standings_of
from gateway.store import reads
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.clients import Asked, Hosts
from gateway.store.lanes import Lane
from gateway.store.reads import Served, Standing

READ_TRIES_MAX: Final = 5
WALK_S_MAX: Final = 10.0  # over the hosts of an instance, the wait for its turn included
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")  # an instance has at most 10,000 lines


class Clients(NamedTuple):
    """A page of those who have something of a line, made as they are taken. `after` is the id that
    the next page begins after; None: this is the last one.
    """

    elements: Iterator[FeatureClient]
    after: int | None


@dataclass(frozen=True, slots=True)
class Features:
    """Reads feature lines, of an instance that somebody was let in to.

    Everything raises Unavailable when the store does not answer, or when the catalogue or the holds
    change faster than they can be read; a retry is always safe.
    """

    catalogues: Catalogues
    lane: Lane
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(
        default_factory=WeakValueDictionary, init=False, repr=False
    )  # by instance, of those that are under way or wait

    async def listed(self, index: CatalogueIndex, *, active_only: bool) -> Iterator[Feature]:
        """List the lines in the order of their numbers; expired ones too unless `active_only`.

        They are made as they are taken.
        """
        view = await self._view(index)
        lines = sorted(view.active() if active_only else view.lines(), key=lambda line: line.number)
        return map(view.feature, lines)

    async def one(self, index: CatalogueIndex, number: str) -> Feature:
        """Give the line of a number. Raises NotFound."""
        view = await self._view(index)
        return view.feature(view.line(number))

    async def standings(self, index: CatalogueIndex) -> tuple[int, list[LineStanding]]:
        """Tell how all lines stand, retired ones too, and at which moment."""
        view = await self._view(index)
        return view.at_ms, await asyncio.to_thread(view.standings, view.index.catalogue.lines)

    async def standing(
        self, index: CatalogueIndex, line: str
    ) -> tuple[int, LineStanding, list[LineStanding]]:
        """Tell how the line of an id stands, a retired one too, and when; and the others of its
        feature or of its licence, which are not retired. Raises NotFound.
        """
        view = await self._view(index)
        found = view.index.line.get(line)
        if found is None:
            raise NotFound("This instance has no line of this id", line[:64])
        others = [each for each in view.lines() if each is not found and akin(each, found)]
        one, *rest = view.standings([found, *others])
        return view.at_ms, one, rest

    async def summaries(self, index: CatalogueIndex) -> Summaries:
        """Add up the lines that have started and not expired."""
        view = await self._view(index)
        return summaries_of((line, view.used(line)) for line in view.active())

    async def clients(self, index: CatalogueIndex, number: str, page: Page) -> Clients:
        """Give a page of the hosts that have something of a line which can come back.

        That is what they hold of it, or what of their consumption can still be undone; elements in
        the order of their ids. Raises NotFound.

        Each page is a walk over all hosts of the instance, so a listing costs their number times
        that of its pages. One walk at a time is under way per instance and process, others wait
        their turn; after WALK_S_MAX in all it ends in Unavailable, "not_applied".
        """
        view = await self._view(index)
        line = view.line(number)
        instance = view.index.catalogue.id
        found = await self._walk(instance, line, page, view.at_ms)
        shown = found[: page.limit]
        hosts = [each.host for _, each in shown]
        client, keys = self.catalogues.client, self.catalogues.keys(instance)
        seen = await reads.read_last_seen(client, keys, hosts)
        held = await Hosts(client, self.catalogues.partitions).held(instance, hosts)

        def element(each: Served, holds: list[Held]) -> FeatureClient:
            # One that was dropped since has no last request: what can be undone is left of it.
            asked = Asked(seen.get(each.host, each.last_ms), each.host)
            return served_of(line, each.host, each.units, as_client(instance, asked, holds))

        elements = (element(each, holds) for (_, each), holds in zip(shown, held, strict=True))
        return Clients(elements, shown[-1][0] if len(found) > page.limit else None)

    async def served(
        self, instance: str, line: Line, page: Page, at_ms: int
    ) -> tuple[list[Served], int | None]:
        """Give a page of the hosts that have something of a line which can come back, as they are
        kept, and the id that the next page begins after. Otherwise as `clients`.
        """
        found = await self._walk(instance, line, page, at_ms)
        shown = found[: page.limit]
        return [each for _, each in shown], shown[-1][0] if len(found) > page.limit else None

    async def _walk(
        self, instance: str, line: Line, page: Page, at_ms: int
    ) -> list[tuple[int, Served]]:
        """Find those of a page, and one more when there is another page."""
        if not line.model.reusable and not line.undo_ms:
            return []
        client, keys = self.catalogues.client, self.catalogues.keys(instance)
        async with self._turn(instance) as until_s:
            bounds = reads.Bounds(page.after, page.limit + 1, at_ms, until_s)
            if line.model.reusable:
                return await reads.read_holders(client, keys, line.id, bounds)
            return await reads.read_undoable(client, keys, line.id, line.undo_ms, bounds)

    @asynccontextmanager
    async def _turn(self, instance: str) -> AsyncIterator[float]:
        """Wait to be the only one that walks over an instance's hosts; say until when it may."""
        until_s = asyncio.get_running_loop().time() + WALK_S_MAX
        turn = self._turns.setdefault(instance, asyncio.Lock())
        try:
            async with asyncio.timeout_at(until_s):
                await turn.acquire()
        except TimeoutError:
            raise Unavailable("Too many walk over the hosts", "not_applied") from None
        try:
            yield until_s
        finally:
            turn.release()

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
        """Give what is not available of a line: what other servers consumed of it is used too."""
        return sum(self._taken(line))

    def _taken(self, line: Line) -> tuple[int, int]:
        period = self._periods[period_rule(line)]
        return self._standing.used(line.id, period), self._standing.elsewhere(line.id, period)

    def standings(self, lines: Iterable[Line]) -> list[LineStanding]:
        """Tell how some of the lines stand."""
        return standings_of(self.index, lines, self._taken, self.at_ms)

    def feature(self, line: Line) -> Feature:
        return feature_of(line, self.index.catalogue, self.used(line), self._standing.since_ms)
