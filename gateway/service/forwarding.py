"""How usage goes upstream, as the people of one instance see it, and the demand that it goes now.

Decided here: what is told of an attached upstream, how what waits is sorted by age, and that what
cannot be read of one hides no other. Not decided here: what was set aside and what is decided about
it (asides.py), how and when it is forwarded (upstream/): a demand is seen by whoever forwards
within some seconds. Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import structlog

from gateway.core.catalogue import CatalogueIndex
from gateway.core.decisions import Aside, Blocked, Decision
from gateway.core.errors import NotFound
from gateway.core.model import Attachment
from gateway.core.ports import Standing
from gateway.core.syncing import Schedule
from gateway.core.usage import Row, units_by_scope
from gateway.service.asides import Desk, Item
from gateway.service.balance import read_books
from gateway.store.catalogues import Catalogues
from gateway.store.damages import describe, is_damage
from gateway.store.ledgers import Ledger
from gateway.store.outbox_looks import ROWS_LOOKED_MAX, Looks, OutboxLook, UnderWay
from gateway.store.syncs import Syncs

HOUR_MS: Final = 3_600_000
DAY_HOURS: Final = 24
CLOUD: Final = "licensespring"

_log: Final = structlog.get_logger("gateway.forward")


class Upstream(msgspec.Struct, frozen=True):
    """What this gateway's configuration says of an upstream, without credentials.

    `horizon_ms` is how long it remembers ids, None for a kind that is not asked for that.
    """

    kind: str
    address: str
    interval_ms: int
    horizon_ms: int | None


class Age(msgspec.Struct, frozen=True):
    """Rows that wait, of about one age. `oldest_ms`: when the hour of the oldest began."""

    name: str
    rows: int
    units: int
    oldest_ms: int | None


class Sums(msgspec.Struct, frozen=True):
    """What became of all units on the way to one upstream; `open` without what is `carried`."""

    open: int = 0
    sealed: int = 0
    parked: int = 0
    forwarded: int = 0
    dead: int = 0
    carried: int = 0


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """The way to one attached upstream. `upstream` None: it is not configured here.

    `trouble` says what cannot be read of it; the rest is then empty. `sums` None: they cannot be
    read. `partly`: there are more open rows than `ages` tell of. `aside`: without rows.
    """

    name: str
    by_host: bool
    upstream: Upstream | None
    sums: Sums | None = None
    trouble: str = ""
    ages: tuple[Age, ...] = ()
    partly: bool = False
    sealed: UnderWay | None = None
    blocked_rows: int = 0
    aside: tuple[Aside, ...] = ()
    schedule: Schedule = Schedule()

    @property
    def waiting_rows(self) -> int:
        """Open rows that are to be sent, as far as they were looked at."""
        return sum(age.rows for age in self.ages)

    @property
    def oldest_ms(self) -> int | None:
        """When the hour of the oldest row began that is to be sent."""
        moments = [age.oldest_ms for age in self.ages if age.oldest_ms is not None]
        moments += [row.hour * HOUR_MS for row in (self.sealed.rows if self.sealed else ())]
        return min(moments, default=None)

    @property
    def parked(self) -> int:
        """How many batches may have been applied, and wait for a person."""
        return sum(each.standing is Standing.PARKED for each in self.aside)

    @property
    def dead(self) -> int:
        """How many batches are dead, and nobody has said more."""
        return len(self.aside) - self.parked

    @property
    def done(self) -> bool:
        """Whether nothing waits, neither to be sent nor for a decision."""
        waits = self.waiting_rows or self.sealed or self.blocked_rows or self.aside or self.partly
        return not waits and not self.trouble and self.sums is not None


class View(msgspec.Struct, frozen=True):
    """The ways of an instance at a moment of the store's. `trouble`: why there are no sums."""

    lanes: tuple[Lane, ...]
    now_ms: int
    trouble: str = ""

    @property
    def done(self) -> bool:
        """Whether everything was forwarded."""
        return all(lane.done for lane in self.lanes)


