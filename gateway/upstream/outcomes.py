"""What follows from each answer of an upstream, for the batch that it is about.

Decided here: the table of answers: what is settled, sent again, parked, blocked, split or dead.
What may have been applied is never sent under another id. Not decided here: when something is sent
(delivery.py), what an answer means (one file per kind). Logs say what happened to which batch,
never a body, token or key. Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.meters import Meters
from gateway.core.metrics import Fate
from gateway.core.periods import next_reset_ms, zone
from gateway.core.ports import Answer, Mark, Outbox, Refusal, Route, Standing, Step, Verdict
from gateway.core.usage import Batch, Choice, Row, Scope, gather, halve, host_of
from gateway.core.versions import is_version, version_key
from gateway.upstream.hindrances import Hindrances, Lane
from gateway.upstream.leases import Lease

FULL_RETRY_S: Final = 60.0  # a person may have decided by then
LOOK_S: Final = 60.0  # before it is asked again what became of a batch
RESET_MARGIN_MS: Final = 5_000  # the upstream's clock and ours are not one
UNKNOWN_WHY: Final = "outcome unknown"

_log: Final = structlog.get_logger("gateway.forward")

_Feature = tuple[str, tuple[int, ...]]  # name and version, as an upstream names what it refuses


class Ended(Exception):
    """The visit to this outbox is over; `later`: because the upstream is to be left alone."""

    def __init__(self, *, later: bool) -> None:
        self.later = later


@dataclass
class Outcomes:
    """Carries out what answers mean. `new_id` never gives an id twice.

    Each method ends normally when the lane may go on, and raises Ended when this visit is over. It
    raises Unavailable when the store does not answer; the next visit takes up what was begun.
    """

    outbox: Outbox
    hindrances: Hindrances
    blocked_retry_s: float
    new_id: Callable[[], str]
    meters: Meters = field(default_factory=Meters)
    _granted: dict[Lane, str] = field(default_factory=dict)  # granted, and not yet settled
    _alarmed: dict[Lane, set[Scope]] = field(default_factory=dict)  # refused, and told of once

    def is_granted(self, batch: Batch) -> bool:
        """Say whether the upstream has granted it and only the store does not know yet."""
        return self._granted.get(_lane(batch)) == batch.id

    async def settle(self, lease: Lease, batch: Batch) -> None:
        """End a batch that was granted."""
        step = await self.outbox.settle(lease.holder, batch)
        self._granted.pop(_lane(batch), None)
        if step is Step.LEASE_LOST:
            tell("settle_refused", batch, level="warning")
            raise Ended(later=False)
        self.hindrances.free(_lane(batch))
        alarmed = self._alarmed.get(_lane(batch), set())
        if taken := alarmed & {row.scope for row in batch.rows}:
            alarmed -= taken
            tell("features_taken", batch, lines=sorted(line for line, _ in taken))
        self._count(batch, Fate.FORWARDED, len(batch.rows), step)
        tell("batch_settled", batch, rows=len(batch.rows), units=batch.units)

    async def follow(
        self, lease: Lease, route: Route, index: CatalogueIndex, batch: Batch, verdict: Verdict
    ) -> bool:
        """Do what the answer to an attempt asks for; say whether some of it goes again at once."""
        # Another answer than a grant speaks for its own attempt. An earlier one may still count.
        doubt = batch.first_sent_ms is not None and not verdict.conclusive
        match verdict.answer:
            case Answer.GRANTED:
                self.hindrances.answers(batch.upstream)
                # Should the store fail now, the next visit need not ask again what is known.
                self._granted[_lane(batch)] = batch.id
                await self.settle(lease, batch)
            case Answer.HANDED_OVER:
                self.hindrances.answers(batch.upstream)
                await self.set_aside(lease, batch, Standing.PARKED, verdict.why)
            case Answer.UNKNOWN:
                self._again_later(batch, verdict)
                # It remembers no id and cannot be asked: nothing is gained by waiting.
                if not route.horizon_ms and route.reconciler is None:
                    await self.set_aside(lease, batch, Standing.PARKED, _unknown(verdict))
                raise Ended(later=True)
            case Answer.UNDECIDED:
                self.hindrances.answers(batch.upstream)
                self.hindrances.block(
                    _lane(batch), _unknown(verdict), verdict.retry_after_s or LOOK_S, batch.id
                )
                raise Ended(later=False)
            case Answer.AMBIGUOUS:
                self.hindrances.answers(batch.upstream)
                await self.set_aside(lease, batch, Standing.PARKED, _unknown(verdict))
            case Answer.NOT_APPLIED:
                await self._clear(lease, batch)
                self._again_later(batch, verdict)
                raise Ended(later=True)
            case Answer.STOPPED:
                await self._clear(lease, batch)
                self.hindrances.stopped(batch.upstream, verdict.why)
                raise Ended(later=True)
            case Answer.REFUSED | Answer.INVALID if doubt:
                self.hindrances.answers(batch.upstream)
                await self.set_aside(lease, batch, Standing.PARKED, _unknown(verdict))
            case Answer.REFUSED:
                self.hindrances.answers(batch.upstream)
                await self._clear(lease, batch)
                await self._refuse(lease, index, batch, verdict)
                return True
            case Answer.INVALID:
                self.hindrances.answers(batch.upstream)
                await self._clear(lease, batch)
                return await self._split(lease, route, index, batch, verdict)
        return False

    async def set_aside(self, lease: Lease, batch: Batch, standing: Standing, why: str) -> None:
        """Take a batch out of the lane, so that newer usage passes."""
        step = await self.outbox.set_aside(lease.holder, batch, standing, why)
        if step is Step.FULL:
            reason = "too many batches are set aside; decide about some (forward list)"
            self.hindrances.block(_lane(batch), reason, FULL_RETRY_S, batch.id)
            raise Ended(later=False)
        _go_on(step)
        self.hindrances.free(_lane(batch))
        self._count(batch, Fate(standing), len(batch.rows), step)
        tell(f"batch_{standing}", batch, level="error", why=why)

    def _count(self, batch: Batch, fate: Fate, rows: int, step: Step) -> None:
        if step is Step.DONE:  # else it was done, and counted, before
            self.meters.forwarded(batch.upstream, fate, rows)

    async def _clear(self, lease: Lease, batch: Batch) -> None:
        """Note that the attempt had no effect; not noted, it stays in doubt, which is safe."""
        try:
            await self.outbox.clear_attempt(lease.holder, batch)
        except Unavailable:
            tell("attempt_not_cleared", batch, level="warning")

    def _again_later(self, batch: Batch, verdict: Verdict) -> None:
        self.hindrances.away(batch.upstream, verdict.why, verdict.retry_after_s or 0)
        wait_s = self.hindrances.breaker(batch.upstream).wait_s(self.hindrances.monotonic_s())
        tell(f"batch_{verdict.answer}", batch, why=verdict.why, wait_s=wait_s)

    async def _refuse(
        self, lease: Lease, index: CatalogueIndex, batch: Batch, verdict: Verdict
    ) -> None:
        """Let the named rows wait, and all others go at once under a new id."""
        named = _named(index, batch, verdict)
        undone = {
            feature
            for feature in named
            if sum(row.units for row in batch.rows if _feature(index, row) == feature) < 0
        }
        _, now_ms = await self.outbox.marks(batch.instance, batch.upstream)
        host = _host(index, batch)
        marks: dict[Scope, Mark] = {}
        blocked = []
        for place, row in enumerate(batch.rows):
            feature = _feature(index, row)
            if feature in named:
                retry_ms = self._retry_ms(index, row, now_ms)
                carried = feature in undone
                mark = Mark(row.line, host, verdict.why, now_ms, retry_ms, carried)
                marks[mark.scope] = mark
                if not carried:
                    blocked.append(place)
        step = await self.outbox.refuse(lease.holder, batch, blocked, list(marks.values()))
        _go_on(step)
        self._count(batch, Fate.REFUSED, len(blocked), step)
        alarmed = self._alarmed.setdefault(_lane(batch), set())
        if not marks.keys() <= alarmed:
            alarmed.update(marks)
            lines = sorted({line for line, _ in marks})
            tell("features_refused", batch, level="error", why=verdict.why, lines=lines)

    def _retry_ms(self, index: CatalogueIndex, row: Row, now_ms: int) -> int:
        """Say when a refused row goes again: after a while, and when the upstream counts anew.

        A line is taken to reset upstream as it does here, and one that does not at midnight.
        """
        line = index.line[row.line]
        reset_ms = next_reset_ms(line.reset, zone(line.reset_timezone), now_ms) + RESET_MARGIN_MS
        return min(now_ms + int(self.blocked_retry_s * 1000), reset_ms)

    async def _split(
        self, lease: Lease, route: Route, index: CatalogueIndex, batch: Batch, verdict: Verdict
    ) -> bool:
        """Go on with halves; what cannot be halved is dead. Say whether there are halves."""
        halves = halve(batch.rows, index.line, by_row=route.by_row)
        if halves is None:
            await self.set_aside(lease, batch, Standing.DEAD, f"not taken: {verdict.why}")
            return False
        first, second = (self._half(route, index, batch, rows) for rows in halves)
        _go_on(await self.outbox.split(lease.holder, batch, first, second))
        tell("batch_split", batch, level="warning", why=verdict.why, halves=[first.id, second.id])
        return True

    def _half(self, route: Route, index: CatalogueIndex, batch: Batch, rows: list[Row]) -> Batch:
        choice, half_id = gather(rows, index.line, _host(index, batch)), self.new_id()
        body = encode(route, index, choice, half_id)
        return Batch(half_id, batch.upstream, batch.instance, choice.rows, body)


def encode(route: Route, index: CatalogueIndex, choice: Choice, batch_id: str) -> bytes:
    """Give a choice's bytes; none when it nets to nothing and the upstream takes sums."""
    if not choice.counts and not route.by_row:
        return b""
    return route.encode(choice, index.catalogue.id, batch_id, index.line)


