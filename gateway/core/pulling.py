"""What a cloud says of its licences, taken over into the lines that stand for them.

Decided here: how the limits of a licence or a feature become count, overdraft, reset and expiry of
a line, and that what was pulled outlives a provisioning file. Not decided here: how a cloud spells
them (upstream/) and how a catalogue is written (store/). Pure.
Source: protocols/licensespring.md 3.2, 4, 5 and 10.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.core.model import UNITS_MAX, Catalogue, Line, Model, Reset

# What the cloud says of a pulled line; a file says all the rest.
PULLED_MEMBERS: Final = (
    *("count", "overdraft", "capacity", "reset", "reset_timezone", "reset_epoch"),
    *("expires_ms", "allow_negative_consumptions", "pulled"),
)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a cloud allows of one licence or feature. `count` None: unlimited.

    `overdraft` is spelt as in a line. `expires_ms` None: permanent. `seats` None: not told.
    """

    count: int | None
    overdraft: str = "0"
    reset: Reset = Reset.NONE
    expires_ms: int | None = None
    allow_negative: bool = False
    seats: int | None = None


def with_limits(line: Line, limits: Limits, version: int, *, by: str, overdraft: str = "") -> Line:
    """Give a line the limits of the cloud that is the upstream `by`.

    `version` is the catalogue's that it will be in. A line of seats has the cloud's number of them,
    and a reusable one no reset. `overdraft`: the line's own stays, since a client has just changed
    it. Limits that no counter can hold are unlimited.
    """
    if line.model is Model.CONCURRENT:
        if limits.seats is None:
            return replace(line, expires_ms=limits.expires_ms, pulled=by)
        seats = min(limits.seats, UNITS_MAX)
        return replace(
            line,
            count=seats,
            overdraft="0",
            capacity=seats,
            expires_ms=limits.expires_ms,
            pulled=by,
        )
    reset = Reset.NONE if line.model.reusable else limits.reset
    overdraft = overdraft or limits.overdraft
    new = replace(
        line,
        count=limits.count,
        overdraft=overdraft,
        capacity=_capacity(limits.count, overdraft),
        reset=reset,
        reset_timezone="UTC" if reset is not Reset.NONE else line.reset_timezone,
        expires_ms=limits.expires_ms,
        allow_negative_consumptions=limits.allow_negative,
        pulled=by,
    )
    return replace(new, reset_epoch=reset_epoch(line, new, version))


def pulled_catalogue(
    current: Catalogue,
    limits: Mapping[str, Limits],
    own_overdraft: Iterable[str] = (),
    *,
    by: str,
) -> Catalogue:
    """Give the lines of a catalogue the limits that the upstream `by` told, by line id.

    It is equal when nothing changes. Lines in `own_overdraft` keep theirs. Lines that are not there
    any more are left out.
    """
    keeps = frozenset(own_overdraft)
    lines = tuple(
        with_limits(
            line,
            limits[line.id],
            current.version + 1,
            by=by,
            overdraft=line.overdraft if line.id in keeps else "",
        )
        if line.id in limits and not line.retired
        else line
        for line in current.lines
    )
    return replace(current, lines=lines)


def kept_limits(before: Line | None, declared: Line, attached: Collection[str]) -> Line:
    """Give a declared line what the cloud said of it, once that was pulled.

    It holds as long as the cloud is `attached` and the line stands for the same licence.
    """
    if before is None or before.pulled not in attached or before.retired:
        return declared
    if declared.licensespring is None or before.licensespring is None:
        return declared
    if declared.licensespring.license_key != before.licensespring.license_key:
        return declared
    return replace(declared, **{name: getattr(before, name) for name in PULLED_MEMBERS})


def reset_epoch(before: Line | None, line: Line, version: int) -> int:
    """Say in which catalogue version the line's counting period began to be as it is now."""
    if before is None:
        return 0
    same_zone = before.reset_timezone == line.reset_timezone or line.reset is Reset.NONE
    return before.reset_epoch if before.reset is line.reset and same_zone else version


def _capacity(count: int | None, overdraft: str) -> int:
    if count is None or overdraft == "unlimited":
        return UNITS_MAX
    more = count * int(overdraft[:-1]) // 100 if overdraft.endswith("%") else int(overdraft)
    return min(UNITS_MAX, count + more)