class Waiting(msgspec.Struct, frozen=True):
    """What waits for a person on one way; `trouble` says why that cannot be read."""

    blocked: Sequence[Item] = ()
    batches: Sequence[Item] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """The ways of instances to their upstreams. `upstreams` are those configured here, by name."""

    desk: Desk
    looks: Looks
    syncs: Syncs
    catalogues: Catalogues
    upstreams: Mapping[str, Upstream]

    async def view(self, index: CatalogueIndex, now_ms: int) -> View:
        """Look at all ways of an instance; `now_ms` counts where the store's time cannot be read.

        Raises Unavailable when the store is away.
        """
        ledger: Ledger | None = None
        trouble = ""
        try:
            index, ledger = await read_books(self.catalogues, index.catalogue.id)
        except Exception as error:
            if not is_damage(error):
                raise
            trouble = describe(error)
        at_ms = now_ms if ledger is None else ledger.now_ms
        lanes = [
            await self._lane(index.catalogue.id, each, ledger, at_ms)
            for each in index.catalogue.upstreams
        ]
        return View(tuple(lanes), at_ms, trouble)

    def desk_of(self, instance: str) -> Desk:
        """Give the desk at which what is one instance's is decided."""
        return replace(self.desk, only=instance)

    async def waiting(self, instance: str, lane: Lane, some: Sequence[Aside]) -> Waiting:
        """Read what waits on a way for a person: refused lines, those that wait longest first, and
        some of its batches. Raises Unavailable when the store is away.
        """
        if lane.trouble:
            return Waiting()
        try:
            blocked: list[Blocked] = []
            batches: list[Aside] = []
            if lane.blocked_rows:
                blocked = await self.looks.blocked(instance, lane.name, rows_max=ROWS_LOOKED_MAX)
            if some:
                ids = [each.id for each in some]
                batches = await self.looks.batches(instance, lane.name, ids)
        except Exception as error:
            if not is_damage(error):
                raise
            return Waiting(trouble=describe(error))
        items = sorted(map(self.desk.of_blocked, blocked), key=_since)
        return Waiting(items, [self.desk.of_batch(each) for each in batches])

    async def record(
        self, instance: str, count_max: int, before: str = ""
    ) -> list[tuple[str, Decision]]:
        """Read what people decided, the newest first, each with its place in the record."""
        return await self.looks.decided(instance, count_max, before)

    async def sync_now(self, index: CatalogueIndex, upstream: str, user: str) -> None:
        """Demand that what waits for an upstream goes at once.

        Raises NotFound for one that is not attached or not configured here, Unavailable.
        """
        instance = index.catalogue.id
        if upstream not in {each.name for each in index.catalogue.upstreams}:
            raise NotFound(f"Upstream {upstream[:64]} is not attached to this instance")
        if upstream not in self.upstreams:
            raise NotFound(f"Upstream {upstream[:64]} is not in this gateway's configuration")
        await self.syncs.ask(instance, upstream)
        _log.info("sync_demanded", instance=instance, upstream=upstream, user=user)

    async def _lane(
        self, instance: str, attached: Attachment, ledger: Ledger | None, now_ms: int
    ) -> Lane:
        name = attached.name
        lane = Lane(
            name=name,
            by_host=attached.by_host,
            upstream=self.upstreams.get(name),
            sums=None if ledger is None else _sums(ledger, name),
        )
        try:
            look = await self.looks.look(instance, name)
            aside = await self.looks.facts(instance, name)
            schedule = await self.syncs.schedule(instance, name)
        except Exception as error:
            if not is_damage(error):
                raise
            return msgspec.structs.replace(lane, trouble=describe(error))
        return msgspec.structs.replace(
            lane,
            ages=_ages(look, now_ms),
            partly=look.open_rows > len(look.rows),
            sealed=look.sealed,
            blocked_rows=look.blocked_rows,
            aside=tuple(aside),
            schedule=schedule,
        )


def _sums(ledger: Ledger, upstream: str) -> Sums:
    found = [sums for (_, name), sums in ledger.upstreams.items() if name == upstream]
    carried = sum(units for (_, name), units in ledger.carried.items() if name == upstream)
    return Sums(
        open=sum(each.open for each in found) - carried,
        sealed=sum(each.sealed for each in found),
        parked=sum(each.parked for each in found),
        forwarded=sum(each.forwarded for each in found),
        dead=sum(each.dead for each in found),
        carried=carried,
    )


def _ages(look: OutboxLook, now_ms: int) -> tuple[Age, ...]:
    hour = now_ms // HOUR_MS
    rows = _to_be_sent(look)
    return (
        _age("This hour", [row for row in rows if row.hour >= hour]),
        _age("Up to a day", [row for row in rows if hour - DAY_HOURS <= row.hour < hour]),
        _age("Older than a day", [row for row in rows if row.hour < hour - DAY_HOURS]),
    )


def _age(name: str, rows: Sequence[Row]) -> Age:
    oldest_ms = min(row.hour for row in rows) * HOUR_MS if rows else None
    return Age(name, len(rows), sum(row.units for row in rows), oldest_ms)


def _to_be_sent(look: OutboxLook) -> list[Row]:
    """Leave out what was undone and is not taken back: it waits to be netted."""
    marked = {mark.scope for mark in look.carried}
    sums = units_by_scope(marked, look.rows)
    carried = {scope for scope, units in sums.items() if sum(units) < 0}
    return [row for row in look.rows if (row.line, "") not in carried and row.scope not in carried]


def _since(item: Item) -> tuple[int, str]:
    return item.since_ms or 0, item.subject
