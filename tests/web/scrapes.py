"""What a gateway's metrics say, read by Prometheus's own parsers.

Decided here: nothing of what is told; a series is its name and its labels' values, sorted by label.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def parsed(answer: httpx.Response) -> list[Metric]:
    """Parse an answer in the form that its media type says."""
    assert answer.status_code == 200
    if answer.headers["content-type"].startswith("application/openmetrics-text"):
        return list(openmetrics(answer.text))
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return list(text(answer.text))


def series_of(body: str) -> dict[tuple[str, ...], float]:
    """Give each sample of a text by its name and its labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text(body)
        for sample in family.samples
    }


async def scrape(http: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Scrape a gateway."""
    return series_of((await http.get("/metrics")).text)


def moved(
    before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float], name: str
) -> dict[tuple[str, ...], float]:
    """Say by how much each series of a metric moved, those that did not left out."""
    return {
        series[1:]: value - before.get(series, 0)
        for series, value in after.items()
        if series[0] == name and value != before.get(series, 0)
    }
