"""CMAPI's reads of features on the wire: lines, who has something of them, and their totals.

Decided here: members, their order and spelling, and what stands where a line does not tell: no
vendor, its start as the day of issue, the instance's beginning as the time of receipt.
A moment is written as the date it came from where it is a midnight of the instance's time zone.
Not decided here: which lines are listed and when that was (service/features.py).
Source: protocols/cmapi.md 3.4 and Q14, SEMANTICS 3 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.core.errors import BadRequest
from gateway.core.intervals import renew_interval_s
from gateway.core.model import UNITS_MAX, Catalogue, Line, Model
from gateway.core.moments import iso
from gateway.core.numbers import served_number
from gateway.core.periods import local_day, midnight_ms, zone
from gateway.protocols.cmapi_answer import PERMANENT, UNCOUNTED
from gateway.protocols.cmapi_clients import (
    CLIENTS_DEFAULT,
    CLIENTS_MAX,
    Client,
    Number,
)
from gateway.protocols.cmapi_wire import Moment, Seconds, Units
from gateway.protocols.queries import read_query

UNLIMITED: Final = "unlimited"  # an overdraft without bound, as provisioned
_WHOLE: Final = re.compile(r"[0-9]{1,16}")
_DAY: Final = timedelta(days=1)

NotBuilt = Annotated[int, Meta(ge=0, le=0, description="Always 0: there are no reservations.")]


class Feature(msgspec.Struct, frozen=True, rename="camel"):
    """A feature line and what is used of it."""

    id: Annotated[
        int,
        Meta(
            ge=0,
            description="Given to the line when it is first applied, and never to another one of"
            " its instance. 0: a line of an earlier version, until the next apply.",
        ),
    ]
    feature_id: Annotated[str, Meta(description="The id of the line, as provisioned.")]
    feature_name: str
    feature_version: str
    type: Annotated[Literal["CONCURRENT", "METERED"], Meta(description="Ours.")]
    feature_kind: Literal["NORMAL_FEATURE"]
    vendor: Annotated[str, Meta(description="Always empty: a line does not tell it.")]
    issuer: str
    issued: Annotated[str, Meta(description="As `starts`: a line does not tell it.")]
    starts: Annotated[
        str,
        Meta(
            description="The day that it starts with, yyyy-mm-dd in the instance's time zone; a"
            " moment inside a day as ISO-8601, UTC, ms; empty: it has always been valid."
        ),
    ]
    notice: str
    expiry: Annotated[
        str,
        Meta(
            description="Its last day, yyyy-mm-dd in the instance's time zone; a moment inside a"
            " day as ISO-8601, UTC, ms; or `permanent`."
        ),
    ]
    received_time: Annotated[
        Moment, Meta(description="When the instance was first provisioned, ISO-8601, UTC, ms.")
    ]
    feature_count: Annotated[
        Units | Literal["uncounted"], Meta(description="Without overdraft; or `uncounted`.")
    ]
    used: Annotated[
        Units,
        Meta(
            description="In the current reset period, by other servers of its licence too; of"
            " seats, now."
        ),
    ]
    shared_used: Annotated[Units, Meta(description="As `used`: nothing is reserved.")]
    reserved: NotBuilt
    assigned_reserved: NotBuilt
    unassigned_reserved: NotBuilt
    overdraft_count: Annotated[
        Units, Meta(description="In units, also where a percentage was sold; 0 when uncapped.")
    ]
    overdraft_used_count: Annotated[Units, Meta(description="What is used past `featureCount`.")]
    uncapped_overdraft: bool
    metered: bool
    metered_reusable: bool
    metered_undo_interval: Annotated[Seconds, Meta(description="Seconds; 0: no undo.")]
    concurrent: bool
    uncounted: bool
    borrow_interval: Annotated[
        Seconds,
        Meta(description="Seconds; the line's or the instance's, the instance's maximum at most."),
    ]
    renew_interval: Annotated[
        Seconds, Meta(description="Seconds, of a grant that asked for no interval; 0: metered.")
    ]


class FeatureClient(msgspec.Struct, frozen=True, rename="camel"):
    """What a host has of a line and may give back: held, or consumed and still to be undone."""

    id: Annotated[
        Number, Meta(description="Follows from line and host: the same at every replica.")
    ]
    use_count: Annotated[int, Meta(ge=1, le=UNITS_MAX)]
    usage_kind: Annotated[Literal["CONCURRENT", "METERED"], Meta(description="Ours.")]
    reserved_count: NotBuilt
    client: Client


class FeatureTotals(msgspec.Struct, frozen=True, rename="camel"):
    """The lines of one name and version that have started and not expired, added up.

    A sum without a limit is 2^53-1, the largest whole number that every JSON reader keeps exact; no
    sum is larger.
    """

    total_count: Annotated[
        Units, Meta(description="Without overdraft; 9007199254740991 where a line is uncounted.")
    ]
    total_used: Annotated[Units, Meta(description="In the current reset period.")]
    total_overdraft_count: Annotated[
        Units, Meta(description="In units; 9007199254740991 where a line's is uncapped.")
    ]
    total_available: Annotated[
        Units,
        Meta(
            description="What is left of count and overdraft, line by line; of one without limit"
            " what is left of 9007199254740991."
        ),
    ]


Summaries = dict[str, dict[str, FeatureTotals]]  # by name, by version as the line spells it


class Page(msgspec.Struct, frozen=True):
    """Which elements are asked for: at most `limit` of those whose id is above `after`."""

    limit: int = CLIENTS_DEFAULT
    after: int = 0


def feature_of(line: Line, catalogue: Catalogue, used: int, received_ms: int) -> Feature:
    """Give the element of a line of which `used` units are used; below 0, where more came back
    than was consumed, none is. Pure.

    `received_ms`: when its instance was first provisioned.
    """
    count, timezone = line.count, catalogue.timezone
    borrow_ms = catalogue.borrow_ms if line.borrow_ms is None else line.borrow_ms
    starts = "" if line.starts_ms is None else _dated(line.starts_ms, timezone, ends=False)
    expiry = PERMANENT
    if line.expires_ms is not None:
        expiry = _dated(line.expires_ms, timezone, ends=True)
    return Feature(
        id=line.number,
        feature_id=line.id,
        feature_name=line.feature,
        feature_version=line.version,
        type=_kind(line),
        feature_kind="NORMAL_FEATURE",
        vendor="",
        issuer=line.issuer,
        issued=starts,
        starts=starts,
        notice=line.notice,
        expiry=expiry,
        received_time=iso(received_ms),
        feature_count=UNCOUNTED if count is None else count,
        used=_units(used),
        shared_used=_units(used),
        reserved=0,
        assigned_reserved=0,
        unassigned_reserved=0,
        overdraft_count=_overdraft(line) or 0,
        overdraft_used_count=0 if count is None else _units(used - count),
        uncapped_overdraft=line.overdraft == UNLIMITED,
        metered=line.model.metered,
        metered_reusable=line.model is Model.METERED_REUSABLE,
        metered_undo_interval=line.undo_ms // 1_000,
        concurrent=line.model is Model.CONCURRENT,
        uncounted=count is None,
        borrow_interval=min(borrow_ms, catalogue.borrow_max_ms) // 1_000,
        renew_interval=renew_interval_s(line, catalogue, 0),
    )


def served_of(line: Line, host: str, units: int, client: Client) -> FeatureClient:
    """Give the element of what a host, in canonical form, has of a line. Pure.

    `client` is what the host is among the clients: the same there and here.
    """
    return FeatureClient(
        id=served_number(line.id, host),
        use_count=units,
        usage_kind=_kind(line),
        reserved_count=0,
        client=client,
    )


def summaries_of(lines: Iterable[tuple[Line, int]]) -> Summaries:
    """Add up lines, each with its used units, by name and version. Pure."""
    found: Summaries = {}
    for line, used in lines:
        overdraft = _overdraft(line)
        added = FeatureTotals(
            total_count=UNITS_MAX if line.count is None else line.count,
            total_used=_units(used),
            total_overdraft_count=UNITS_MAX if overdraft is None else overdraft,
            total_available=_units(line.capacity - used),
        )
        versions = found.setdefault(line.feature, {})
        before = versions.get(line.version)
        versions[line.version] = added if before is None else _sum(before, added)
    return found


def decode_active_only(query: bytes) -> bool:
    """Read `activeOnly`, false when it is not there. Raises BadRequest. Pure."""
    said = read_query(query, ("activeOnly",)).get("activeOnly", "false")
    if said not in ("true", "false"):
        raise BadRequest("activeOnly must be true or false", "activeOnly")
    return said == "true"


def decode_page(query: bytes) -> Page:
    """Read `limit`, 1 to CLIENTS_MAX, and `after`, the id of the last element seen. Raises
    BadRequest. Pure.
    """
    said = read_query(query, ("limit", "after"))
    limit, after = said.get("limit", str(CLIENTS_DEFAULT)), said.get("after", "0")
    if not _WHOLE.fullmatch(limit) or not 1 <= int(limit) <= CLIENTS_MAX:
        raise BadRequest(f"limit must be a whole number from 1 to {CLIENTS_MAX}", "limit")
    if not _WHOLE.fullmatch(after):
        raise BadRequest("after must be the id of the last element seen", "after")
    return Page(int(limit), int(after))


def next_link(page: Page, last: int) -> str:
    """Give the `Link` header from a page that ends with the id `last` to the next one (RFC 8288).

    The reference is a query alone, so that it keeps whatever form of path was asked. Pure.
    """
    return f'<?limit={page.limit}&after={last}>; rel="next"'


def encode(found: Feature | list[Feature] | list[FeatureClient] | Summaries) -> bytes:
    """Write an answer."""
    return msgspec.json.encode(found)


def _kind(line: Line) -> Literal["CONCURRENT", "METERED"]:
    return "METERED" if line.model.metered else "CONCURRENT"


def _units(counted: int) -> int:
    return min(UNITS_MAX, max(0, counted))


def _overdraft(line: Line) -> int | None:
    """Give what a line's overdraft comes to in units; None: uncapped."""
    if line.overdraft == UNLIMITED:
        return None
    return 0 if line.count is None else line.capacity - line.count


def _sum(one: FeatureTotals, other: FeatureTotals) -> FeatureTotals:
    return FeatureTotals(
        total_count=min(UNITS_MAX, one.total_count + other.total_count),
        total_used=min(UNITS_MAX, one.total_used + other.total_used),
        total_overdraft_count=min(
            UNITS_MAX, one.total_overdraft_count + other.total_overdraft_count
        ),
        total_available=min(UNITS_MAX, one.total_available + other.total_available),
    )


@lru_cache(maxsize=4096)  # many lines have few dates between them, and a date is dear to find
def _dated(at_ms: int, timezone: str, *, ends: bool) -> str:
    """Write the day that a moment begins, or with `ends` the one it ends; else the moment."""
    tz = zone(timezone)
    try:
        day = local_day(at_ms - ends, tz)
        if midnight_ms(day + ends * _DAY, tz) == at_ms:
            return day.isoformat()
    except OverflowError:
        pass  # past the calendar's last day in a zone that is ahead
    return iso(at_ms)
