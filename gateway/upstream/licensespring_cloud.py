"""The LicenseSpring cloud as sender and as reconciler: never twice, never lost, without ids.

Decided here: that the total is read before each call and noted with it, how an unknown outcome is
decided by the total after it, and when nothing can decide it. A call is signed for the moment at
which the total before it was read, by the cloud's clock: so once that Date has run out, a call that
was on its way, or with a process that sleeps, can arrive no more. Only then is it said that one was
not applied. Not decided here: what follows (outcomes.py), how totals are compared
(core/elsewhere.py). Source: protocols/licensespring.md 5 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from gateway.core.catalogue import CatalogueIndex
from gateway.core.elsewhere import OK, Found, Known, Total, decide, heard, units_before
from gateway.core.errors import Unavailable
from gateway.core.model import Line
from gateway.core.ports import Answer, Verdict
from gateway.core.pulling import Limits
from gateway.core.usage import Batch
from gateway.upstream.hindrances import Lane
from gateway.upstream.licensespring import Identity, call_of, identity
from gateway.upstream.licensespring_answers import (
    DEVICE_NOT_FOUND,
    judge_refusal,
    read_added,
)
from gateway.upstream.licensespring_calls import NOT_SIGNED, UNREADABLE, Calls, says
from gateway.upstream.sender import Reply

LOOK_S_MAX: Final = 60  # between looks at a total that may still tell


class Notes(Protocol):
    """Where it is kept what was last heard of lines."""

    async def known(self, instance: str, upstream: str) -> Mapping[str, Known]: ...

    async def known_of(self, instance: str, upstream: str, line: str) -> Known | None: ...

    async def note(self, instance: str, upstream: str, known: Mapping[str, Known]) -> None: ...


class Before(msgspec.Struct, frozen=True):
    """What is noted with an attempt: whose total it was, and for which moment it is signed."""

    licence: str
    total: Total
    date_ms: int
    shared: bool = False  # others were taken to write to it


@dataclass(frozen=True)
class _Ready:
    """An attempt that may go, of the batch of this id."""

    batch: str
    who: Identity
    before: Before
    known: Known
    overages: str | None


_read_before: Final = msgspec.json.Decoder(Before).decode


@dataclass
class Cloud:
    """Delivers batches of one line each, and decides what became of them."""

    calls: Calls
    notes: Notes
    _ready: dict[Lane, _Ready] = field(default_factory=dict)  # at most one a lane

    async def before(self, index: CatalogueIndex, batch: Batch) -> str | Verdict:
        """Read the total before an attempt, activating the licence if need be."""
        line, who = self._whose(index, batch)
        if who is None:
            why = f"line {line.id} has no licensespring.license_key and product"
            return Verdict(Answer.REFUSED, why)
        if any(row.line != line.id for row in batch.rows):  # one call would tell one licence all
            return Verdict(Answer.REFUSED, "it was sealed for another kind of upstream")
        looked = await self.calls.look(who)
        if isinstance(looked, Verdict):
            await self._trouble(batch, looked.why)
            # Nothing was sent, so whatever went wrong with the question, nothing is in doubt.
            unknown = looked.answer is Answer.UNKNOWN
            return replace(looked, answer=Answer.NOT_APPLIED) if unknown else looked
        told = looked.licence.of(who.feature)
        if told is None or told.total is None:
            missing = _missing(who)
            await self._trouble(batch, missing)
            return Verdict(Answer.INVALID, missing)
        total = Total(told.total, looked.at_ms, told.limits.reset)
        past = await self._known(batch, who)
        known = heard(past, total, 0, self.calls.now_ms())
        known = replace(known, licence=who.tag)
        shared = known.shared(self.calls.now_ms())
        noted = Before(who.tag, total, looked.at_ms, shared)
        await self._note(batch, known)
        changed = line.client_overages and known.overdraft not in ("", line.overdraft)
        overages = line.overdraft if changed and not line.overdraft.endswith("%") else None
        lane = (batch.instance, batch.upstream)
        self._ready[lane] = _Ready(batch.id, who, noted, known, overages)
        return msgspec.json.encode(noted).decode()

    async def send(self, batch: Batch) -> Verdict:
        """Add the batch's units; `before` was asked just before, and is noted by now."""
        ready = self._ready.pop((batch.instance, batch.upstream), None)
        if ready is None or ready.batch != batch.id:
            return Verdict(Answer.NOT_APPLIED, "the total before it was not read")
        name, body = call_of(batch, ready.who, ready.overages)
        reply = await self.calls.call(name, body, ready.before.date_ms)
        if isinstance(reply, Verdict):
            return reply
        if reply.status != 200:
            return await self._not_taken(batch, ready, reply)
        if not self.calls.is_ours(reply):
            return Verdict(Answer.UNKNOWN, NOT_SIGNED)
        told = read_added(reply.body)
        if told is None or told.total is None:
            return Verdict(Answer.UNKNOWN, UNREADABLE)
        await self._taken(batch, ready, told.total, told.limits)
        return Verdict(Answer.GRANTED)

    async def decide(self, index: CatalogueIndex, batch: Batch) -> Verdict:
        """Decide the latest attempt by the total as it is now."""
        _, who = self._whose(index, batch)
        before = _before(batch)
        if who is None or before is None or before.licence != who.tag:
            why = "it was sent for another licence than the line stands for now"
            late = self._late(before, self.calls.clock_ms(), why)
            return late or Verdict(Answer.AMBIGUOUS, why)
        looked = await self.calls.look(who)
        if isinstance(looked, Verdict):
            if looked.answer in (Answer.REFUSED, Answer.INVALID):  # of this licence, not away
                late = self._late(before, self.calls.clock_ms(), looked.why)
                return late or Verdict(Answer.AMBIGUOUS, looked.why)
            stopped = looked.answer is Answer.STOPPED
            return replace(looked, answer=Answer.STOPPED if stopped else Answer.UNKNOWN)
        told = looked.licence.of(who.feature)
        if told is None or told.total is None:
            late = self._late(before, looked.at_ms, _missing(who))
            return late or Verdict(Answer.AMBIGUOUS, _missing(who))
        after = Total(told.total, looked.at_ms, told.limits.reset)
        found = decide(before.total, after, batch.units)
        totals, shared = _totals(before, after, batch), before.shared
        granted = found is Found.APPLIED and not shared
        if not granted and (late := self._late(before, after.at_ms, totals)):
            return late
        past, now_ms = await self._known(batch, who), self.calls.now_ms()
        # From the total before the attempt on: whoever ended may have taken down the one after it.
        since = replace(
            past or Known(at_ms=now_ms, others_ms=now_ms if shared else 0),
            total=before.total.units,
            period=before.total.period,
        )
        own = batch.units if granted else 0
        known = heard(since, after, own, now_ms)
        if granted and (past is None or past.total == before.total.units):
            known = replace(known, late=known.late + units_before(batch.rows, after.since_ms))
        await self._note(batch, replace(known, licence=who.tag))
        if granted:
            return Verdict(Answer.GRANTED, totals)
        if found is Found.AMBIGUOUS or shared:
            others = "; other servers use this licence too" if shared else ""
            return Verdict(Answer.AMBIGUOUS, totals + others)
        return Verdict(Answer.NOT_APPLIED, totals)

    def _late(self, before: Before | None, now_ms: int, why: str) -> Verdict | None:
        """Say that a call may still arrive, and when to look again; None: it never will.

        A person must not decide about it before that either. `now_ms` is by the cloud's clock.
        """
        left_ms = before.date_ms + self.calls.upstream.window_ms - now_ms if before else -1
        if left_ms < 0:
            return None
        wait_s = min(LOOK_S_MAX, left_ms // 1_000 + 1)
        return Verdict(Answer.UNDECIDED, f"{why}; it may still arrive", retry_after_s=wait_s)

    async def _not_taken(self, batch: Batch, ready: _Ready, reply: Reply) -> Verdict:
        verdict = judge_refusal(reply.status, reply.headers, reply.body)
        if says(reply, DEVICE_NOT_FOUND):
            verdict = await self.calls.activate(ready.who) or verdict
            if verdict.answer is Answer.UNKNOWN:  # of the activation; the batch was refused
                verdict = replace(verdict, answer=Answer.NOT_APPLIED)
        await self._trouble(batch, verdict.why)
        return verdict

    async def _taken(self, batch: Batch, ready: _Ready, units: int, limits: Limits) -> None:
        with suppress(Unavailable):
            past = await self._known(batch, ready.who)
            if past is not None and past.total != ready.before.total.units:
                return  # this process slept, and another one has gone on
        total = Total(units, self.calls.clock_ms(), limits.reset)
        known = heard(ready.known, total, batch.units, self.calls.now_ms())
        late = known.late + units_before(batch.rows, total.since_ms)
        overdraft = limits.overdraft if ready.overages is not None else known.overdraft
        await self._note(batch, replace(known, code=OK, text="", late=late, overdraft=overdraft))

    async def _trouble(self, batch: Batch, why: str) -> None:
        with suppress(Unavailable):
            line = batch.rows[0].line
            past = await self.notes.known_of(batch.instance, batch.upstream, line)
            code, _, text = why.partition(": ")
            known = replace(past or Known(at_ms=0), at_ms=self.calls.now_ms(), code=code, text=text)
            await self._note(batch, known)

    def _whose(self, index: CatalogueIndex, batch: Batch) -> tuple[Line, Identity | None]:
        line = index.line[batch.rows[0].line]
        return line, identity(self.calls.upstream, line)

    async def _known(self, batch: Batch, who: Identity) -> Known | None:
        """Give what is known of a line, unless it stood for another licence then."""
        line = batch.rows[0].line
        known = await self.notes.known_of(batch.instance, batch.upstream, line)
        return known if known is not None and known.licence == who.tag else None

    async def _note(self, batch: Batch, known: Known) -> None:
        """Keep what was heard. Lost, the next total looks moved by others, which is safe."""
        with suppress(Unavailable):
            await self.notes.note(batch.instance, batch.upstream, {batch.rows[0].line: known})


def _before(batch: Batch) -> Before | None:
    try:
        return _read_before(batch.before)
    except (ValueError, RecursionError):
        return None


def _missing(who: Identity) -> str:
    if who.feature:
        return f"unsupported_product_feature: the licence has no consumption feature {who.feature}"
    return "license_not_consumption: the licence tells no total"


def _totals(before: Before, after: Total, batch: Batch) -> str:
    return (
        f"{batch.units} were sent; the cloud's total was {before.total.units} before and is"
        f" {after.units} now"
    )
