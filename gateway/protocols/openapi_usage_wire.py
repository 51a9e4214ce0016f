"""The bodies of usage reports as types; usage_report.py writes them, by hand and in pieces.

Decided here: which members a report has beside those that its rows are told apart by, and that a
report by `code` is one of denials wherever it was asked for. What `by` leaves open is absent from
every row. A test writes a report of each kind and holds it to these types.
Source: INTERFACE 4, core/reports_asked.py.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.core.model import Code

_Units: TypeAlias = Annotated[
    int, Meta(description="Metered units, net of what was undone; negative when more was undone.")
]
_Undone: TypeAlias = Annotated[
    int, Meta(ge=0, description="Metered units that were consumed and given back.")
]
_Seats: TypeAlias = Annotated[int, Meta(ge=0)]
_Denied: TypeAlias = Annotated[int, Meta(ge=0, description="Entries of a `statusList`.")]
_PEAK = Meta(
    description="The most seats of concurrent lines held at one moment; null where several lines"
    " held some, so that it is not known: by line it is."
)
_PLACE = "(day|week|month|quarter)(,(feature|line))?|feature|line"
_BY = "What rows are told apart by; in this order, however it was asked."


class _Days(msgspec.Struct, frozen=True, kw_only=True):
    instance: str
    timezone: Annotated[str, Meta(description="Of the instance: days are local to it.")]
    from_: Annotated[date, Meta(description="The first day.")] = msgspec.field(name="from")
    to: Annotated[date, Meta(description="The last day, included.")]
    by: Annotated[str, Meta(pattern=f"^({_PLACE})$", description=_BY)]


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    label: Annotated[
        Annotated[str, Meta(pattern="^[0-9]{4}-([0-9]{2}(-[0-9]{2})?|W[0-9]{2}|Q[1-4])$")]
        | UnsetType,
        Meta(description="The unit of time: `2026-11-22`, `2026-W47`, `2026-11` or `2026-Q4`."),
    ] = UNSET
    feature: Annotated[
        str | UnsetType,
        Meta(description="There by line as well. Empty: features that no line has."),
    ] = UNSET
    line: Annotated[
        str | UnsetType,
        Meta(
            description="The id of the line; empty where there is none. A denial is told of the"
            " first line that the feature had."
        ),
    ] = UNSET


class UsageRow(_Row, frozen=True, kw_only=True):
    """What was used of something in some time."""

    units: _Units
    undone: _Undone
    peak: Annotated[_Seats | None, _PEAK]
    denied: _Denied


class UsageTotal(msgspec.Struct, frozen=True):
    """The rows together."""

    units: _Units
    undone: _Undone
    peak: Annotated[_Seats | None, _PEAK]
    denied: _Denied


class UsageDays(_Days, frozen=True, kw_only=True):
    """What was used in a range of days."""

    rows: list[UsageRow]
    total: UsageTotal


class UsageReport(UsageDays, frozen=True, kw_only=True):
    """What was used in the days asked for and, when compared, in those before them."""

    previous: UsageDays | UnsetType = UNSET


class DenialRow(_Row, frozen=True, kw_only=True):
    """What was denied of something in some time."""

    code: Annotated[Code | UnsetType, Meta(description="Why, as in a `statusList`.")] = UNSET
    denied: _Denied


class DenialTotal(msgspec.Struct, frozen=True):
    """The rows together."""

    denied: _Denied


class DenialDays(_Days, frozen=True, kw_only=True):
    """What was denied in a range of days."""

    by: Annotated[str, Meta(pattern=f"^(({_PLACE})(,code)?|code)$", description=_BY)]
    rows: list[DenialRow]
    total: DenialTotal


class DenialReport(DenialDays, frozen=True, kw_only=True):
    """What was denied in the days asked for and, when compared, in those before them."""

    previous: DenialDays | UnsetType = UNSET


class PeakRow(_Row, frozen=True, kw_only=True):
    """How many seats of something were held in some time."""

    peak: Annotated[_Seats | None, _PEAK]


class PeakTotal(msgspec.Struct, frozen=True):
    """The rows together."""

    peak: Annotated[_Seats | None, _PEAK]


class PeakDays(_Days, frozen=True, kw_only=True):
    """How many seats were held in a range of days."""

    rows: list[PeakRow]
    total: PeakTotal


class PeakReport(PeakDays, frozen=True, kw_only=True):
    """How many seats were held in the days asked for and, when compared, in those before them."""

    previous: PeakDays | UnsetType = UNSET
