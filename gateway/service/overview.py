"""How an instance is doing, in one look: its books, what is denied, what is not sent, the store.

Decided here: what is looked at each time (small, whatever the instance's size) and what is kept for
a while (lately.py): the books, forecasts and denials of large instances are dear to read. A part
that cannot be read hides no other. Not decided here: which sums must agree (balance.py), how near
is near (core/reports_capacity.py), how it is shown (web/ui/overview.py).
Source: SEMANTICS 11, INTERFACE 5.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Final, TypeVar

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.metrics import OTHER
from gateway.core.model import Attachment
from gateway.core.periods import local_day, zone
from gateway.core.reports_capacity import NearCapacity
from gateway.service.balance import audit
from gateway.service.boards import Board
from gateway.service.features import Features
from gateway.service.health import reasons_not_ready
from gateway.service.lately import Lately, Seen, said
from gateway.service.line_standings import LineStanding, fullest_first
from gateway.service.reports import Reports
from gateway.store.lines import read_denials
from gateway.store.opening import Store
from gateway.store.standings import OutboxStanding, read_standing
from gateway.store.usage import Record

SHOWN_MAX: Final = 20  # of each list: who wants more has a page for it

T = TypeVar("T")


class Waiting(msgspec.Struct):
    """Units of all lines together that an upstream does not have."""

    open: int = 0
    sealed: int = 0
    parked: int = 0
    dead: int = 0


class Balance(msgspec.Struct, frozen=True):
    """What the books come to: how many sums do not agree, the first SHOWN_MAX of them, and what
    waits by upstream.
    """

    differences: int
    first: list[str]
    waiting: Mapping[str, Waiting]


class Denial(msgspec.Struct, frozen=True):
    """How often a line denied for one reason; `line` is "" for features that no line has."""

    line: str
    code: str
    count: int


class Denied(msgspec.Struct, frozen=True):
    """What was denied on a day: in all, and most often; `kinds` counts lines and codes."""

    day: date
    total: int
    kinds: int
    most: list[Denial]


class Near(msgspec.Struct, frozen=True):
    """A line near its capacity, and what is forecast of it; None: nothing (yet)."""

    standing: LineStanding
    forecast: NearCapacity | None


class Fullest(msgspec.Struct, frozen=True):
    """The lines near capacity: how many, and the first SHOWN_MAX; and all lines in force."""

    count: int
    lines: list[Near]
    of: int


class Upstream(msgspec.Struct, frozen=True):
    """How an attached upstream is doing. `away` and `stopped` count processes of this gateway, None
    where that is not known; `kind` is "" when it is not configured here.
    """

    name: str
    kind: str
    away: int | None
    stopped: int | None
    outbox: Seen[OutboxStanding]


class Fitness(msgspec.Struct, frozen=True):
    """The store: what speaks against sending requests here, and what it is."""

    reasons: list[str]
    ack: str
    version: str
    memory_used: int
    memory_most: int


class View(msgspec.Struct, frozen=True):
    """All of it."""

    balance: Seen[Balance]
    fullest: Seen[Fullest]
    forecasts: Seen[Mapping[str, NearCapacity]]
    denied: Seen[Denied]
    upstreams: list[Upstream]
    store: Fitness


class Overview:
    """Looks at instances. `kinds` are those of the configured upstreams, by name."""

    def __init__(
        self,
        store: Store,
        features: Features,
        reports: Reports,
        board: Board,
        kinds: Mapping[str, str],
        now_s: Callable[[], float],
    ) -> None:
        self._store, self._features, self._reports = store, features, reports
        self._board, self._kinds, self._now_s = board, kinds, now_s
        self._balance = Lately(self._look_at_books)
        self._denied = Lately(self._look_at_denials)
        self._near = Lately(self._look_ahead)

    async def look(self, index: CatalogueIndex) -> View:
        """Look at an instance; what cannot be read now says why in its place."""
        name, attached = index.catalogue.id, index.catalogue.upstreams
        fitness, balance, denied, near, standings, outboxes = await asyncio.gather(
            self._fitness(),
            self._balance.at(index),
            self._denied.at(index),
            self._near.at(index),
            _attempt(self._features.standings(index)),
            asyncio.gather(*(_attempt(self._outbox(name, each)) for each in attached)),
        )
        upstreams = [self._upstream(*each) for each in zip(attached, outboxes, strict=True)]
        return View(balance, _fullest(standings, near), near, denied, upstreams, fitness)

    async def _fitness(self) -> Fitness:
        reasons = await reasons_not_ready(self._store, self._now_s)
        strength = self._store.strength
        return Fitness(reasons, self._store.ack, strength.version, *strength.memory)

    async def _look_at_books(self, index: CatalogueIndex) -> Balance:
        catalogues = self._store.catalogues
        books = await audit(catalogues, index.catalogue.id, deep=False, beside=True)
        waiting: dict[str, Waiting] = {}
        for entry in books.lines:
            if entry.upstream is not None:
                sums = waiting.setdefault(entry.upstream, Waiting())
                sums.open += entry.open
                sums.sealed += entry.sealed
                sums.parked += entry.parked
                sums.dead += entry.dead
        return Balance(len(books.differences), books.differences[:SHOWN_MAX], waiting)

    async def _look_at_denials(self, index: CatalogueIndex) -> Denied:
        catalogues, catalogue = self._store.catalogues, index.catalogue
        keys = catalogues.keys(catalogue.id)
        now_ms = (await Record(catalogues.client, keys).clock()).now_ms
        today = local_day(now_ms, zone(catalogue.timezone))
        found = await read_denials(catalogues.client, keys, today)
        most = Counter(found).most_common(SHOWN_MAX)
        denials = [Denial(line, code, count) for (line, code), count in most]
        return Denied(today, sum(found.values()), len(found), denials)

    async def _look_ahead(self, index: CatalogueIndex) -> Mapping[str, NearCapacity]:
        return {each.line: each for each in await self._reports.near_capacity(index)}

    async def _outbox(self, instance: str, attached: Attachment) -> OutboxStanding:
        client, keys = self._store.client, self._store.catalogues.keys(instance)
        return await read_standing(client, keys, attached.name, by_host=attached.by_host)

    def _upstream(self, attached: Attachment, outbox: Seen[OutboxStanding]) -> Upstream:
        name = attached.name
        label = self._board.layout.upstream(name)
        away, stopped = (
            None if label == OTHER else self._board.gauge(metric, label)
            for metric in ("gateway_upstream_away", "gateway_upstream_stopped")
        )
        return Upstream(name, self._kinds.get(name, ""), away, stopped, outbox)


def _fullest(
    standings: Seen[tuple[int, list[LineStanding]]], forecasts: Seen[Mapping[str, NearCapacity]]
) -> Seen[Fullest]:
    """Choose the lines near capacity: those that are so now, were lately, or will be."""
    if standings.found is None:
        return Seen(None, standings.at_ms, standings.why)
    at_ms, lines = standings.found
    ahead = forecasts.found or {}
    in_force = [each for each in lines if each.in_force]
    near = [each for each in in_force if each.near or each.line.id in ahead]
    near.sort(key=fullest_first)
    shown = [Near(each, ahead.get(each.line.id)) for each in near[:SHOWN_MAX]]
    return Seen(Fullest(len(near), shown, len(in_force)), at_ms)


async def _attempt(look: Awaitable[T]) -> Seen[T]:
    """Give what is found, or why nothing is."""
    try:
        return Seen(await look)
    except Exception as error:
        return Seen(None, 0, said(error))
