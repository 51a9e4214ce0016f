"""What one process counts: integers in cells, a few of them moved per request.

Decided here: how each thing that happens moves the cells, in about a microsecond, since requests
pay for it. Not decided here: what there is to tell (metrics.py) and where the cells are: a memory
of this process, or one that workers share (service/boards.py). One process writes a cell, any may
read it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from gateway.core.metrics import BUCKETS_S, METRICS, MICRO, OTHER, Layout
from gateway.core.model import Shortfall

CELL_BYTES: Final = 8
UNSET: Final = -(2**63)  # a gauge of which nothing is known

_SUM: Final = len(BUCKETS_S) + 1  # of a histogram, where among its cells
_PER_UNIT: Final = {metric.name: metric.per_unit for metric in METRICS}


class Meters:
    """The cells of one process; without `cells` they are its own, and begin at 0."""

    __slots__ = ("_access", "_access_s", "_denials", "_store_s", "cells", "layout")

    def __init__(self, layout: Layout | None = None, cells: memoryview[int] | None = None) -> None:
        self.layout = layout = layout or Layout()
        if cells is None:
            cells = memoryview(bytearray(CELL_BYTES * layout.size)).cast("q")
        self.cells = cells
        self._access = _places(layout, "gateway_access_requests_total")
        denials = _places(layout, "gateway_denials_total")
        self._denials = {code: place for (code,), place in denials.items()}
        self._access_s = layout.places[("gateway_access_seconds",)]
        self._store_s = layout.places[("gateway_store_seconds",)]

    def begin(self) -> None:
        """Be a process that starts, perhaps in the place of a dead one: what that counted stays."""
        for place in self.layout.gauges:
            self.cells[place] = UNSET
        self.add("gateway_worker_starts_total")
        self.set("gateway_workers", 1)

    def answered(self, protocol: str, outcome: str, took_s: float | None = None) -> None:
        """Count an access request; without `took_s` its time is not told."""
        cells = self.cells
        cells[self._access[protocol, outcome]] += 1
        if took_s is not None:  # as _observe does, without the price of a call
            place = self._access_s
            cells[place + bisect_left(BUCKETS_S, took_s)] += 1
            cells[place + _SUM] += int(took_s * MICRO)

    def exchanged(self, took_s: float) -> None:
        """Count a pipeline to the store."""
        self._observe(self._store_s, took_s)

    def denied(self, shortfalls: Iterable[Shortfall]) -> None:
        """Count why features were not fully served."""
        for each in shortfalls:
            self.cells[self._denials.get(each.code, self._denials[OTHER])] += 1

    def forwarded(self, upstream: str, fate: str, rows: int) -> None:
        """Count rows that left the way to an upstream."""
        self.add("gateway_forward_rows_total", self.layout.upstream(upstream), fate, by=rows)

    def add(self, name: str, *labels: str, by: int = 1) -> None:
        """Move a counter."""
        self.cells[self.layout.places[name, *labels]] += by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, in the unit in which it is told."""
        self.cells[self.layout.places[name, *labels]] = round(value * _PER_UNIT[name])

    def value(self, name: str, *labels: str) -> int:
        """Give what the first cell of a series holds."""
        return self.cells[self.layout.places[name, *labels]]

    def _observe(self, place: int, took_s: float) -> None:
        cells = self.cells
        cells[place + bisect_left(BUCKETS_S, took_s)] += 1
        cells[place + _SUM] += int(took_s * MICRO)


def _places(layout: Layout, name: str) -> dict[tuple[str, ...], int]:
    """Give the places of a metric's series, by the values of their labels."""
    return {series[1:]: place for series, place in layout.places.items() if series[0] == name}
