"""The metrics: every one, its labels, its help, and its place among a process's cells.

Decided here: what is told, in which words, and which values a label may have: ours, or the names of
configured upstreams, never what a request brought. Not decided here: who counts (meters.py), how
several workers come to one sum (service/boards.py), how it is written (web/metrics.py). A test
holds the README's table against this one. Source: INTERFACE 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import product
from typing import Final

import msgspec

from gateway.core.model import Code


class Kind(StrEnum):
    """How a metric moves. An info never does; it is told from the version alone."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Protocol(StrEnum):
    """By which door an access request came; of a batch each line is one."""

    CMAPI = "cmapi"
    CMAPI_BATCH = "cmapi_batch"
    LICENSESPRING = "licensespring"


class Outcome(StrEnum):
    """What an access request came to. The last three but one are what a 503 says of itself."""

    GRANTED = "granted"
    PARTIAL = "partial"
    DENIED = "denied"
    PREVIEW = "preview"
    REPLAYED = "replayed"
    UNAUTHORIZED = "unauthorized"
    INVALID = "invalid"
    THROTTLED = "throttled"
    NOT_APPLIED = "not_applied"
    APPLIED_NOT_DURABLE = "applied_not_durable"
    UNKNOWN = "unknown"
    ERROR = "error"


class Fate(StrEnum):
    """What became of usage rows that the forwarder had under way."""

    FORWARDED = "forwarded"
    REFUSED = "refused"
    PARKED = "parked"
    DEAD = "dead"


OTHER: Final = "(other)"  # no upstream has such a name, nor has a code
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MICRO: Final = 1_000_000  # cells are integers: what is told in seconds is kept in microseconds

_UPSTREAMS: Final[tuple[str, ...]] = ()  # stands for the configured ones, and OTHER
_UPSTREAM: Final = (("upstream", _UPSTREAMS),)


class Metric(msgspec.Struct, frozen=True):
    """One metric. `labels` are names with their values; a cell holds `per_unit` for each 1 told."""

    name: str
    kind: Kind
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    per_unit: int = 1

    @property
    def cells(self) -> int:
        """Cells of each of its series: one; of a histogram each bucket, the rest, and the sum."""
        return len(BUCKETS_S) + 2 if self.kind is Kind.HISTOGRAM else 1


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
METRICS: Final = (
    Metric(
        "gateway_access_requests_total",
        _C,
        "Access requests answered, lines of batches included.",
        (("protocol", tuple(Protocol)), ("outcome", tuple(Outcome))),
    ),
    Metric(
        "gateway_access_seconds",
        _H,
        "From the last byte of an access request to its answer, in seconds; not of batches.",
        per_unit=MICRO,
    ),
    Metric(
        "gateway_store_seconds",
        _H,
        "One pipeline of calls to a node of the store, waiting for redis.ack included, in seconds.",
        per_unit=MICRO,
    ),
    Metric("gateway_lane_depth", _G, "Requests that wait for a place in a call to the store."),
    Metric(
        "gateway_lane_refused_total",
        _C,
        "Requests refused at once because too many wait for the store.",
    ),
    Metric(
        "gateway_shed_requests_total",
        _C,
        "Requests refused before any work because a process has too many.",
    ),
    Metric(
        "gateway_refused_connections_total",
        _C,
        "Connections refused because a process has limits.connections.",
    ),
    Metric(
        "gateway_denials_total",
        _C,
        "Features not fully served, by why; neither of previews nor of repeats.",
        (("code", (*Code, OTHER)),),
    ),
    Metric(
        "gateway_forward_rows_total",
        _C,
        "Usage rows that left the way to an upstream: forwarded, refused, parked, dead.",
        (("upstream", _UPSTREAMS), ("outcome", tuple(Fate))),
    ),
    Metric(
        "gateway_upstream_away",
        _G,
        "Processes to which an upstream does not answer well; 0 is right.",
        _UPSTREAM,
    ),
    Metric(
        "gateway_upstream_stopped",
        _G,
        "Processes that an upstream does not let in (credential, address); 0 is right.",
        _UPSTREAM,
    ),
    Metric(
        "gateway_outbox_oldest_seconds",
        _G,
        "Age of the oldest usage that waits to be sent, by the hour it is of; 0 is none.",
        _UPSTREAM,
        MICRO,
    ),
    Metric(
        "gateway_blocked_rows",
        _G,
        "Usage rows that an upstream refused and that wait until they are tried again.",
        _UPSTREAM,
    ),
    Metric(
        "gateway_parked_batches",
        _G,
        "Batches that wait for a person or a receipt: whether they arrived is not known.",
        _UPSTREAM,
    ),
    Metric("gateway_dead_batches", _G, "Batches not taken that wait for a person.", _UPSTREAM),
    Metric("gateway_ledger_imbalance", _G, "Sums of the books that do not agree; 0 is right."),
    Metric("gateway_store_up", _G, "1 when the store, or a part of it, answers; else 0."),
    Metric("gateway_store_weak", _G, "Ways in which the store is weaker than redis.ack."),
    Metric(
        "gateway_store_memory_bytes",
        _G,
        "Memory in use that counts against the bound, of the primary that is fullest.",
    ),
    Metric(
        "gateway_store_memory_max_bytes", _G, "That primary's bound, maxmemory; 0: it has none."
    ),
    Metric("gateway_ready", _G, "1 when readyz says 200; else 0."),
    Metric(
        "gateway_clock_skew_seconds",
        _G,
        "Our clock minus the store's, of the primary that is furthest off.",
        per_unit=MICRO,
    ),
    Metric(
        "gateway_store_look_timestamp_seconds",
        _G,
        "Unix time since which outboxes and books of all instances were seen; first, the start.",
        per_unit=MICRO,
    ),
    Metric("gateway_workers", _G, "Workers alive."),
    Metric(
        "gateway_worker_starts_total", _C, "Workers started, those that followed a dead one too."
    ),
    Metric("gateway_worker_deaths_total", _C, "Workers that ended without being told to by serve."),
    Metric("gateway_build_info", Kind.INFO, "1, with the version.", (("version", ()),)),
)

Series = tuple[str, ...]  # a metric's name and its labels' values


class Layout:
    """Which cell is whose. The same upstreams give the same layout, in whatever process."""

    def __init__(self, upstreams: Sequence[str] = ()) -> None:
        self.upstreams = names = (*upstreams, OTHER)
        self.places: dict[Series, int] = {}  # of a series' first cell
        self.gauges: list[int] = []
        self.size = 0
        for metric in METRICS:
            if metric.kind is Kind.INFO:
                continue
            for values in product(*((values or names) for _, values in metric.labels)):
                self.places[metric.name, *map(str, values)] = self.size
                if metric.kind is Kind.GAUGE:
                    self.gauges.append(self.size)
                self.size += metric.cells

    def upstream(self, name: str) -> str:
        """Give the label's value of an upstream that is attached, perhaps not configured here."""
        return name if name in self.upstreams else OTHER
