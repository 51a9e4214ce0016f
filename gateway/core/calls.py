"""What is handed to the ledger: requests resolved against a catalogue, and what comes back.

Decided here: the shapes that core/ledger.py and store/lua/apply.lua both take, so that one can be
held against the other. They are arrays on the wire (msgpack); `0` stands for "none" wherever a
moment, span or index may be absent, because Lua arrays have no holes. Nothing here depends on the
time: dates are filtered by the ledger.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from gateway.core.model import Held, Model, Outcome, Preview

SEEN_ROWS_MAX: Final = 256  # lines kept of why, in a request's order of features
MODEL_NUMBER: Final = {Model.METERED: 0, Model.METERED_REUSABLE: 1, Model.CONCURRENT: 2}

INCREMENTAL: Final = 1  # bits of Ask.flags
PARTIAL: Final = 2
PREVIEW: Final = 4
DROP: Final = 8  # the host is forgotten: what it held is returned, and told as what it had
# The bits below are for asks about tables of exactly one line, which nothing both consumes and
# returns of at once.
SET: Final = 16  # a want of a reusable line: so many the host shall hold; -n: it does hold n
LATER: Final = 32  # a renewal never brings a lapse nearer
RESTOCK: Final = 64  # a negative want of a metered line: units come back, without a window
TELL: Final = 128  # the counters of each row of each table are told, as they are afterwards


class Verdict(IntEnum):
    """What became of an ask; the numbers are those of apply.lua's replies."""

    DONE = 0  # applied (or previewed), payload: outcome
    REPLAYED = 1  # the id was known with the same meaning, payload: outcome, echo
    MISMATCH = 2  # the id was known with another meaning
    STALE = 3  # resolved against another catalogue, payload: the version in force
    CALENDAR = 4  # the calendar does not reach, payload: earliest moment needed, now
    AGAIN = 5  # lapses are being swept, call again in the same order


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One line of a table, in candidate order.

    `fit`: the place (from 1) of the first want whose version this line serves, wants being sorted
    highest version first, so that it serves every later one too; 0: none. `interval_ms` 0: a grant
    does not lapse before the line's expiry. `period`: index into Context.periods.
    """

    id: str
    capacity: int
    starts_ms: int
    expires_ms: int
    fit: int
    selected: bool
    retired: bool
    interval_ms: int
    period: int
    undo_ms: int


class SharedRow(Row, frozen=True, array_like=True):
    """A line that another server consumes of too: what it took is not available here.

    A kind of its own, so that no other line has more on the wire or one field more to be read.
    """

    shared: bool = True


class Table(msgspec.Struct, frozen=True, array_like=True):
    """All lines of one feature name that a request may touch, retired ones included."""

    model: int
    rows: list[Row]


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One resolved request. `wants`: per table its index and [units, place in the request] per
    version; a table without any is only told.

    `catalogue`: the packed next version of the instance's catalogue, against which the ask is
    resolved, while its context has the version in force. It has other capacities and nothing else
    new, and is written only with an ask that is granted in full; b"": none. Such an ask is granted
    in full or not at all, or it would have what no catalogue in force allows.
    """

    context: int
    id: str  # last part of the idempotency record's key; "" for a preview
    ttl_ms: int
    fingerprint: str  # hex: the store unpacks text only
    # the request as first sent, to answer a replay byte for byte; "" for the gateway's own ids
    echo: str
    host: str
    flags: int
    wants: list[tuple[int, list[tuple[int, int]]]]
    explain_ms: int = 0  # how long why it came to this is kept beside the outcome; 0: not at all
    versions: list[list[str]] = []  # of the lines of each want's table, to be kept with why
    decision: tuple[str, ...] = ()  # names and values for the record, in the same step
    catalogue: bytes = b""


class Context(msgspec.Struct, frozen=True, array_like=True):
    """What asks of one instance share.

    `days`: (start_ms, yyyymmdd, month key index) per local day, the last one only ends the day
    before it. `periods`: per reset rule (start_ms, label), the last one only an end; a single
    entry lasts for ever. `upstreams`: (name, by_host).
    """

    instance: str
    version: int
    upstreams: list[tuple[str, bool]]
    days: list[tuple[int, int, int]]
    periods: list[list[tuple[int, str]]]


class SeenRow(Row, frozen=True, array_like=True):
    """A line as the script saw it: `used` of the period then current; `undoable` units of this
    host, 0 where none were to be undone; `version` of the line as the request was resolved;
    `elsewhere` units that another server consumed in that period.
    """

    used: int
    undoable: int
    version: str
    elsewhere: int = 0


class SeenTable(msgspec.Struct, frozen=True, array_like=True):
    """The lines of one feature name, `omitted` more of them, and the wants that they were looked
    at for: [units, place], highest version first.
    """

    model: int
    rows: list[SeenRow]
    omitted: int
    wants: list[tuple[int, int]]


class Why(msgspec.Struct, frozen=True, array_like=True):
    """All that decided an outcome. `echo` is the request as first sent, `flags` as of an ask, `had`
    all that the host held before.
    """

    instance: str
    version: int
    flags: int
    host: str
    echo: str
    tables: list[SeenTable]
    had: list[Held]
    outcome: Outcome


class Reply(msgspec.Struct, frozen=True):
    """The ledger's answer to one ask; which members are set depends on the verdict."""

    verdict: Verdict
    outcome: Outcome | None = None
    preview: Preview | None = None
    echo: str = ""
    version: int = 0
    from_ms: int = 0
    now_ms: int = 0
