"""What a scrape is answered with: the cells of all workers, as text or as OpenMetrics.

Decided here: nothing of what is told (core/metrics.py); writing it, and which of the two forms the
scraper asks for, is prometheus_client's. A scrape reads memory only: it is answered at once,
whatever the store does. Source: INTERFACE 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from gateway.core.meters import UNSET
from gateway.core.metrics import BUCKETS_S, METRICS, Kind, Metric
from gateway.service.boards import Board

_BOUNDS = (*map(str, BUCKETS_S), "+Inf")


class Scrapes(Collector):
    """Answers scrapes from a board."""

    def __init__(self, board: Board, version: str) -> None:
        self._board, self._version = board, version
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answer(self, accept: str) -> tuple[str, bytes]:
        """Give media type and body, in the form that an Accept header asks for."""
        encoder, media_type = choose_encoder(accept)
        return media_type, encoder(self._registry)

    def describe(self) -> list[Family]:
        """Claim no names: nobody else registers here."""
        return []

    def collect(self) -> Iterator[Family]:
        """Give all metrics as of now."""
        totals = self._board.totals()
        for metric in METRICS:
            if metric.kind is Kind.INFO:
                name = metric.name.removesuffix("_info")
                yield InfoMetricFamily(name, metric.help, {"version": self._version})
            else:
                yield self._family(metric, totals)

    def _family(self, metric: Metric, totals: list[int]) -> Family:
        names = [name for name, _ in metric.labels]
        series = [
            (labels, totals[place : place + metric.cells])
            for (name, *labels), place in self._board.layout.places.items()
            if name == metric.name
        ]
        match metric.kind:
            case Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(metric.name, metric.help, labels=names)
                for labels, (*counts, total) in series:
                    buckets = list(zip(_BOUNDS, accumulate(counts), strict=True))
                    histogram.add_metric(labels, buckets, total / metric.per_unit)
                return histogram
            case Kind.COUNTER:
                counter = CounterMetricFamily(metric.name, metric.help, labels=names)
                for labels, (value,) in series:
                    counter.add_metric(labels, value / metric.per_unit)
                return counter
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=names)
        for labels, (value,) in series:
            if value != UNSET:
                gauge.add_metric(labels, value / metric.per_unit)
        return gauge
