"""Syncs of instances with the LicenseSpring cloud: who is due, and what is taken over from it.

Decided here: by which schedule an instance is visited, that its licences are asked about when what
could be sent was, and under which lease what they say is taken over into its catalogue and into
`elsewhere`. Not decided here: how units are sent (delivery.py, licensespring_cloud.py), what
follows from what is said (licensespring_heard.py, core/pulling.py).
Source: protocols/licensespring.md 5 and 10, DESIGN 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from gateway.core.catalogue import CatalogueIndex
from gateway.core.elsewhere import Known
from gateway.core.errors import GatewayError
from gateway.core.model import Catalogue, Line
from gateway.core.ports import (
    Answer,
    CatalogueReader,
    Counters,
    Leased,
    Outbox,
    Places,
    Step,
    Verdict,
)
from gateway.core.pulling import Limits, pulled_catalogue
from gateway.core.syncing import Schedule
from gateway.upstream.licensespring import Identity, identity
from gateway.upstream.licensespring_calls import Calls
from gateway.upstream.licensespring_cloud import Notes
from gateway.upstream.licensespring_heard import (
    Heard,
    changed_here,
    computed,
    heard_of,
    known_after,
    licences,
)

READ_AT_ONCE: Final = 32
AGAIN_S: Final = 60.0  # after a cloud that did not tell
UNANSWERED_MAX: Final = 3  # in a row; then the cloud is taken to be away
# What was heard is taken over while it is fresh: one more time-out, and it still is (BOUNDARY_MS).
PORTION_S: Final = 60.0

_REFUSALS: Final = frozenset({Answer.REFUSED, Answer.INVALID})

_log: Final = structlog.get_logger("gateway.forward")


class Book(Notes, Protocol):
    """Where schedules, counters and what was heard are kept; store/syncs.py says more."""

    async def schedule(self, instance: str, upstream: str) -> Schedule: ...

    async def asking(self, instances: Sequence[str], upstream: str) -> list[str]: ...

    async def synced(self, instance: str, upstream: str, begun_ms: int, answered: int) -> None: ...

    async def counters(self, instance: str, upstream: str) -> Counters: ...

    async def set_elsewhere(
        self, holder: str, instance: str, taken: Sequence[tuple[Line, int, int]]
    ) -> Step: ...


Rewrite = Callable[[str, Callable[[Catalogue], Catalogue]], Awaitable[object]]


_Lines = list[tuple[Line, Identity]]


class _Ended(Enum):
    """How asking ended."""

    ALL = "all were asked about"
    PORTION = "others are left"
    AWAY = "the cloud does not answer"


@dataclass
class Syncing:
    """The syncs of one upstream. `rewrite` writes what becomes of a catalogue, if anything does."""

    calls: Calls
    book: Book
    outbox: Outbox
    catalogues: CatalogueReader
    rewrite: Rewrite
    monotonic_s: Callable[[], float]
    _attached: set[str] = field(default_factory=set)
    _looked: set[str] = field(default_factory=set)  # attached or not: known
    _look_all_s: float = 0.0
    _not_before_s: dict[str, float] = field(default_factory=dict)
    _begun: dict[str, Schedule] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self.calls.upstream.name

    async def due(self, wanted: Collection[str], *, everything: bool) -> Places:
        """List the attached instances whose time it is, by partition."""
        places = await self.outbox.instances()
        await self._learn(places)
        default_ms = int(self.calls.upstream.interval_s * 1_000)
        now_s = self.monotonic_s()
        found: Places = {}
        for partition, names in places.items():
            for instance in names:
                if instance not in self._attached:
                    continue
                schedule = await self.book.schedule(instance, self.name)
                rests = now_s < self._not_before_s.get(instance, 0.0)
                if everything or (schedule.due(default_ms) and not rests):
                    self._begun[instance] = schedule
                elif await self._goes_on(instance, schedule, instance in wanted):
                    self._begun.pop(instance, None)  # to be delivered, and nothing to be asked
                else:
                    continue
                found.setdefault(partition, []).append(instance)
        return found

    async def pull(self, lease: Leased, index: CatalogueIndex) -> None:
        """Ask about each licence of an instance once, and take over what is said.

        Not between two syncs, when it was visited only for what waits to be sent.
        """
        instance = index.catalogue.id
        schedule = self._begun.pop(instance, None)
        if schedule is None or not self._sells(index.catalogue):
            return
        if (await self.book.schedule(instance, self.name)).begun_ms != schedule.begun_ms:
            return  # another process has synced it since it was found due
        left = iter(licences(self.calls.upstream, index))
        ended = _Ended.PORTION
        complete = True
        while ended is _Ended.PORTION:
            said, ended, answered = await self._ask(instance, left)
            complete = complete and answered and not any(each.unclear for each in said)
            if said and not await self._take_over(lease, instance, said):
                return  # the lease is another's, who will ask anew, or nothing is sold any more
        if complete:
            await self.book.synced(instance, self.name, schedule.now_ms, schedule.asked)
        else:
            self._not_before_s[instance] = self.monotonic_s() + AGAIN_S

    async def _goes_on(self, instance: str, schedule: Schedule, wanted: bool) -> bool:
        """Say whether there is something to do between two syncs.

        What was begun goes to its end, schedule or not; what was refused is tried again, as after a
        reset.
        """
        if not schedule.enabled:
            return await self.outbox.sealed(instance, self.name) is not None
        if wanted:
            return True
        marks, now_ms = await self.outbox.marks(instance, self.name)
        return any(mark.retry_ms <= now_ms for mark in marks)

    async def _learn(self, places: Places) -> None:
        """Find out which instances are attached: new ones at once, all of them once an interval."""
        if self.monotonic_s() >= self._look_all_s:
            self._looked.clear()
            self._look_all_s = self.monotonic_s() + self.calls.upstream.interval_s
        else:
            dirty = {name for names in (await self.outbox.dirty()).values() for name in names}
            asking = await self.book.asking(sorted(dirty - self._attached), self.name)
            self._looked.difference_update(asking)
        names = [name for names in places.values() for name in names]
        self._attached.intersection_update(names)
        new = [name for name in names if name not in self._looked]
        for start in range(0, len(new), READ_AT_ONCE):
            some = new[start : start + READ_AT_ONCE]
            for name, index in zip(
                some, await asyncio.gather(*map(self.catalogues.read, some)), strict=True
            ):
                self._looked.add(name)
                if index is not None and self._sells(index.catalogue):
                    self._attached.add(name)
                else:
                    self._attached.discard(name)

    async def _ask(self, instance: str, left: Iterator[_Lines]) -> tuple[list[Heard], _Ended, bool]:
        """Ask about the next licences; say also how that ended, and whether each was answered."""
        until_s = self.monotonic_s() + PORTION_S
        said: list[Heard] = []
        troubles: dict[str, str] = {}
        ended, unanswered, answered = _Ended.ALL, 0, True
        for lines in left:
            looked = await self.calls.look(lines[0][1])
            if isinstance(looked, Verdict):
                troubles |= {line.id: looked.why for line, _ in lines}
                # A refusal is an answer too: it is shown, and asked again with the next sync.
                refused = looked.answer in _REFUSALS
                unanswered = 0 if refused else unanswered + 1
                answered = answered and refused
            else:
                unanswered = 0
                for line, who in lines:
                    each = heard_of(line, who, looked)
                    if each is None:
                        missing = f"unsupported_product_feature: no feature {who.feature} in it"
                        troubles[line.id] = missing
                    else:
                        said.append(each)
            if unanswered == UNANSWERED_MAX:
                ended = _Ended.AWAY
                break
            if self.monotonic_s() >= until_s:
                ended = _Ended.PORTION
                break
        if troubles:
            await self._note_troubles(instance, troubles)
        return said, ended, answered

    async def _take_over(self, lease: Leased, instance: str, said: Sequence[Heard]) -> bool:
        """Take over limits, then what others consumed; False: it is not for us any more."""
        past = await self.book.known(instance, self.name)

        def held() -> bool:
            # Who was suspended must not put old limits in the place of newer ones.
            return lease.valid(self.monotonic_s())

        def limited(current: Catalogue) -> Catalogue:
            return self._limited(current, said, past) if held() else current

        try:
            await self.rewrite(instance, limited)
        except GatewayError as error:  # overtaken again and again: the next sync has another go
            _log.warning("limits_not_pulled", instance=instance, why=error.message)
        index = await self.catalogues.read(instance)
        if index is None or not self._sells(index.catalogue) or not held():
            return False
        counters = await self.book.counters(instance, self.name)
        clock_ms = (await self.book.schedule(instance, self.name)).now_ms
        now_ms = self.calls.now_ms()
        known: dict[str, Known] = {}
        taken: list[tuple[Line, int, int]] = []
        for each in said:
            line = index.line.get(each.line.id)
            if line is None or identity(self.calls.upstream, line) != each.who:
                continue
            before = past.get(line.id)
            before = before if before is not None and before.licence == each.who.tag else None
            units = computed(line, each.total, counters, clock_ms)
            if each.total is not None and units is not None:
                taken.append((line, each.total.at_ms, units))
            known[line.id] = now = known_after(each, before, counters, units, now_ms)
            if now.elsewhere != (before.elsewhere if before else 0):
                _log.info("elsewhere_moved", instance=instance, line=line.id, units=now.elsewhere)
        if taken and await self.book.set_elsewhere(lease.holder, instance, taken) is not Step.DONE:
            return False
        await self.book.note(instance, self.name, known)
        return True

    def _limited(
        self, current: Catalogue, said: Sequence[Heard], past: Mapping[str, Known]
    ) -> Catalogue:
        """Give a catalogue the limits that were told.

        It may have changed since they were asked for: by a file, so that a line stands for another
        licence now, or is of no cloud any more; by a client, whose overages must not be lost.
        """
        if not self._sells(current):
            return current
        lines = {line.id: line for line in current.lines}
        limits: dict[str, Limits] = {}
        own: list[str] = []
        for each in said:
            line = lines.get(each.line.id)
            if line is None or identity(self.calls.upstream, line) != each.who:
                continue
            limits[line.id] = each.limits
            if changed_here(line, each, past.get(line.id)):
                own.append(line.id)
        return pulled_catalogue(current, limits, own, by=self.name)

    def _sells(self, catalogue: Catalogue) -> bool:
        return any(each.name == self.name for each in catalogue.upstreams)

    async def _note_troubles(self, instance: str, troubles: Mapping[str, str]) -> None:
        past = await self.book.known(instance, self.name)
        noted = {}
        for line, why in troubles.items():
            code, _, text = why.partition(": ")
            before = past.get(line) or Known(at_ms=0)
            noted[line] = replace(before, at_ms=self.calls.now_ms(), code=code, text=text)
        await self.book.note(instance, self.name, noted)
