"""What the forwarder needs of the store and of an upstream, so that the two do not know each other.

Decided here: the words in which store and upstream floors answer it. Not decided here: when what is
called (upstream/forwarder.py, upstream/delivery.py). Expected refusals are values; Unavailable is
raised when the store does not answer, and a later call is always safe. Source: DESIGN 2 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.model import COUNT_MAX, FEATURES_MAX, Line
from gateway.core.syncing import Schedule
from gateway.core.usage import BATCH_ROWS_MAX, Batch, Choice, Row, Scope


class Step(IntEnum):
    """What a script of the outbox answered; the numbers are those in the Lua files' heads."""

    DONE = 1
    GONE = 0  # no such batch is sealed (any more): a repeat, nothing was changed
    LEASE_LOST = -1  # the lease is another's, nothing was changed
    IN_DOUBT = -2  # an earlier attempt may have been applied and the upstream has forgotten its id
    FULL = -3  # no more batches are set aside until a person has decided about some


class Answer(StrEnum):
    """What an upstream's answer means for the batch; DESIGN 5 has a row for each."""

    GRANTED = "granted"
    NOT_APPLIED = "not_applied"  # for sure; may be sent again at once
    UNKNOWN = "unknown"  # may have been applied
    REFUSED = "refused"  # nothing was applied, some features are named
    INVALID = "invalid"  # nothing was applied, the content is not taken
    STOPPED = "stopped"  # nothing was applied, nothing would be: credential or address
    HANDED_OVER = "handed_over"  # kept safe for whoever carries it; a receipt will tell the rest
    UNDECIDED = "undecided"  # may have been applied; to look again later will tell
    AMBIGUOUS = "ambiguous"  # may have been applied; whatever is looked at, nothing tells


class Refusal(msgspec.Struct, frozen=True):
    """A feature that the upstream would not take, and its word for why."""

    name: str
    version: str
    code: str


class Verdict(msgspec.Struct, frozen=True):
    """A judged answer. `why` is for people and holds no body, token or key.

    `conclusive`: it speaks for every attempt under this id, since the upstream remembers ids with
    what became of them. Else a refusal speaks only for the attempt it answers.
    """

    answer: Answer
    why: str = ""
    retry_after_s: int | None = None
    refused: tuple[Refusal, ...] = ()
    conclusive: bool = False


class Standing(StrEnum):
    """Where a batch stands that was set aside."""

    PARKED = "parked"  # it may have been applied: a person, or a receipt, tells
    DEAD = "dead"  # it was not applied and will not be, as it is


class Mark(msgspec.Struct, frozen=True):
    """What an upstream refuses: units of one line, and of one host when it is told hosts.

    They wait from `since_ms` and go again at `retry_ms`. `carried`: more was undone than used and
    it takes nothing back; the units stay open to be netted against later use. Otherwise they are
    parked, as *blocked*.
    """

    line: str
    host: str
    why: str
    since_ms: int
    retry_ms: int
    carried: bool = False

    @property
    def scope(self) -> Scope:
        """The line and host it stands for."""
        return self.line, self.host


class Rest(msgspec.Struct, frozen=True):
    """What an outbox still has: open rows, and the id of the sealed batch ("" for none).

    Of the open rows, those that are only carried are not counted.
    """

    open_rows: int
    sealed: str


Places = dict[int, list[str]]  # names of instances by partition, sorted


class Counters(msgspec.Struct, frozen=True):
    """Counters of an instance and what an upstream does not have of them, as of one moment.

    `used` is by `<line>|<period label>`. `unsettled` are the rows that wait, are blocked, under way
    or set aside, by line; `under_way` are the lines of the sealed batch.
    """

    used: Mapping[str, int]
    unsettled: Mapping[str, list[Row]]
    under_way: frozenset[str]


class PartlyUnavailable(Unavailable):
    """A part of the store does not answer; `found` is what the rest of it told."""

    def __init__(self, found: Places) -> None:
        super().__init__("A part of the store does not answer", "not_applied")
        self.found = found


