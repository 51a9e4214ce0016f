"""One instance's way to one upstream: seal, send, settle, one batch after the other.

Decided here: the order of the steps, and which rows go into the next batch. No step goes back: a
sealed batch is sent in the same bytes under the same id until its outcome is known. Not decided
here: when and under which lease it runs (forwarder.py), what follows from an answer (outcomes.py).
Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import uuid4

from msgspec.structs import replace

from gateway.core.catalogue import CatalogueIndex
from gateway.core.meters import Meters
from gateway.core.model import Attachment
from gateway.core.ports import (
    Answer,
    Mark,
    Outbox,
    Reconciler,
    Route,
    Standing,
    Step,
    Verdict,
)
from gateway.core.usage import (
    Batch,
    Choice,
    Row,
    choose_events,
    choose_line,
    choose_rows,
    covers,
)
from gateway.upstream.hindrances import Hindrances, Lane
from gateway.upstream.leases import Lease
from gateway.upstream.outcomes import UNKNOWN_WHY, Ended, Outcomes, encode, tell

BATCHES_MAX: Final = 1_000  # of one instance in one visit; then others have their turn
READ_ROWS_MAX: Final = 20_000  # open rows looked at for one batch
UNKNOWN_LINES_RETRY_S: Final = 3_600.0


class Progress(StrEnum):
    """How a visit to an outbox ended."""

    EMPTY = "empty"  # nothing is left of what was there, but what waits its turn
    MORE = "more"  # something is left, and nothing is in its way
    LATER = "later"  # the upstream is left alone for a while
    BLOCKED = "blocked"  # it waits for a change upstream, or for a person


@dataclass
class Delivery:
    """Delivers outboxes. `random` is uniform in [0, 1), `new_id` never gives an id twice,
    `stopping` ends a visit before its next batch.
    """

    outbox: Outbox
    monotonic_s: Callable[[], float]
    random: Callable[[], float]
    stopping: Callable[[], bool]
    blocked_retry_s: float
    new_id: Callable[[], str] = field(default=lambda: uuid4().hex)
    meters: Meters = field(default_factory=Meters)
    _retried: set[Lane] = field(default_factory=set)  # in this drain

    def __post_init__(self) -> None:
        self.hindrances = Hindrances(self.monotonic_s, self.random)
        self.outcomes = Outcomes(
            self.outbox, self.hindrances, self.blocked_retry_s, self.new_id, self.meters
        )

    def unblock(self) -> None:
        """Let everything that waits be tried once, at once."""
        self.hindrances.hasten()
        self._retried.clear()

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
        `to_the_end` goes on until the outbox is empty, and tries once what was refused before.

        Raises Unavailable when the store does not answer; what was begun is taken up by the next
        visit, whoever makes it.
        """
        lane = (index.catalogue.id, route.name)
        if self.hindrances.stands(lane):
            return Progress.BLOCKED
        served: set[str] = set()
        for _ in range(BATCHES_MAX):
            if self.stopping() or not lease.valid(self.monotonic_s()):
                return Progress.MORE
            batch = await self.outbox.sealed(*lane)
            last = False
            if batch is None:
                found, last = await self._seal(
                    lease, index, attachment, route, served, to_the_end=to_the_end
                )
                if isinstance(found, Progress):
                    return found
                batch = found
                if route.by_line and not to_the_end:
                    # What it uses meanwhile waits for the next visit, or a busy line keeps us here.
                    served |= {row.line for row in batch.rows}
            try:
                ended = await self._deliver(lease, route, index, batch)
            except Ended as end:
                if self.hindrances.stands(lane):
                    return Progress.BLOCKED
                return Progress.LATER if end.later else Progress.MORE
            if isinstance(ended, Progress):
                return ended
            if last and not to_the_end and not ended:
                return Progress.EMPTY
        return Progress.MORE

    async def _seal(
        self,
        lease: Lease,
        index: CatalogueIndex,
        attachment: Attachment,
        route: Route,
        served: Collection[str],
        *,
        to_the_end: bool,
    ) -> tuple[Batch | Progress, bool]:
        """Seal the next batch and give what is sealed then, or say why nothing is.

        Lines in `served` have had their turn. With it comes whether it takes everything that was
        open.
        """
        lane = (index.catalogue.id, route.name)
        marks = await self._still_refused(lease, lane, to_the_end)
        if marks is None:
            return Progress.MORE, False
        refused = {mark.scope for mark in marks if not mark.carried and not to_the_end}
        by_host = attachment.by_host and not route.by_line
        held_back = False

        def wanted(row: Row) -> bool:
            nonlocal held_back
            covered = bool(refused) and covers(refused, row, by_host=by_host)
            held_back = held_back or covered
            return not covered and row.line not in served

        allowed = await self.outbox.open_rows(*lane, READ_ROWS_MAX, wanted)
        choice = _choose(index, attachment, route, allowed, marks)
        if not choice.rows:
            return self._nothing_to_seal(lane, index, allowed, held_back), True
        batch_id = self.new_id()
        body = encode(route, index, choice, batch_id)
        batch = Batch(batch_id, route.name, index.catalogue.id, choice.rows, body)
        step, sealed = await self.outbox.seal(lease.holder, batch, index.catalogue.version)
        if step is Step.DONE:
            tell("batch_sealed", batch, rows=len(batch.rows), units=batch.units)
        everything = step is Step.DONE and set(choice.rows) == set(allowed)
        return sealed or Progress.MORE, everything  # nothing sealed: the lease is lost

    def _nothing_to_seal(
        self, lane: Lane, index: CatalogueIndex, allowed: list[Row], held_back: bool
    ) -> Progress:
        if any(row.line not in index.line for row in allowed):
            why = "rows of lines unknown to the catalogue"
            self.hindrances.block(lane, why, UNKNOWN_LINES_RETRY_S)
            return Progress.BLOCKED
        # What is left is carried, or waits until what is refused is tried again.
        return Progress.BLOCKED if held_back else Progress.EMPTY

    async def _still_refused(self, lease: Lease, lane: Lane, to_the_end: bool) -> list[Mark] | None:
        """Let go again what was refused long enough, and give the rest; None: the lease is lost."""
        marks, now_ms = await self.outbox.marks(*lane)
        retry_all = to_the_end and lane not in self._retried
        due: list[Mark] = []
        left: list[Mark] = []
        for mark in marks:
            (due if retry_all or mark.retry_ms <= now_ms else left).append(mark)
        if due:
            step = await self.outbox.unblock(lease.holder, *lane, due)
            if step is Step.LEASE_LOST:
                return None
        if to_the_end:
            self._retried.add(lane)
        if left:
            first = min(left, key=lambda mark: mark.retry_ms)
            self.hindrances.look_again(lane, first.why, (first.retry_ms - now_ms) / 1000)
        else:
            self.hindrances.nothing_waits(lane)
        return left

    async def _deliver(
        self, lease: Lease, route: Route, index: CatalogueIndex, batch: Batch
    ) -> Progress | bool:
        """Bring a sealed batch as far as it goes now.

        A bool when the next one may follow: whether some of this one goes again at once.
        """
        if self.outcomes.is_granted(batch) or not batch.body:  # no body: its rows net to nothing
            await self.outcomes.settle(lease, batch)
            return False
        breaker = self.hindrances.breaker(route.name)
        if not breaker.admit(self.monotonic_s()):
            return Progress.LATER
        sent = False
        try:
            if route.reconciler is not None:
                known = await self._reconcile(lease, route, route.reconciler, index, batch)
                if not isinstance(known, Batch):
                    return known
                batch = known
            step = await self.outbox.begin_attempt(lease.holder, batch, route.horizon_ms)
            if step is Step.IN_DOUBT:
                await self.outcomes.set_aside(lease, batch, Standing.PARKED, UNKNOWN_WHY)
                return False
            if step is not Step.DONE:
                return Progress.MORE if step is Step.LEASE_LOST else True
            if not lease.valid(self.monotonic_s()):  # this process was suspended in between
                await self.outbox.clear_attempt(lease.holder, batch)
                return Progress.MORE
            sent = True
        finally:
            if not sent:
                breaker.give_back(self.monotonic_s())
        verdict = await route.sender.send(batch)
        return await self.outcomes.follow(lease, route, index, batch, verdict)

    async def _reconcile(
        self,
        lease: Lease,
        route: Route,
        reconciler: Reconciler,
        index: CatalogueIndex,
        batch: Batch,
    ) -> Batch | Progress | bool:
        """Decide an attempt in doubt, then ask what the upstream has before the next one.

        Gives the batch with what that was, or as `_deliver` when there is to be none.
        """
        if batch.first_sent_ms is not None:
            verdict = await reconciler.decide(index, batch)
            tell("batch_reconciled", batch, found=verdict.answer, why=verdict.why)
            if verdict.answer is not Answer.NOT_APPLIED:
                return await self.outcomes.follow(lease, route, index, batch, verdict)
            latest = replace(batch, attempts=batch.attempts - 1)
            if await self.outbox.clear_attempt(lease.holder, latest) is not Step.DONE:
                return Progress.MORE
            batch = replace(batch, first_sent_ms=None)
        before = await reconciler.before(index, batch)
        if isinstance(before, Verdict):
            return await self.outcomes.follow(lease, route, index, batch, before)
        return replace(batch, before=before)


def _choose(
    index: CatalogueIndex,
    attachment: Attachment,
    route: Route,
    rows: list[Row],
    marks: list[Mark],
) -> Choice:
    if route.by_line:
        return choose_line(
            rows,
            index.line,
            rows_max=route.rows_max,
            count_max=route.count_max,
            carried={mark.scope for mark in marks if mark.carried},
        )
    if route.by_row:
        return choose_events(rows, index.line, rows_max=route.rows_max)
    return choose_rows(
        rows,
        index.line,
        features_max=route.features_max,
        rows_max=route.rows_max,
        count_max=route.count_max,
        by_host=attachment.by_host,
        carried={mark.scope for mark in marks if mark.carried},
    )
