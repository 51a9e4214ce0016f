"""One instance's way to one upstream: seal, send, settle, one batch after the other.

Decided here: the order of the steps, and what follows from each answer of store and upstream. No
step goes back: a sealed batch is sent in the same bytes under the same id until its outcome is
known. Not decided here: when and under which lease it runs (forwarder.py), what an answer means
(cmapi.py). Logs say what happened to which batch, never a body, token or key. Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import uuid4

import structlog

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.model import Attachment
from gateway.core.ports import Answer, Outbox, Refusal, Route, Step, Verdict
from gateway.core.usage import Batch, Row, choose_rows
from gateway.core.versions import is_version, version_key
from gateway.upstream.breaker import Breaker
from gateway.upstream.leases import Lease

BATCHES_MAX: Final = 1_000  # of one instance in one visit; then others have their turn
READ_ROWS_MAX: Final = 20_000  # open rows looked at for one batch
STOPPED_PROBE_S: Final = 300.0

_log: Final = structlog.get_logger("gateway.forward")

Feature = tuple[str, tuple[int, ...]]  # name and version, as an upstream names what it refuses


class Progress(StrEnum):
    """How a visit to an outbox ended."""

    EMPTY = "empty"  # nothing is left of what was there
    MORE = "more"  # something is left, and nothing is in its way
    LATER = "later"  # the upstream is left alone for a while
    BLOCKED = "blocked"  # the sealed batch waits for a change upstream, or for a person


@dataclass(frozen=True)
class Block:
    """Why a lane stands, and until when it is not tried."""

    reason: str
    until_s: float


@dataclass
class Delivery:
    """Delivers outboxes; remembers between visits which upstream or lane is to be left alone.

    `random` is uniform in [0, 1), `new_id` never gives an id twice, `stopping` ends a visit before
    its next batch.
    """

    outbox: Outbox
    monotonic_s: Callable[[], float]
    random: Callable[[], float]
    stopping: Callable[[], bool]
    blocked_retry_s: float
    new_id: Callable[[], str] = field(default=lambda: uuid4().hex)
    _breakers: dict[str, Breaker] = field(default_factory=dict)
    _stopped: dict[str, str] = field(default_factory=dict)  # upstream -> why it takes nothing
    # By instance and upstream: why its lane stands; the batch that was granted and not yet settled.
    _blocks: dict[tuple[str, str], Block] = field(default_factory=dict)
    _granted: dict[tuple[str, str], str] = field(default_factory=dict)
    # By instance and upstream: features that were refused, and until when they stay out of batches.
    _refused: dict[tuple[str, str], dict[Feature, Block]] = field(default_factory=dict)

    def breaker(self, upstream: str) -> Breaker:
        """Give the breaker of an upstream."""
        return self._breakers.setdefault(upstream, Breaker(self.random))

    def reason(self, instance: str, upstream: str) -> str:
        """Say why an outbox is not empty, as far as is known here; "" when nothing is known."""
        block = self._blocks.get((instance, upstream))
        if block is not None:
            return block.reason
        for each in self._refused.get((instance, upstream), {}).values():
            return each.reason
        if upstream in self._stopped:
            return self._stopped[upstream]
        return "upstream does not answer" if self.breaker(upstream).failures else ""

    def blocked_wait_s(self, upstream: str) -> float | None:
        """Give how long until the first blocked lane of an upstream is tried; None: none is."""
        ends = [block.until_s for (_, name), block in self._blocks.items() if name == upstream]
        for (_, name), refused in self._refused.items():
            if name == upstream:
                ends += [block.until_s for block in refused.values()]
        return max(0.0, min(ends) - self.monotonic_s()) if ends else None

    def unblock(self) -> None:
        """Let blocked lanes and stopped upstreams be tried at once, as after a restart."""
        now_s = self.monotonic_s()
        for refused in self._refused.values():
            for feature, block in refused.items():
                refused[feature] = Block(block.reason, now_s)
        for key, block in self._blocks.items():
            self._blocks[key] = Block(block.reason, now_s)
        for upstream in self._stopped:
            self.breaker(upstream).hasten(now_s)

    async def run(
        self,
        lease: Lease,
        index: CatalogueIndex,
        attachment: Attachment,
        route: Route,
        *,
        to_the_end: bool = False,
    ) -> Progress:
        """Deliver what an outbox has, until something is in the way.

        Usage that comes meanwhile waits for the next visit, so that the interval holds under load;
        `to_the_end` goes on until the outbox is empty.

        Raises Unavailable when the store does not answer; what was begun is taken up by the next
        visit, whoever makes it.
        """
        instance = index.catalogue.id
        block = self._blocks.get((instance, route.name))
        if block is not None and self.monotonic_s() < block.until_s:
            return Progress.BLOCKED
        for _ in range(BATCHES_MAX):
            if self.stopping() or not lease.valid(self.monotonic_s()):
                return Progress.MORE
            batch = await self.outbox.sealed(instance, route.name)
            last = False
            if batch is None:
                found, last = await self._seal(lease, index, attachment, route)
                if isinstance(found, Progress):
                    return found
                batch = found
            ended = await self._deliver(lease, route, index, batch)
            if ended is not None:
                return ended
            if last and not to_the_end:
                return Progress.EMPTY
        return Progress.MORE

    async def _seal(
        self, lease: Lease, index: CatalogueIndex, attachment: Attachment, route: Route
    ) -> tuple[Batch | Progress, bool]:
        """Seal the next batch and give what is sealed then, or say why nothing is.

        With it comes whether it takes everything that was open.
        """
        instance = index.catalogue.id
        rows = await self.outbox.open_rows(instance, route.name, READ_ROWS_MAX)
        refused = self._still_refused(instance, route.name)
        allowed = [row for row in rows if _feature(index, row) not in refused]
        if rows and not allowed:
            return Progress.BLOCKED, False
        choice = choose_rows(
            allowed,
            index.line,
            features_max=route.features_max,
            rows_max=route.rows_max,
            count_max=route.count_max,
            by_host=attachment.by_host,
        )
        if not rows:
            return Progress.EMPTY, True
        if not choice.rows:
            why = "rows of lines unknown to the catalogue"
            return self._block(instance, route.name, why), False
        body = route.encode(choice, instance) if choice.counts else b""
        batch = Batch(self.new_id(), route.name, instance, choice.rows, body)
        step, sealed = await self.outbox.seal(lease.holder, batch)
        if step is Step.DONE:
            _tell("batch_sealed", batch, rows=len(batch.rows), units=_units(batch))
        everything = step is Step.DONE and set(choice.rows) == set(allowed)
        return sealed or Progress.MORE, everything  # nothing sealed: the lease is lost

    async def _deliver(
        self, lease: Lease, route: Route, index: CatalogueIndex, batch: Batch
    ) -> Progress | None:
        """Bring a sealed batch as far as it goes now; None when the next one may follow."""
        granted = self._granted.get((batch.instance, batch.upstream)) == batch.id
        if granted or not batch.body:  # without a body its rows net to nothing
            return await self._settle(lease, index, batch)
        breaker = self.breaker(route.name)
        if not breaker.admit(self.monotonic_s()):
            return Progress.LATER
        step = Step.GONE
        try:
            step = await self.outbox.begin_attempt(lease.holder, batch, route.horizon_ms)
        finally:
            if step is not Step.DONE:
                breaker.give_back(self.monotonic_s())
        if step is Step.IN_DOUBT:
            return self._block(batch.instance, batch.upstream, "outcome unknown", batch)
        if step is not Step.DONE:
            return Progress.MORE if step is Step.LEASE_LOST else None
        if not lease.valid(self.monotonic_s()):  # this process was suspended in between
            await self.outbox.clear_attempt(lease.holder, batch)
            breaker.give_back(self.monotonic_s())
            return Progress.MORE
        return await self._follow(lease, index, batch, await route.sender.send(batch))

    async def _follow(
        self, lease: Lease, index: CatalogueIndex, batch: Batch, verdict: Verdict
    ) -> Progress | None:
        """Do what the upstream's answer asks for; the first lines decide what the store notes."""
        match verdict.answer:
            case Answer.GRANTED:
                self._answers(batch.upstream)
                # Should the store fail now, the next visit need not ask again what is known.
                self._granted[batch.instance, batch.upstream] = batch.id
                return await self._settle(lease, index, batch)
            case Answer.UNKNOWN:
                return self._fails(batch, verdict)
            case Answer.NOT_APPLIED:
                await self._clear(lease, batch)
                return self._fails(batch, verdict)
            case Answer.STOPPED:
                await self._clear(lease, batch)
                return self._stops(batch, verdict)
            case Answer.REFUSED:
                # Under this id the upstream would only say again what it said now.
                await self.outbox.unseal(lease.holder, batch)
                self._answers(batch.upstream)
                reason = f"{verdict.answer}: {verdict.why}"
                if self._leave_out(index, batch, verdict, reason):
                    return None  # the rest goes at once, under a new id
                return self._block(batch.instance, batch.upstream, reason, batch)
            case Answer.INVALID:
                await self._clear(lease, batch)
                self._answers(batch.upstream)
                reason = f"{verdict.answer}: {verdict.why}"
                return self._block(batch.instance, batch.upstream, reason, batch)

    async def _settle(self, lease: Lease, index: CatalogueIndex, batch: Batch) -> Progress | None:
        step = await self.outbox.settle(lease.holder, batch)
        self._granted.pop((batch.instance, batch.upstream), None)
        if step is Step.LEASE_LOST:
            _tell("settle_refused", batch, level="warning")
            return Progress.MORE
        key = (batch.instance, batch.upstream)
        refused = self._refused.get(key, {})
        taken = [feature for row in batch.rows if (feature := _feature(index, row)) in refused]
        for feature in taken:
            refused.pop(feature, None)
        if self._blocks.pop(key, None) is not None or taken:
            _tell("lane_freed", batch)
        _tell("batch_settled", batch, rows=len(batch.rows), units=_units(batch))
        return None

    async def _clear(self, lease: Lease, batch: Batch) -> None:
        """Note that the attempt had no effect; not noted, it stays in doubt, which is safe."""
        try:
            await self.outbox.clear_attempt(lease.holder, batch)
        except Unavailable:
            _tell("attempt_not_cleared", batch, level="warning")

    def _fails(self, batch: Batch, verdict: Verdict) -> Progress:
        now_s = self.monotonic_s()
        breaker = self.breaker(batch.upstream)
        if breaker.fail(now_s, verdict.retry_after_s or 0):
            _log.warning("upstream_away", upstream=batch.upstream, why=verdict.why)
        _tell(f"batch_{verdict.answer}", batch, why=verdict.why, wait_s=breaker.wait_s(now_s))
        return Progress.LATER

    def _stops(self, batch: Batch, verdict: Verdict) -> Progress:
        self.breaker(batch.upstream).fail(self.monotonic_s(), STOPPED_PROBE_S)
        if self._stopped.get(batch.upstream) != verdict.why:
            self._stopped[batch.upstream] = verdict.why
            _tell("upstream_stopped", batch, level="error", why=verdict.why)
        return Progress.LATER

    def _answers(self, upstream: str) -> None:
        self._stopped.pop(upstream, None)
        if self.breaker(upstream).succeed():
            _log.info("upstream_back", upstream=upstream)

    def _leave_out(
        self, index: CatalogueIndex, batch: Batch, verdict: Verdict, reason: str
    ) -> bool:
        """Keep the features that the upstream named out of batches for a while; False: none is
        ours.
        """
        sent = {_feature(index, row) for row in batch.rows}
        named = {feature for each in verdict.refused for feature in sent if _names(each, feature)}
        block = Block(reason, self.monotonic_s() + self.blocked_retry_s)
        refused = self._refused.setdefault((batch.instance, batch.upstream), {})
        if not named <= refused.keys():
            _tell("features_refused", batch, level="error", why=verdict.why)
        refused.update((feature, block) for feature in named)
        return bool(named)

    def _still_refused(self, instance: str, upstream: str) -> set[Feature]:
        refused = self._refused.get((instance, upstream), {})
        return {each for each, block in refused.items() if block.until_s > self.monotonic_s()}

    def _block(
        self,
        instance: str,
        upstream: str,
        reason: str,
        batch: Batch | None = None,
    ) -> Progress:
        before = self._blocks.get((instance, upstream))
        until_s = self.monotonic_s() + self.blocked_retry_s
        self._blocks[instance, upstream] = Block(reason, until_s)
        if before is None or before.reason != reason:
            batch_id = batch.id if batch else ""
            _log.error(
                "lane_blocked", instance=instance, upstream=upstream, batch=batch_id, why=reason
            )
        return Progress.BLOCKED


def _tell(event: str, batch: Batch, *, level: str = "info", **facts: object) -> None:
    facts = {"instance": batch.instance, "upstream": batch.upstream, "batch": batch.id} | facts
    getattr(_log, level)(event, **facts)


def _names(refusal: Refusal, feature: Feature) -> bool:
    """Say whether a refusal names a feature; one without a version means all of them."""
    version = version_key(refusal.version) if is_version(refusal.version) else feature[1]
    return feature == (refusal.name, version)


def _feature(index: CatalogueIndex, row: Row) -> Feature:
    line = index.line.get(row.line)
    return (line.feature, version_key(line.version)) if line else ("", ())


def _units(batch: Batch) -> int:
    return sum(row.units for row in batch.rows)