def tell(event: str, batch: Batch, *, level: str = "info", **facts: object) -> None:
    """Log what happened to a batch."""
    facts = {"instance": batch.instance, "upstream": batch.upstream, "batch": batch.id} | facts
    getattr(_log, level)(event, **facts)


def _go_on(step: Step) -> None:
    """End the visit when the lease is lost; a step that was done before is as good as done."""
    if step is Step.LEASE_LOST:
        raise Ended(later=False)


def _lane(batch: Batch) -> Lane:
    return batch.instance, batch.upstream


def _host(index: CatalogueIndex, batch: Batch) -> str:
    """Give the one host that a batch speaks for; "" when its upstream is told none."""
    attached = {each.name: each.by_host for each in index.catalogue.upstreams}
    return host_of(batch.rows) if attached.get(batch.upstream) else ""


def _unknown(verdict: Verdict) -> str:
    return f"{UNKNOWN_WHY}: {verdict.why}" if verdict.why else UNKNOWN_WHY


def _named(index: CatalogueIndex, batch: Batch, verdict: Verdict) -> set[_Feature]:
    """Find the batch's features that the upstream named; all of them when it named none."""
    sent = {_feature(index, row) for row in batch.rows}
    named = {feature for each in verdict.refused for feature in sent if _names(each, feature)}
    return named or sent


def _names(refusal: Refusal, feature: _Feature) -> bool:
    """Say whether a refusal names a feature; one without a version means all of them."""
    version = version_key(refusal.version) if is_version(refusal.version) else feature[1]
    return feature == (refusal.name, version)


def _feature(index: CatalogueIndex, row: Row) -> _Feature:
    line = index.line[row.line]
    return line.feature, version_key(line.version)
