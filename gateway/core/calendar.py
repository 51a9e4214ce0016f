"""The small calendar that a call carries: local days and reset periods around the store's time.

Decided here: how far it reaches, and when it has to be made anew. The script picks by its own now,
so that a request that waited over midnight lands in the right day; when the calendar does not
reach, the script says from where it must. Source: DESIGN 6.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.calls import Context
from gateway.core.catalogue import CatalogueIndex
from gateway.core.periods import days_between, reset_periods, zone

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Span:
    """What of a calendar depends on time zones and reset rules alone; many instances share it."""

    days: list[tuple[int, int, int]]
    periods: list[list[tuple[int, str]]]
    months: list[int]
    from_ms: int
    until_ms: int

    def reaches(self, now_ms: int) -> bool:
        """Say whether it need not be made anew at `now_ms`."""
        return self.from_ms <= now_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class Calendar:
    """A context ready to send, the months (yyyymm) its days refer to, and how long it is good."""

    context: Context
    months: list[int]
    from_ms: int
    until_ms: int

    @classmethod
    def over(cls, span: Span, index: CatalogueIndex) -> Calendar:
        """Make the calendar of an instance over a span of its time zone and rules."""
        catalogue = index.catalogue
        context = Context(
            instance=catalogue.id,
            version=catalogue.version,
            upstreams=[(upstream.name, upstream.by_host) for upstream in catalogue.upstreams],
            days=span.days,
            periods=span.periods,
        )
        return cls(context, span.months, span.from_ms, span.until_ms)

    def reaches(self, now_ms: int) -> bool:
        """Say whether it need not be made anew at `now_ms`."""
        return self.from_ms <= now_ms < self.until_ms


def make_calendar(index: CatalogueIndex, from_ms: int, now_ms: int) -> Calendar:
    """Make the calendar of an instance from the local day of `from_ms` to the one after `now_ms`'s.

    A gateway calls it with the store's time as it knows it; `from_ms` is earlier only when the
    script asked for it, to sweep lapses of long ago. Pure.
    """
    return Calendar.over(make_span(index, from_ms, now_ms), index)


def make_span(index: CatalogueIndex, from_ms: int, now_ms: int) -> Span:
    """Make the span of a calendar, for all instances of the same time zone and rules. Pure."""
    tz = zone(index.catalogue.timezone)
    months: list[int] = []
    days = []
    for start_ms, day in days_between(from_ms, now_ms + DAY_MS, tz):
        if day // 100 not in months:
            months.append(day // 100)
        days.append((start_ms, day, months.index(day // 100) + 1))
    periods = [
        reset_periods(reset, zone(tz_name), now_ms)
        if not epoch
        else [
            (at_ms, f"{label}.{epoch}")
            for at_ms, label in reset_periods(reset, zone(tz_name), now_ms)
        ]
        for reset, tz_name, epoch in index.rules
    ]
    # Good to the end of the local day of now: one more day is in it, for requests that wait.
    starts = [start_ms for start_ms, *_ in days]
    until_ms = next(start_ms for start_ms in starts if start_ms > now_ms)
    return Span(days, periods, months, from_ms, until_ms)
