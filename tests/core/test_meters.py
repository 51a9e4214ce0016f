"""What a process counts, and where: every series has a place, and no place is two series'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.core.meters import UNSET, Meters
from gateway.core.metrics import BUCKETS_S, METRICS, OTHER, Kind, Layout
from gateway.core.model import Shortfall

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
INTERFACE = {
    "gateway_access_requests_total": ("protocol", "outcome"),
    "gateway_access_seconds": (),
    "gateway_store_seconds": (),
    "gateway_lane_depth": (),
    "gateway_denials_total": ("code",),
    "gateway_forward_rows_total": ("upstream", "outcome"),
    "gateway_outbox_oldest_seconds": ("upstream",),
    "gateway_ledger_imbalance": (),
    "gateway_dead_batches": ("upstream",),
    "gateway_clock_skew_seconds": (),
}


def test_every_name_of_the_interface_is_there_with_its_labels() -> None:
    labels = {metric.name: tuple(name for name, _ in metric.labels) for metric in METRICS}
    assert {name: labels.get(name) for name in INTERFACE} == INTERFACE


def test_names_tell_the_kind_as_prometheus_has_it() -> None:
    for metric in METRICS:
        assert re.fullmatch("gateway_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".") or metric.kind is Kind.INFO


def test_the_readme_tells_of_each_metric_once() -> None:
    told = re.findall(r"^\| `(gateway_\w+)(?:\{([a-z,]+)\})?` \|", README, re.MULTILINE)
    expected = [(each.name, ",".join(name for name, _ in each.labels)) for each in METRICS]
    assert sorted(told) == sorted(expected)


def test_no_two_series_share_a_cell() -> None:
    layout = Layout(["parent", "usb"])
    sizes = {metric.name: metric.cells for metric in METRICS}
    taken = [
        place
        for (name, *_), first in layout.places.items()
        for place in range(first, first + sizes[name])
    ]
    assert sorted(taken) == list(range(layout.size))


def test_the_same_upstreams_give_the_same_layout() -> None:
    assert Layout(["a", "b"]).places == Layout(["a", "b"]).places
    assert Layout(["a"]).places != Layout(["b"]).places


def test_requests_are_counted_by_outcome_and_told_in_buckets() -> None:
    meters = Meters()
    for took_s in (0.0004, 0.0005, 0.0006, 99.0):
        meters.answered("cmapi", "granted", took_s)
    meters.answered("cmapi_batch", "denied")
    first = meters.layout.places[("gateway_access_seconds",)]
    counts = meters.cells[first : first + len(BUCKETS_S) + 2].tolist()
    # A bound belongs to its bucket, as Prometheus has it; the last two are the rest and the sum.
    assert counts[:2] == [2, 1]
    assert counts[-2:] == [1, 400 + 500 + 600 + 99_000_000]
    assert sum(counts[:-1]) == 4
    assert meters.value("gateway_access_requests_total", "cmapi", "granted") == 4
    assert meters.value("gateway_access_requests_total", "cmapi_batch", "denied") == 1


@pytest.mark.parametrize("label", ["host", "of-nobody", "parent"])
def test_what_comes_from_outside_never_becomes_a_label(label: str) -> None:
    meters = Meters(Layout(["parent"]))
    meters.denied([Shortfall(0, label, 1, 0)])
    meters.forwarded(label, "dead", 3)
    assert meters.value("gateway_denials_total", OTHER) == 1
    shown = "parent" if label == "parent" else OTHER
    assert meters.value("gateway_forward_rows_total", shown, "dead") == 3


def test_a_process_in_the_place_of_a_dead_one_counts_on_and_knows_nothing_yet() -> None:
    meters = Meters()
    meters.begin()
    meters.answered("cmapi", "granted")
    meters.set("gateway_clock_skew_seconds", -0.25)
    assert meters.value("gateway_clock_skew_seconds") == -250_000
    after = Meters(meters.layout, meters.cells)
    after.begin()
    assert after.value("gateway_clock_skew_seconds") == UNSET
    assert after.value("gateway_workers") == 1
    assert after.value("gateway_worker_starts_total") == 2
    assert after.value("gateway_access_requests_total", "cmapi", "granted") == 1
