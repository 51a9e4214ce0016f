"""Why a request was granted or not, as an answer: what was asked, which lines there were, what
came of it.

Decided here: the members and the sentences. Everything is told from the facts that the script kept
(core/calls.py, Why), so that a catalogue which changed since then changes nothing of it. Not
decided here: who may ask. Pure. Source: INTERFACE 4, SEMANTICS 3, 4 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.core.calls import (
    INCREMENTAL,
    MODEL_NUMBER,
    PARTIAL,
    RESTOCK,
    SET,
    TELL,
    SeenRow,
    SeenTable,
    Why,
)
from gateway.core.explaining import excluded
from gateway.core.model import UNITS_MAX, AccessRequest, Code, Model, Shortfall
from gateway.core.moments import iso
from gateway.protocols.cmapi_answer import read_echo
from gateway.protocols.cmapi_wire import Moment

_MODEL: Final[Mapping[int, Model]] = {number: model for model, number in MODEL_NUMBER.items()}
_METERED: Final = MODEL_NUMBER[Model.METERED]
_OF_ONE_LINE: Final = SET | RESTOCK | TELL  # asks that name lines, not features
_Units = int | Literal["unlimited"]
_ByLine = Annotated[dict[str, int], Meta(description="Units by line id.")]


class AskedHost(msgspec.Struct, frozen=True):
    """Who asked, as sent."""

    type: str
    value: str


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """The request as first sent, normalised; the dictionary of the vendor decides nothing."""

    host_id: AskedHost
    incremental: bool
    partial: bool
    borrow_interval_seconds: Annotated[int, Meta(description="0: no preference.")]
    selectors_dictionary: dict[str, str]


class ExplainedWant(msgspec.Struct, frozen=True, rename="camel"):
    """What was wanted of a feature in one version: what came, and why not more."""

    version: str
    asked: int
    granted: Annotated[
        int, Meta(description="Of what was asked; below 0: returned or undone, as asked.")
    ]
    code: Annotated[Code | None, Meta(description="As in statusList; null: none was short.")]
    why: str
    candidates: Annotated[
        list[str], Meta(description="Line ids, in the order in which counts are taken.")
    ]


class SeenLine(msgspec.Struct, frozen=True, rename="camel"):
    """A line of the feature, with its counters just before the request."""

    feature_id: Annotated[str, Meta(description="The line's id.")]
    version: str
    excluded_by: Annotated[
        Code | None,
        Meta(description="The filter it fell to, also for the lowest version wanted."),
    ]
    capacity: _Units
    used: Annotated[int, Meta(description="In the reset period then current, by all hosts.")]
    elsewhere: Annotated[
        int, Meta(description="In that period, by other servers of the same licence.")
    ]
    held: Annotated[int, Meta(description="By this host.")]
    available: Annotated[
        _Units | None,
        Meta(
            description="To this host; what it held counts where a new total was asked for. Null"
            " where nothing was to be taken from it."
        ),
    ]
    undoable: Annotated[
        int | None, Meta(description="By this host; null where nothing was to be undone.")
    ]
    starts: Moment | None
    expires: Moment | None
    change: Annotated[
        int,
        Meta(description="What the request did: units consumed or undone, held more or less."),
    ]


class ExplainedFeature(msgspec.Struct, frozen=True, rename="camel"):
    """One feature of the list."""

    name: str
    model: Model
    wants: Annotated[list[ExplainedWant], Meta(description="The highest version first.")]
    lines: Annotated[list[SeenLine], Meta(description="In the order in which counts are taken.")]
    lines_omitted: Annotated[int, Meta(description="Further lines, of which nothing was kept.")]


class Explained(msgspec.Struct, frozen=True, rename="camel"):
    """Why a request came to what it came to."""

    id: str
    instance_id: str
    transaction_time: Moment
    catalogue_version: int
    request: Asked
    features: list[ExplainedFeature]
    held_before: _ByLine
    held_after: _ByLine
    released: Annotated[
        dict[str, int],
        Meta(description="Units by line id, of features that the list left out."),
    ]


def explained(request_id: str, why: Why, features: Mapping[str, str]) -> Explained:
    """Tell a kept `why` of the request that was sent under `request_id`.

    `features` says which feature each line is of, which never changes. Pure.
    """
    request, outcome = read_echo(why.echo), why.outcome
    before = {held.line: held.count for held in why.had}
    left_out = _left_out(why, request, features)
    after = _held_after(why, before, left_out)
    return Explained(
        id=request_id,
        instance_id=why.instance,
        transaction_time=iso(outcome.at_ms),
        catalogue_version=why.version,
        request=Asked(
            AskedHost(request.host.type, request.host.value),
            bool(why.flags & INCREMENTAL),
            bool(why.flags & PARTIAL),
            request.interval_s,
            request.selectors,
        ),
        # A table without wants was only told: it decided nothing.
        features=[
            _feature(why, request, table, before, after) for table in why.tables if table.wants
        ],
        held_before=before,
        held_after=after,
        released={line: before[line] for line in left_out if line not in after},
    )


def encode(answer: Explained) -> bytes:
    """Write the answer as JSON."""
    return msgspec.json.encode(answer)


def _denied(why: Why) -> bool:
    """Say whether nothing at all was changed, since something fell short."""
    return bool(why.outcome.shortfalls) and not why.flags & PARTIAL


def _left_out(why: Why, request: AccessRequest, features: Mapping[str, str]) -> list[str]:
    """List the lines that the host held some of and that the request did not name."""
    held = [each.line for each in why.had]
    if why.flags & _OF_ONE_LINE:
        looked = {row.id for table in why.tables for row in table.rows}
        return [line for line in held if line not in looked]
    named = {want.name for want in request.wants}
    return [line for line in held if features.get(line) not in named]


def _held_after(why: Why, before: Mapping[str, int], left_out: list[str]) -> dict[str, int]:
    if _denied(why):
        return dict(before)
    kept = {line: before[line] for line in left_out} if why.flags & INCREMENTAL else {}
    return kept | {held.line: held.count for held in why.outcome.held if held.count}


def _feature(
    why: Why,
    request: AccessRequest,
    table: SeenTable,
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> ExplainedFeature:
    short = {shortfall.want: shortfall for shortfall in why.outcome.shortfalls}
    wants = [
        ExplainedWant(
            version=request.wants[at].version,
            asked=0 if _presupposes(why, table, asked) else asked,
            granted=0 if _denied(why) else _granted(why, table, asked, short.get(at)),
            code=Code(short[at].code) if at in short else None,
            why=_sentence(why, table, asked, short.get(at)),
            candidates=[
                row.id for row in table.rows if excluded(row, place, why.outcome.at_ms) is None
            ],
        )
        for place, (asked, at) in enumerate(table.wants, 1)
    ]
    return ExplainedFeature(
        name=request.wants[table.wants[0][1]].name,
        model=_MODEL[table.model],
        wants=wants,
        lines=[_line(why, table, row, before, after) for row in table.rows],
        lines_omitted=table.omitted,
    )


def _sets(why: Why, table: SeenTable) -> bool:
    """Say whether a want of a table is what the host shall hold after."""
    return bool(why.flags & SET) and table.model != _METERED


def _presupposes(why: Why, table: SeenTable, asked: int) -> bool:
    return asked < 0 and _sets(why, table)


def _granted(why: Why, table: SeenTable, asked: int, short: Shortfall | None) -> int:
    if _presupposes(why, table, asked):
        return 0
    if short is None:
        return asked
    return short.available if asked >= 0 else -short.available


def _sentence(why: Why, table: SeenTable, asked: int, short: Shortfall | None) -> str:
    if short is None:
        if _denied(why):
            return "It could be served, but another feature fell short and partial was false"
        return _served(why, table, asked)
    said = _FILTERED.get(short.code)
    if said is None and _presupposes(why, table, asked):
        said = f"The host had to hold {-asked} of it already, and held {short.available}"
    elif said is None and asked >= 0:
        said = f"Of {short.asked} asked for there were {short.available}"
    elif said is None and table.model == _METERED:
        done = "returned" if why.flags & RESTOCK else "undone"
        said = f"Of {-asked} to be {done} {short.available} could be"
    elif said is None:
        said = f"Of {-asked} to be returned the host held {short.available}"
    return said + ("; partial was false, so nothing at all changed" if _denied(why) else "")


def _served(why: Why, table: SeenTable, asked: int) -> str:
    if _sets(why, table):
        if asked < 0:
            return f"The host had to hold {-asked} of it already, and did"
        return f"The host was to hold {asked or 'none'} of it" + (", and does" if asked else "")
    if asked > 0:
        return "All of it was granted"
    if table.model == _METERED:
        done = "returned" if why.flags & RESTOCK else "undone"
        return f"All of it was {done}" if asked else "Nothing was asked of it"
    if asked:
        return "All of it was returned"
    return "It was read back" if why.flags & INCREMENTAL else "The host was to hold none of it"


_FILTERED: Final[Mapping[str, str]] = {
    Code.FEATURE_NOT_FOUND: "There is no line of this name; a retired one counts as absent",
    Code.VERSION_TOO_HIGH: "No line of it has this version or a higher one",
    Code.LICENSE_NOT_YET_VALID: "No line that fits had started",
    Code.LICENSE_LAPSED: "Every line that fits, and had started, had expired",
    Code.DENIED_BY_POLICY: "No line that was in force fits the selectors of the request",
    Code.CONSUMED_NOT_RETURNABLE: "No line of it has an undo interval",
}


def _line(
    why: Why, table: SeenTable, row: SeenRow, before: Mapping[str, int], after: Mapping[str, int]
) -> SeenLine:
    # The last want asks for the lowest version: what falls out for it served none of them.
    code = excluded(row, len(table.wants), why.outcome.at_ms)
    held, unlimited = before.get(row.id, 0), row.capacity >= UNITS_MAX
    # Where a new total is asked for, what the host holds is a part of it.
    own = held if _sets(why, table) or not why.flags & INCREMENTAL else 0
    room = max(0, row.capacity - row.used - row.elsewhere + own)
    takes = code is None and any(asked > 0 for asked, _ in table.wants)
    undoes = table.model == _METERED and not why.flags & RESTOCK
    undoes = undoes and any(asked < 0 for asked, _ in table.wants)
    if table.model == _METERED:
        change = sum(grant.units for grant in why.outcome.grants if grant.line == row.id)
    else:
        change = after.get(row.id, 0) - held
    return SeenLine(
        feature_id=row.id,
        version=row.version,
        excluded_by=code,
        capacity="unlimited" if unlimited else row.capacity,
        used=row.used,
        elsewhere=row.elsewhere,
        held=held,
        available=("unlimited" if unlimited else room) if takes else None,
        undoable=row.undoable if undoes else None,
        starts=iso(row.starts_ms) if row.starts_ms else None,
        expires=iso(row.expires_ms) if row.expires_ms else None,
        change=change,
    )
