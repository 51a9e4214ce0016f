"""The story of what was set aside: shown to a person, decided by one, settled by a receipt.

Decided here: what is listed over all instances and upstreams, by which address it is found, what is
said of one that is gone, and in which order a receipt settles. Not decided here: which decisions
fit (decisions.py), how one is carried out and recorded in one step (store/asides.py).
Addresses: a batch's id; INSTANCE/UPSTREAM/LINE for what is blocked. Source: DESIGN 5, INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from gateway.core.decisions import Aside, Blocked, Decision, Fate, units_of
from gateway.core.errors import GatewayError, InvalidInput
from gateway.core.keys import PublicKey
from gateway.core.model import is_instance_id
from gateway.core.moments import iso
from gateway.core.ports import Standing
from gateway.core.usage import Row
from gateway.service import decisions
from gateway.service.decisions import RECEIPT, SPOOL, Action, Known
from gateway.store.asides import Asides
from gateway.store.catalogues import Catalogues
from gateway.upstream.spool import Trailer, check_trailer

INSTANCES_AT_ONCE: Final = 64  # looked at together
ADDRESS_SHOWN_MAX: Final = 200  # characters of an address that are repeated
BLOCKED: Final = "blocked"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person can decide about: a batch set aside, or the blocked rows of one line.

    `kind` is the upstream's, "" when it is not configured. `standing` is parked, dead or blocked.
    Of blocked rows `since_ms` is None when they are about to be tried again, `retry_ms` when that
    is; they belong to no batch, so `attempts` is None.
    """

    address: str
    instance: str
    upstream: str
    kind: str
    standing: str
    known: Known
    since_ms: int | None
    attempts: int | None
    why: str
    rows: tuple[Row, ...]
    retry_ms: int | None = None
    body: bytes = b""
    blocked: Blocked | None = None

    @property
    def units(self) -> Mapping[str, int]:
        """Its units by line."""
        return units_of(self.rows)

    @property
    def subject(self) -> str:
        """What the record calls it: the batch's id, or the line's."""
        return self.blocked.line if self.blocked else self.address

    @property
    def look_for(self) -> str:
        """Say what a person looks for at the upstream."""
        return decisions.look_for(
            self.kind, self.address, self.instance, self.upstream, len(self.rows)
        )


class Recorded(msgspec.Struct, frozen=True):
    """A decision of the past, and of which instance it was."""

    instance: str
    decision: Decision


class Told(StrEnum):
    """What a receipt's line came to."""

    SETTLED = "settled"
    BEFORE = "settled before"
    NOT_WAITING = "not waiting"


class Receipt(msgspec.Struct, frozen=True):
    """A line of a receipt and what it came to; `why` for one that is not waiting."""

    trailer: Trailer
    told: Told
    why: str = ""


class Gone(GatewayError):
    """What was named is not set aside (any more); nothing was changed.

    `decided` says what the record knows of it; "" when that is nothing.
    """

    def __init__(self, address: str, decided: str = "") -> None:
        why = f" any more: {decided}" if decided else "; forward list shows what is"
        super().__init__(f"{address} is not set aside{why}")
        self.decided = decided


