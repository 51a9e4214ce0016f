"""Lines near capacity, and where they will be when their period ends if use goes on as it did.

Decided here: how near is near, and on what a forecast rests: the daily mean of the last 28 whole
days, or of those since the line's first record, at least 14. Four weeks have each weekday four
times, so that a product which posts once a week is not taken for one that stopped or doubled. Where
less is known there is no forecast, and a sentence that says why. Seats come back: no trend is made
of them.
Not decided here: how sums are read (service/reports.py). Source: SEMANTICS 1, 7 and 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import msgspec

from gateway.core.catalogue import CatalogueIndex, period_rule
from gateway.core.model import Line, Model, Reset
from gateway.core.moments import iso
from gateway.core.periods import local_day, reset_periods, zone
from gateway.core.reports_periods import Days

LEVELS: Final = (80, 95, 100)  # percent of capacity
WINDOW_DAYS: Final = 28
WINDOW_DAYS_MIN: Final = 14
DAYS_USED_MIN: Final = 2
DAY_MS: Final = 86_400_000
AHEAD_DAYS_MAX: Final = 3_660  # a day further off is not told


class NearCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is near its capacity, or will be past it before it resets.

    `used` is the current period's units, other servers' of its licence included, or seats held now;
    `peak` the most seats held on a day of the window, None for a line of no seats. `percent` is
    that of the greater, rounded down, `level` the highest of LEVELS that it reaches, 0 when only
    the forecast does. `until` is when the period (or else the line) ends, None for never.
    `forecast` is `used` at `until`, `full_on` the local day on which capacity is reached; both None
    where `why` says so.
    """

    feature: str
    line: str
    model: Model
    used: int
    capacity: int
    percent: int
    level: int
    peak: int | None
    per_day: int | None
    until: str | None
    forecast: int | None
    full_on: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Recent:
    """What is recorded of a line in the window: net units by day, and the most seats held.

    `since` is the day of its first record of all, today's included; None: it was before the window,
    or there is none.
    """

    units: Mapping[str, int]
    peak: int = 0
    since: date | None = None


_NOTHING: Final = Recent({})


def window(today: date) -> Days:
    """Give the days on which forecasts rest: whole ones, so without today."""
    return Days(today - timedelta(days=WINDOW_DAYS), today - timedelta(days=1))


def near_capacity(
    index: CatalogueIndex,
    lines: Iterable[Line],
    used: Mapping[str, int],
    recent: Mapping[str, Recent],
    *,
    since_ms: int,
    now_ms: int,
) -> list[NearCapacity]:
    """List those of the instance's `lines` that are in force, and near capacity or soon past it.

    `used` is by `<line>|<period label>` as in the ledger, what other servers consumed by the same
    behind `elsewhere|`; `recent` is by line, `since_ms` when the instance began to record (0:
    unknown). Unlimited lines and those of no capacity are left out. Pure; some 20 us a line.
    """
    found = []
    for line in lines:
        if not _in_force(line, now_ms) or line.unlimited or line.capacity <= 0:
            continue
        label, reset_ms = _period(index, line, now_ms)
        near = _judge(
            index,
            line,
            used.get(f"{line.id}|{label}", 0) + used.get(f"elsewhere|{line.id}|{label}", 0),
            recent.get(line.id, _NOTHING),
            reset_ms=reset_ms,
            since_ms=max(since_ms, line.starts_ms or 0),
            now_ms=now_ms,
        )
        if near.level or (near.forecast or 0) >= near.capacity:
            found.append(near)
    return found


def fullest_first(near: NearCapacity) -> tuple[int, str, str]:
    """Give what lines near capacity are sorted by."""
    return -near.percent, near.feature, near.line


def _judge(
    index: CatalogueIndex,
    line: Line,
    used: int,
    recent: Recent,
    *,
    reset_ms: int | None,
    since_ms: int,
    now_ms: int,
) -> NearCapacity:
    seats = line.model is Model.CONCURRENT
    ends = [moment for moment in (reset_ms, line.expires_ms) if moment is not None]
    until_ms = min(ends, default=None)
    tz = zone(index.catalogue.timezone)
    today = local_day(now_ms, tz)
    since = max(local_day(since_ms, tz), recent.since or date.min)
    recorded = min(WINDOW_DAYS, (today - since).days)
    units, why = sum(recent.units.values()), ""
    if line.model.reusable:
        why = "what is held comes back: no trend is made of it"
    elif recorded < WINDOW_DAYS_MIN:
        why = f"too little data: {max(0, recorded)} whole days, {WINDOW_DAYS_MIN} needed"
    elif sum(1 for each in recent.units.values() if each > 0) < DAYS_USED_MIN:
        why = f"too little data: used on fewer than {DAYS_USED_MIN} of {recorded} days"
    elif units <= 0:
        why = "nothing is used, net of what was undone"
    forecast, full_on = None, None
    if not why:
        span_ms = recorded * DAY_MS
        if until_ms is not None:
            forecast = used + units * (until_ms - now_ms) // span_ms
        full_ms = now_ms + max(0, line.capacity - used) * span_ms // units
        if full_ms < (until_ms or now_ms + AHEAD_DAYS_MAX * DAY_MS):
            full_on = local_day(full_ms, tz).isoformat()
    most = max(used, recent.peak) if seats else used
    percent = most * 100 // line.capacity
    return NearCapacity(
        feature=line.feature,
        line=line.id,
        model=line.model,
        used=used,
        capacity=line.capacity,
        percent=percent,
        level=max((level for level in LEVELS if percent >= level), default=0),
        peak=recent.peak if seats else None,
        per_day=None if why else units // recorded,
        until=None if until_ms is None else iso(until_ms),
        forecast=forecast,
        full_on=full_on,
        why=why,
    )


def _in_force(line: Line, now_ms: int) -> bool:
    begun = line.starts_ms is None or line.starts_ms <= now_ms
    return begun and not line.retired and (line.expires_ms is None or now_ms < line.expires_ms)


def _period(index: CatalogueIndex, line: Line, now_ms: int) -> tuple[str, int | None]:
    """Give the label of a line's reset period, as in the ledger, and when the next one begins."""
    reset, tz_name, epoch = period_rule(line)
    periods = reset_periods(reset, zone(tz_name), now_ms, 0, 1)
    label = periods[0][1] + (f".{epoch}" if epoch else "")
    return label, None if reset is Reset.NONE else periods[1][0]