class Outbox(Protocol):
    """Usage rows and sealed batches of the store. A `holder` is the lease's full uuid:token.

    What is told of all partitions raises PartlyUnavailable where it is told of some.
    """

    async def dirty(self) -> Places: ...

    async def due(self, now_ms: int) -> Places: ...

    async def instances(self) -> Places: ...

    async def take_lease(self, partition: int, holder: str, ttl_ms: int) -> bool: ...

    async def keep_lease(self, partition: int, holder: str, ttl_ms: int) -> bool: ...

    async def drop_lease(self, partition: int, holder: str) -> bool: ...

    async def open_rows(
        self, instance: str, upstream: str, rows_max: int, wanted: Callable[[Row], bool]
    ) -> list[Row]: ...

    async def sealed(self, instance: str, upstream: str) -> Batch | None: ...

    async def seal(self, holder: str, batch: Batch, version: int) -> tuple[Step, Batch | None]: ...

    async def begin_attempt(self, holder: str, batch: Batch, horizon_ms: int) -> Step: ...

    async def clear_attempt(self, holder: str, batch: Batch) -> Step: ...

    async def settle(self, holder: str, batch: Batch) -> Step: ...

    async def marks(self, instance: str, upstream: str) -> tuple[list[Mark], int]: ...

    async def refuse(
        self, holder: str, batch: Batch, blocked: Sequence[int], marks: Sequence[Mark]
    ) -> Step: ...

    async def unblock(
        self, holder: str, instance: str, upstream: str, marks: Sequence[Mark]
    ) -> Step: ...

    async def split(self, holder: str, batch: Batch, first: Batch, second: Batch) -> Step: ...

    async def set_aside(self, holder: str, batch: Batch, standing: Standing, why: str) -> Step: ...

    async def crowded(self, upstream: str, rows: int) -> set[str]: ...

    async def clean(self, instance: str, version: int, upstreams: list[str]) -> bool: ...

    async def rest(self, instance: str, upstream: str) -> Rest: ...


class CatalogueReader(Protocol):
    """Where the lines and attachments of an instance are found, as they are in force now."""

    async def read(self, instance: str) -> CatalogueIndex | None: ...


class Sender(Protocol):
    """Sends a batch's bytes under its id, once, and judges the answer. Raises nothing expected."""

    async def send(self, batch: Batch) -> Verdict: ...


class Reconciler(Protocol):
    """Asks an upstream that remembers no ids what it has, so that attempts in doubt are decided."""

    async def before(self, index: CatalogueIndex, batch: Batch) -> str | Verdict:
        """Ask what it has, to be noted with the attempt that follows; a verdict: it is not told.

        Nothing was sent then, so that verdict is never UNKNOWN.
        """

    async def decide(self, index: CatalogueIndex, batch: Batch) -> Verdict:
        """Decide the batch's latest attempt, whose outcome is unknown.

        NOT_APPLIED: for sure, nor will it be. UNKNOWN, STOPPED: it did not tell.
        """


class Leased(Protocol):
    """The lease that an instance is visited under."""

    @property
    def holder(self) -> str: ...

    def valid(self, now_s: float) -> bool:
        """Say whether it may still be worked under, as far as this process can know."""


class Demands(Protocol):
    """Where people say that what waits for an upstream is to go now."""

    async def demanded(self, upstream: str) -> Collection[str]:
        """List the instances where that was said, and no visit has been made since."""

    async def schedule(self, instance: str, upstream: str) -> Schedule: ...

    async def synced(self, instance: str, upstream: str, begun_ms: int, answered: int) -> None: ...


class Sync(Protocol):
    """An upstream that also tells what it has, by a schedule of its own for each instance."""

    async def due(self, wanted: Collection[str], *, everything: bool) -> Places:
        """List the instances attached to it whose time it is; also those `wanted` for a reason of
        their own, where the schedule is on. `everything`: all of them, as for a drain.
        """

    async def pull(self, lease: Leased, index: CatalogueIndex) -> None:
        """Ask what the upstream says of an instance's lines, take it over, and end its sync.

        Called when what could be sent was; raises Unavailable when the store does not answer.
        """


Encode = Callable[[Choice, str, str, Mapping[str, Line]], bytes]


@dataclass(frozen=True)
class Route:
    """One configured upstream, as the forwarder drives it.

    `horizon_ms` is how long the upstream remembers an id, less what a send may take; 0: it does
    not. `encode` is pure: a choice, the instance's id, the batch's id and the lines give the body.
    `by_row`: rows go each by itself; `by_line`: as the sum of one line; otherwise as the sum of a
    feature, of one host and one sign at a time. Without a `reconciler` an attempt in doubt is sent
    again or parked. With a `sync` that says who is visited, instead of the interval.
    """

    name: str
    sender: Sender
    encode: Encode
    interval_s: float
    horizon_ms: int
    features_max: int = FEATURES_MAX
    rows_max: int = BATCH_ROWS_MAX
    count_max: int = COUNT_MAX
    by_row: bool = False
    by_line: bool = False
    reconciler: Reconciler | None = None
    sync: Sync | None = None
