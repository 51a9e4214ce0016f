"""What the forwarder needs of the store and of an upstream, so that the two do not know each other.

Decided here: the words in which store and upstream floors answer it. Not decided here: when what is
called (upstream/forwarder.py, upstream/delivery.py). Expected refusals are values; Unavailable is
raised when the store does not answer, and a later call is always safe. Source: DESIGN 2 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import COUNT_MAX, FEATURES_MAX
from gateway.core.usage import BATCH_ROWS_MAX, Batch, Choice, Row


class Step(IntEnum):
    """What a script of the outbox answered; the numbers are those in the Lua files' heads."""

    DONE = 1
    GONE = 0  # no such batch is sealed (any more): a repeat, nothing was changed
    LEASE_LOST = -1  # the lease is another's, nothing was changed
    IN_DOUBT = -2  # an earlier attempt may have been applied and the upstream has forgotten its id


class Answer(StrEnum):
    """What an upstream's answer means for the batch; DESIGN 5 has a row for each."""

    GRANTED = "granted"
    NOT_APPLIED = "not_applied"  # for sure; may be sent again at once
    UNKNOWN = "unknown"  # may have been applied
    REFUSED = "refused"  # nothing was applied, some features are named
    INVALID = "invalid"  # nothing was applied, the content is not taken
    STOPPED = "stopped"  # nothing was applied, nothing would be: credential or address


class Refusal(msgspec.Struct, frozen=True):
    """A feature that the upstream would not take, and its word for why."""

    name: str
    version: str
    code: str


class Verdict(msgspec.Struct, frozen=True):
    """A judged answer. `why` is for people and holds no body, token or key."""

    answer: Answer
    why: str = ""
    retry_after_s: int | None = None
    refused: tuple[Refusal, ...] = ()


class Rest(msgspec.Struct, frozen=True):
    """What an outbox still has: open rows, and the id of the sealed batch ("" for none)."""

    open_rows: int
    sealed: str


class Outbox(Protocol):
    """Usage rows and sealed batches of the store. A `holder` is the lease's full uuid:token."""

    async def dirty(self) -> dict[int, list[str]]: ...

    async def due(self, now_ms: int) -> dict[int, list[str]]: ...

    async def take_lease(self, partition: int, holder: str, ttl_ms: int) -> bool: ...

    async def keep_lease(self, partition: int, holder: str, ttl_ms: int) -> bool: ...

    async def drop_lease(self, partition: int, holder: str) -> bool: ...

    async def open_rows(self, instance: str, upstream: str, rows_max: int) -> list[Row]: ...

    async def sealed(self, instance: str, upstream: str) -> Batch | None: ...

    async def seal(self, holder: str, batch: Batch) -> tuple[Step, Batch | None]: ...

    async def begin_attempt(self, holder: str, batch: Batch, horizon_ms: int) -> Step: ...

    async def clear_attempt(self, holder: str, batch: Batch) -> Step: ...

    async def settle(self, holder: str, batch: Batch) -> Step: ...

    async def unseal(self, holder: str, batch: Batch) -> Step: ...

    async def clean(self, instance: str, version: int, upstreams: list[str]) -> bool: ...

    async def rest(self, instance: str, upstream: str) -> Rest: ...


class CatalogueReader(Protocol):
    """Where the lines and attachments of an instance are found, as they are in force now."""

    async def read(self, instance: str) -> CatalogueIndex | None: ...


class Sender(Protocol):
    """Sends a batch's bytes under its id, once, and judges the answer. Raises nothing expected."""

    async def send(self, batch: Batch) -> Verdict: ...


@dataclass(frozen=True)
class Route:
    """One configured upstream, as the forwarder drives it.

    `horizon_ms` is how long the upstream remembers an id, less what a send may take; 0: it does
    not. `encode` is pure: a choice with counts and the instance's id give the body.
    """

    name: str
    sender: Sender
    encode: Callable[[Choice, str], bytes]
    interval_s: float
    horizon_ms: int
    features_max: int = FEATURES_MAX
    rows_max: int = BATCH_ROWS_MAX
    count_max: int = COUNT_MAX
