"""What the LicenseSpring cloud said of a line, and what follows from it. Pure.

Decided here: when total and counters surely speak of the same thing, what is then known of a line,
and when a client's change of overages is newer than what the cloud says. Not decided here: how
`elsewhere` is computed (core/elsewhere.py), who is asked when (licensespring_sync.py).
Source: protocols/licensespring.md 4, 5 and 10.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.core.catalogue import CatalogueIndex, period_of
from gateway.core.elsewhere import BOUNDARY_MS, OK, Known, Total, elsewhere, heard
from gateway.core.model import Line, Model
from gateway.core.ports import Counters
from gateway.core.pulling import Limits
from gateway.upstream.licensespring import Identity, LicensespringUpstream, identity
from gateway.upstream.licensespring_calls import Looked


@dataclass(frozen=True)
class Heard:
    """A line, and what the cloud said of what it stands for. `total` None: it counts none."""

    line: Line
    who: Identity
    total: Total | None
    limits: Limits

    @property
    def unclear(self) -> bool:
        """Whether the total is of this period or of the one beside it is known a little later."""
        return self.total is not None and self.total.near_boundary


def licences(
    upstream: LicensespringUpstream, index: CatalogueIndex
) -> Iterable[list[tuple[Line, Identity]]]:
    """Put together the lines that stand for one licence or its features."""
    whose: dict[str, list[tuple[Line, Identity]]] = {}
    for line in index.catalogue.lines:
        who = None if line.retired else identity(upstream, line)
        if who is not None:
            whose.setdefault(replace(who, feature="").tag, []).append((line, who))
    return whose.values()


def heard_of(line: Line, who: Identity, looked: Looked) -> Heard | None:
    """Find what was said of a line; None: the licence has no such feature."""
    told = looked.licence.of(who.feature)
    if told is None:
        return None
    counted = told.total is not None and line.model is not Model.CONCURRENT
    total = Total(told.total or 0, looked.at_ms, told.limits.reset) if counted else None
    return Heard(line, who, total, told.limits)


def changed_here(line: Line, told: Heard, known: Known | None) -> bool:
    """Say whether a client changed the overages of a line, and the cloud has not heard of it."""
    if known is None or not line.client_overages or known.licence != told.who.tag:
        return False
    heard_before = known.overdraft
    return heard_before not in ("", line.overdraft) and heard_before == told.limits.overdraft


def computed(line: Line, total: Total | None, counters: Counters, clock_ms: int) -> int | None:
    """Compute what others consumed; None: total and counters may not speak of one period.

    Nor is it computed while something of the line is on its way. `clock_ms` is the store's time.
    """
    sure = (
        total is not None
        and line.model is Model.METERED
        and line.reset is total.reset
        and line.id not in counters.under_way
        and not total.near_boundary
        and abs(clock_ms - total.at_ms) < BOUNDARY_MS
    )
    if total is None or not sure:
        return None
    label, _ = period_of(line, total.at_ms)
    used = counters.used.get(f"{line.id}|{label}", 0)
    return elsewhere(total, used, counters.unsettled.get(line.id, ()))


def known_after(
    each: Heard, before: Known | None, counters: Counters, units: int | None, now_ms: int
) -> Known:
    """Say what is known of a line; `units` is what others consumed, None: as before."""
    line = each.line
    told = before or Known(at_ms=now_ms)
    if each.total is not None and line.id not in counters.under_way:
        told = heard(before, each.total, 0, now_ms)
    rows = counters.unsettled.get(line.id, ())
    # A refusal of what still waits is worth more to people than that the cloud is well.
    waits = any(row.units for row in rows) and told.code != OK
    return replace(
        told,
        at_ms=now_ms,
        code=told.code if waits else OK,
        text=told.text if waits else "",
        licence=each.who.tag,
        overdraft=each.limits.overdraft if line.model is Model.METERED else "",
        elsewhere=told.elsewhere if units is None else units,
        unsynced=sum(row.units for row in rows),
    )
