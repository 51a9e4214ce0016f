"""Forwarded usage as rows of the ten columns that a back office calls a usage data extract. Pure.

Decided here: what each column holds. An event is an hour's units of a line, so its transaction time
is the hour's first moment; this gateway receives a request in the step that applies it, so the
received time is the same. An hour belongs to the local day in which it begins. What the record does
not say is empty. Not decided here: where events are kept (spooling.py), CSV (protocols/).
Source: protocols/cmapi.md 11.3, Q20 and Q21.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from gateway.core.model import Line
from gateway.core.periods import local_day
from gateway.core.reports_periods import Days
from gateway.upstream.cloudevents import Event

COLUMNS: Final = (
    "Account",
    "Product",
    "Feature",
    "Transaction Time",
    "Received Time",
    "Count",
    "Acquisition ID",
    "Consumer ID",
    "Device ID",
    "Server ID",
)


def raw_rows(
    events: Iterable[Event],
    *,
    instance: str,
    account: str,
    lines: Mapping[str, Line],
    features: tuple[str, ...],
    days: Days,
    tz: ZoneInfo,
) -> Iterator[tuple[str | int, ...]]:
    """Give a row for each event of an instance on these local days; no features: all of them.

    Raises ValueError for an event whose hour is no moment: none that we wrote.
    """
    for event in events:
        usage = event.data
        if usage.instance != instance or (features and usage.feature not in features):
            continue
        hour_ms = int(datetime.fromisoformat(usage.hour).timestamp()) * 1_000
        if not days.first <= local_day(hour_ms, tz) <= days.last:
            continue
        line = lines.get(usage.line)
        product = line.product if line else None
        yield (
            account,
            (product.name if product else None) or "",
            usage.feature,
            usage.hour,
            usage.hour,
            usage.units,
            (product.activation_id or product.entitlement_id or "") if product else "",
            "",
            usage.host.partition(":")[2],
            usage.instance,
        )
