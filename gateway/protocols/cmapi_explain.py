"""Why a request was granted or not, as an answer: what was asked, which lines there were, what
came.

Decided here: the members and the sentences. Everything is told from the facts that the script kept
(core/calls.py, Why): a catalogue that changed since then changes nothing but the versions shown of
lines. Not decided here: who may ask. Pure. Source: INTERFACE 4, SEMANTICS 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.core.calls import INCREMENTAL, MODEL_NUMBER, PARTIAL, SeenRow, SeenTable, Why
from gateway.core.explaining import excluded
from gateway.core.model import UNITS_MAX, AccessRequest, Code, Model, Outcome, Shortfall
from gateway.core.moments import iso
from gateway.protocols.cmapi_answer import read_echo

UNLIMITED: Final = "unlimited"
_MODEL: Final[Mapping[int, Model]] = {number: model for model, number in MODEL_NUMBER.items()}
_Moment = Annotated[str, Meta(description="ISO-8601 UTC with ms and Z")]


class AskedHost(msgspec.Struct, frozen=True, rename="camel"):
    """Who asked, as sent."""

    type: str
    value: str


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """The request as first sent, normalised; the dictionary of the vendor decides nothing."""

    host_id: AskedHost
    incremental: bool
    partial: bool
    borrow_interval_seconds: Annotated[int, Meta(description="0: no preference")]
    selectors_dictionary: dict[str, str]


class SeenLine(msgspec.Struct, frozen=True, rename="camel"):
    """A line of the feature with its counters just before the request."""

    feature_id: Annotated[str, Meta(description="The line's id")]
    version: Annotated[str, Meta(description="As the catalogue has it now")]
    candidate: bool
    excluded_by: Annotated[
        str | None, Meta(description="The filter it fell to; null for a candidate")
    ]
    capacity: Annotated[int | str, Meta(description='Units, or "unlimited"')]
    used: Annotated[int, Meta(description="In the reset period then current, by all hosts")]
    held: Annotated[int, Meta(description="By this host")]
    available: Annotated[
        int | str,
        Meta(description="To this host: what it held counts where the list is the new total"),
    ]
    starts: _Moment | None
    expires: _Moment | None
    granted: Annotated[
        int, Meta(description="What the request added; below 0: what it took back or gave back")
    ]


class ExplainedFeature(msgspec.Struct, frozen=True, rename="camel"):
    """One feature of the list: what was wanted of it, what came, and why not more."""

    name: str
    version: str
    asked: int
    granted: Annotated[int, Meta(description="Of what was asked; below 0: taken or given back")]
    model: str
    code: Annotated[str | None, Meta(description="As in statusList; null when all was granted")]
    why: str
    lines: Annotated[list[SeenLine], Meta(description="In the order in which counts are taken")]


class Explained(msgspec.Struct, frozen=True, rename="camel"):
    """Why a request came to what it came to."""

    id: str
    instance_id: str
    transaction_time: _Moment
    catalogue_version: int
    request: Asked
    features: list[ExplainedFeature]
    held_after: Annotated[
        dict[str, int], Meta(description="Of the features asked for, by line id; what it held then")
    ]


def explained(request_id: str, why: Why, versions: Mapping[str, str]) -> Explained:
    """Tell a kept `why` of the request that was sent under `request_id`.

    `versions` are those of the catalogue's lines now, by line id. Pure.
    """
    request, outcome = read_echo(why.echo), why.outcome
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
        features=_features(why, request, versions),
        held_after={held.line: held.count for held in outcome.held},
    )


def encode(answer: Explained) -> bytes:
    """Write the answer as JSON."""
    return msgspec.json.encode(answer)


def _features(
    why: Why, request: AccessRequest, versions: Mapping[str, str]
) -> list[ExplainedFeature]:
    short = {shortfall.want: shortfall for shortfall in why.outcome.shortfalls}
    told: dict[int, ExplainedFeature] = {}
    for table in why.tables:
        for place, (asked, at) in enumerate(table.wants, 1):
            want, found = request.wants[at], short.get(at)
            undone = bool(short) and not why.flags & PARTIAL
            told[at] = ExplainedFeature(
                name=want.name,
                version=want.version,
                asked=asked,
                granted=0 if undone else _granted(asked, found),
                model=_MODEL[table.model],
                code=found.code if found else None,
                why=_sentence(asked, found, undone=undone),
                lines=[_line(why, table, row, place, versions) for row in table.rows],
            )
    return [told[at] for at in sorted(told)]


def _granted(asked: int, short: Shortfall | None) -> int:
    if short is None:
        return asked
    return short.available if asked >= 0 else -short.available


def _sentence(asked: int, short: Shortfall | None, *, undone: bool) -> str:
    if short is None:
        if undone:
            return "It could be served, but another feature fell short and partial was false"
        return "All of it was granted" if asked else "Nothing was asked of it"
    had = f"of {short.asked} asked for there were {short.available}"
    filtered = short.code in _FILTERED
    had = _FILTERED[Code(short.code)] if filtered else had
    rest = "; partial was false, so nothing at all changed" if undone else ""
    return had[:1].upper() + had[1:] + rest


_FILTERED: Final[Mapping[Code, str]] = {
    Code.FEATURE_NOT_FOUND: "no line has this name",
    Code.VERSION_TOO_HIGH: "no line has this version or a higher one",
    Code.LICENSE_NOT_YET_VALID: "no line that fits had started",
    Code.LICENSE_LAPSED: "every line that fits had expired",
    Code.DENIED_BY_POLICY: "no line fits the selectors of the request",
}


def _line(
    why: Why, table: SeenTable, row: SeenRow, place: int, versions: Mapping[str, str]
) -> SeenLine:
    code = excluded(row, place, why.outcome.at_ms)
    # A list that is the new total first gives back what the host held.
    own = 0 if why.flags & INCREMENTAL else row.held
    room = max(0, row.capacity - row.used + own)
    unlimited = row.capacity >= UNITS_MAX
    return SeenLine(
        feature_id=row.id,
        version=versions.get(row.id, ""),
        candidate=code is None,
        excluded_by=code,
        capacity=UNLIMITED if unlimited else row.capacity,
        used=row.used,
        held=row.held,
        available=UNLIMITED if unlimited else room,
        starts=iso(row.starts_ms) if row.starts_ms else None,
        expires=iso(row.expires_ms) if row.expires_ms else None,
        granted=_of_line(why.outcome, table, row),
    )


def _of_line(outcome: Outcome, table: SeenTable, row: SeenRow) -> int:
    """Give what the request changed of a line: units consumed or undone, seats more or less."""
    if table.model == MODEL_NUMBER[Model.METERED]:
        return sum(grant.units for grant in outcome.grants if grant.line == row.id)
    return sum(held.count for held in outcome.held if held.line == row.id) - row.held