@dataclass
class Desk:
    """What is before a person who decides. `kinds` are those of the configured upstreams.

    With `only` it is about one instance: what is of others is not there.
    """

    asides: Asides
    catalogues: Catalogues
    kinds: Mapping[str, str] = field(default_factory=dict)
    only: str = ""

    async def items(self) -> AsyncIterator[Item]:
        """Give everything set aside, by instance and upstream, the earliest first."""
        async for instance, upstream in self.places():
            for aside in await self.asides.batches(instance, upstream):
                yield self.of_batch(aside)
            for blocked in await self.asides.blocked(instance, upstream):
                yield self.of_blocked(blocked)

    async def find(self, address: str) -> Item:
        """Find what an address names, a batch with its body.

        Raises InvalidInput for what is no address, Gone with what is known when it is not there.
        """
        parts = address.split("/")
        if len(parts) not in (1, 3) or not all(is_instance_id(part) for part in parts):
            raise InvalidInput(
                f"{address[:ADDRESS_SHOWN_MAX]!r} is no address; expected the id of a batch, or"
                " INSTANCE/UPSTREAM/LINE for what is blocked, as forward list shows them"
            )
        if len(parts) == 3:
            named, name, line = parts
            if not self.only or named == self.only:
                for blocked in await self.asides.blocked(named, name, line=line):
                    return self.of_blocked(blocked)
        else:
            async for instance, upstream in self.places():
                aside = await self.asides.batch(instance, upstream, address)
                if aside is not None:
                    return self.of_batch(aside)
        raise await self._gone(parts)

    async def decide(self, item: Item, action: Action, who: str, why: str) -> Fate:
        """Carry out a decision and record it; gives what became of the units.

        Raises InvalidInput when it does not fit, Gone when somebody else was first.
        """
        fate = decisions.judge(item.known, action)
        decision = Decision(who, action, why, item.upstream, item.subject)
        if item.blocked is not None:
            done = await self.asides.release(item.blocked, fate, decision)
        else:
            done = await self.asides.decide(item.instance, fate, item.address, decision)
        if not done:
            raise await self._gone(item.address.split("/"))
        return fate

    async def record(self) -> list[Recorded]:
        """Read what was decided, the newest first."""
        names = await self._names()
        found: list[Recorded] = []
        for some in _portions(names):
            read = await asyncio.gather(*(self.asides.decisions(name) for name in some))
            for name, each in zip(some, read, strict=True):
                found += [Recorded(name, decision) for decision in each]
        return sorted(found, key=lambda each: each.decision.at_ms, reverse=True)

    async def settle(
        self, trailers: Sequence[Trailer], public: PublicKey, who: str, why: str
    ) -> AsyncIterator[Receipt]:
        """Settle the batches that a receipt names, one after the other.

        Raises InvalidInput, with nothing settled, when a signature is not ours. A repeat settles
        what is left.
        """
        forged = [each for each in trailers if not check_trailer(each, public)]
        if forged:
            raise InvalidInput(
                *(
                    f"batch {each.batch} (file {each.number}): the signature is not this gateway's"
                    for each in forged
                )
            )
        past: dict[str, dict[tuple[str, str], Decision]] = {}
        for trailer in trailers:
            why_not = await self._settle(trailer, Decision(who, RECEIPT, why, trailer.upstream))
            if not why_not:
                yield Receipt(trailer, Told.SETTLED)
                continue
            if trailer.instance not in past:
                past[trailer.instance] = await self._past(trailer.instance)
            former = past[trailer.instance].get((trailer.upstream, trailer.batch))
            if former is None:
                yield Receipt(trailer, Told.NOT_WAITING, why_not)
            elif former.what == RECEIPT:
                yield Receipt(trailer, Told.BEFORE)
            else:
                yield Receipt(trailer, Told.NOT_WAITING, _said(former))

    async def _settle(self, trailer: Trailer, decision: Decision) -> str:
        """Settle one batch; "" when it was waiting, else why it was not."""
        not_there = "it is not set aside here; if its file is new, let the forwarder run first"
        aside = await self.asides.batch(trailer.instance, trailer.upstream, trailer.batch)
        if aside is None:
            return not_there
        if aside.standing is not Standing.PARKED:
            return f"it is {aside.standing} and waits for no receipt"
        if hashlib.sha256(aside.body).hexdigest() != trailer.sha256:
            return "its file held other bytes than were sealed here"
        decision = msgspec.structs.replace(decision, subject=trailer.batch)
        done = await self.asides.decide(trailer.instance, Fate.FORWARDED, trailer.batch, decision)
        return "" if done else not_there

    async def _past(self, instance: str) -> dict[tuple[str, str], Decision]:
        found = await self.asides.decisions(instance)
        return {(each.upstream, each.subject): each for each in reversed(found)}

    async def places(self) -> AsyncIterator[tuple[str, str]]:
        """Give the instances and upstreams where something is set aside."""
        for some in _portions(await self._names()):
            indexes = await asyncio.gather(*(self.catalogues.get(name) for name in some))
            places = [
                (index.catalogue.id, upstream.name)
                for index in indexes
                if index is not None
                for upstream in index.catalogue.upstreams
            ]
            for place in await self.asides.occupied(places):
                yield place

    async def _names(self) -> Sequence[str]:
        return [self.only] if self.only else await self.catalogues.instances()

    async def _gone(self, parts: Sequence[str]) -> Gone:
        """Say that nothing is there, and what the record knows of it."""
        *place, subject = parts
        for each in await self.record():
            decision = each.decision
            here = [each.instance, decision.upstream] if place else []
            if decision.subject == subject and here == place:
                return Gone("/".join(parts), _said(decision))
        return Gone("/".join(parts))

    def of_batch(self, aside: Aside) -> Item:
        """Give what a person sees of a batch."""
        kind = self.kinds.get(aside.upstream, "")
        known = Known.HANDED_OVER if kind == SPOOL else Known.IN_DOUBT
        return Item(
            address=aside.id,
            instance=aside.instance,
            upstream=aside.upstream,
            kind=kind,
            standing=aside.standing,
            known=Known.DEAD if aside.standing is Standing.DEAD else known,
            since_ms=aside.at_ms,
            attempts=aside.attempts,
            why=aside.why,
            rows=aside.rows,
            body=aside.body,
        )

    def of_blocked(self, blocked: Blocked) -> Item:
        """Give what a person sees of a line's blocked rows."""
        return Item(
            address=f"{blocked.instance}/{blocked.upstream}/{blocked.line}",
            instance=blocked.instance,
            upstream=blocked.upstream,
            kind=self.kinds.get(blocked.upstream, ""),
            standing=BLOCKED,
            known=Known.BLOCKED,
            since_ms=min((mark.since_ms for mark in blocked.marks), default=None),
            attempts=None,
            why="; ".join(sorted({mark.why for mark in blocked.marks})),
            rows=blocked.rows,
            retry_ms=min((mark.retry_ms for mark in blocked.marks), default=None),
            blocked=blocked,
        )


def _said(decision: Decision) -> str:
    return f"{decision.who}, {iso(decision.at_ms)}: {decision.what} ({decision.why})"


def _portions(names: Sequence[str]) -> list[Sequence[str]]:
    return [
        names[start : start + INSTANCES_AT_ONCE]
        for start in range(0, len(names), INSTANCES_AT_ONCE)
    ]
