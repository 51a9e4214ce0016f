"""Looks at the store while nobody asks, so that a scrape can tell what is there without waiting.

Decided here: how often, and how much at a time: INSTANCES_MAX or LINES_MAX of the instances, in
turn, so that a store of any size is looked at for the same price, and gauges say since when all of
it was. One worker of a gateway looks. An instance whose books cannot be read counts as out of
balance and hides no other. Not decided here: whether the store is fit (health.py), which sums must
agree (balance.py). A store that is away is told as that; what was known of its outboxes stays.
Source: INTERFACE 5, RELIABILITY 1 (I3).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from typing import Final

import msgspec
import structlog
from redis.exceptions import RedisError

from gateway.beside import beside
from gateway.core.errors import GatewayError
from gateway.core.meters import Meters
from gateway.core.ports import PartlyUnavailable
from gateway.service.balance import audit
from gateway.store.damages import is_damage
from gateway.store.opening import Store
from gateway.store.outbox import RedisOutbox
from gateway.store.standings import OutboxStanding, read_standing

LOOK_S: Final = 5.0
LOOK_S_MAX: Final = 4.0  # for one look; what it did not get to is the next one's
CLOCKS_S_MAX: Final = 1.5
INSTANCES_MAX: Final = 100  # looked at in one look
LIST_SHARE_MAX: Final = 0.01  # of all time that may go into listing them
LINES_MAX: Final = 1_000  # of them together in one look, on average
TELL_AGAIN_S: Final = 3_600.0  # that an instance is still out of balance

_log: Final = structlog.get_logger("gateway.store")


class Found(msgspec.Struct, frozen=True):
    """What was found at an instance: its outboxes, and how many sums of its books do not agree."""

    at_s: float
    outboxes: Mapping[str, OutboxStanding]
    differences: int = 0


@dataclass
class Lookout:
    """Keeps the gauges of the store. `reasons` says why the gateway is not ready."""

    store: Store
    outbox: RedisOutbox
    meters: Meters
    reasons: Callable[[], Awaitable[list[str]]]
    now_s: Callable[[], float] = time.time
    clock_s: Callable[[], float] = time.monotonic
    _found: dict[str, Found] = field(default_factory=dict)  # the longest ago looked at comes first
    _imbalanced: dict[str, float] = field(default_factory=dict)  # and when that was last logged
    _names: set[str] = field(default_factory=set)  # of all instances, as last listed
    _list_again_at_s: float = -math.inf
    _lines_ahead: int = 0
    _been_through: bool = False

    async def run(self) -> None:
        """Look for ever, every LOOK_S."""
        # From now on its age tells who never comes through.
        self.meters.set(_LOOKED, self.now_s())
        while True:
            try:
                await self.look()
            except Exception:  # a defect must not end all looking
                _log.exception("look_failed")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once. Raises nothing that a store which is away would."""
        self.meters.set("gateway_store_up", await self._looks_up())
        self.meters.set("gateway_ready", not await self.reasons())
        strength = self.store.strength
        self.meters.set("gateway_store_weak", len(strength.weak))
        self.meters.set("gateway_store_memory_bytes", strength.memory.used)
        self.meters.set("gateway_store_memory_max_bytes", strength.memory.most)
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                await self._go_round()
        except (RedisError, OSError, GatewayError):  # and the time-out; the next look goes on
            pass
        self._tell()

    async def _looks_up(self) -> bool:
        try:
            async with asyncio.timeout(CLOCKS_S_MAX):
                clocks_s, at_s = await self.store.clocks_s(), self.now_s()
        except (RedisError, OSError, GatewayError):
            return False
        if clocks_s:
            skew_s = max((at_s - clock_s for clock_s in clocks_s.values()), key=abs)
            self.meters.set("gateway_clock_skew_seconds", skew_s)
        return bool(clocks_s)

    async def _go_round(self) -> None:
        """Look at those instances that were looked at longest ago, or never."""
        whole = await self._list()
        names = self._names
        never = nsmallest(INSTANCES_MAX, names - self._found.keys())
        longest_ago = islice((name for name in self._found if name in names), INSTANCES_MAX)
        # Who has looked at a large one rests until that is paid off, in later looks.
        self._lines_ahead = max(0, self._lines_ahead - LINES_MAX)
        for name in [*never, *longest_ago][:INSTANCES_MAX]:
            if self._lines_ahead >= LINES_MAX:
                break
            await self._try_to_look_at(name)
        self._been_through |= whole and names <= self._found.keys()
        if self._been_through and names <= self._found.keys():
            # Of nodes that are away as well: what was last found there is getting old.
            at_s = min((each.at_s for each in self._found.values()), default=self.now_s())
            self.meters.set(_LOOKED, at_s)

    async def _list(self) -> bool:
        """List the instances; say whether all were told last time. Where that takes long it is done
        in every so many looks.
        """
        began_s = self.clock_s()
        if began_s < self._list_again_at_s:
            return True
        try:
            places, whole = await self.outbox.instances(), True
        except PartlyUnavailable as error:
            places, whole = error.found, False
        self._names = {name for some in places.values() for name in some}
        if whole:
            self._found = {name: each for name, each in self._found.items() if name in self._names}
            pause_s = (self.clock_s() - began_s) / LIST_SHARE_MAX
            self._list_again_at_s = began_s + (pause_s if pause_s > LOOK_S else 0.0)
        return whole

    async def _try_to_look_at(self, name: str) -> None:
        """Look at one instance. Raises what the store being away would, nothing of its books."""
        try:
            self._lines_ahead += await self._look_at(name)
        except Exception as error:
            if is_damage(error):
                self._cannot_read(name)
            elif not isinstance(error, GatewayError) or error.__cause__ is not None:
                raise
            # Else it is changed, or removed, faster than it can be read: its turn comes again.

    async def _look_at(self, instance: str) -> int:
        """Look at one instance, and say how many lines it has."""
        catalogues = self.store.catalogues
        at_s = self.now_s()
        index = await catalogues.read(instance)
        if index is None:  # being removed, or restored
            self._found.pop(instance, None)
            self._found[instance] = Found(at_s, {})
            return 0
        outboxes = {
            each.name: await read_standing(
                catalogues.client, catalogues.keys(instance), each.name, by_host=each.by_host
            )
            for each in index.catalogue.upstreams
        }
        books = await audit(catalogues, instance, deep=False, beside=True)
        self._found.pop(instance, None)
        self._found[instance] = Found(at_s, outboxes, len(books.differences))
        if not books.differences:
            self._imbalanced.pop(instance, None)
        elif self._is_to_be_told(instance):
            _log.error("ledger_imbalance", instance=instance, first=books.differences[0])
        return len(index.catalogue.lines)

    def _cannot_read(self, instance: str) -> None:
        """Count what cannot be read as out of balance, and go on to the others."""
        known = self._found.pop(instance, None)
        outboxes = {} if known is None else known.outboxes
        self._found[instance] = Found(self.now_s(), outboxes, differences=1)
        if self._is_to_be_told(instance):
            _log.exception("instance_unreadable", instance=instance)

    def _is_to_be_told(self, instance: str) -> bool:
        """Say whether the log is to hear, now or once more, that an instance is out of balance."""
        told_s = self._imbalanced.get(instance)
        if told_s is not None and self.now_s() < told_s + TELL_AGAIN_S:
            return False
        self._imbalanced[instance] = self.now_s()
        return True

    def _tell(self) -> None:
        """Set the gauges of all that was found, whenever it was; nothing before anything was."""
        meters = self.meters
        if not (self._found or self._been_through):
            return
        oldest_ms: dict[str, int] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for found in self._found.values():
            for name, each in found.outboxes.items():
                upstream = meters.layout.upstream(name)
                counts["gateway_blocked_rows", upstream] += each.blocked_rows
                counts["gateway_parked_batches", upstream] += each.parked
                counts["gateway_dead_batches", upstream] += each.dead
                if each.oldest_ms is not None:
                    before_ms = oldest_ms.get(upstream, each.oldest_ms)
                    oldest_ms[upstream] = min(before_ms, each.oldest_ms)
        now_s = self.now_s()
        for upstream in meters.layout.upstreams:
            age_s = now_s - oldest_ms[upstream] / 1000 if upstream in oldest_ms else 0.0
            meters.set("gateway_outbox_oldest_seconds", max(0.0, age_s), upstream)
            for metric in _COUNTED:
                meters.set(metric, counts[metric, upstream], upstream)
        differences = sum(found.differences for found in self._found.values())
        meters.set("gateway_ledger_imbalance", differences)


_LOOKED: Final = "gateway_store_look_timestamp_seconds"
_COUNTED: Final = ("gateway_blocked_rows", "gateway_parked_batches", "gateway_dead_batches")


@asynccontextmanager
async def looking(lookout: Lookout) -> AsyncIterator[None]:
    """Have it look until the end."""
    async with beside(lookout.run()):
        yield
