"""The part of the wiring that is about being seen: what feeds the metrics, whether traces go out.

Decided here: which numbers are taken from where once a second, and that traces are on when the
standard variables of OpenTelemetry name a place for them. Whoever sets none of these pays nothing:
then neither is the library imported nor anything wrapped. Source: INTERFACE 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

from gateway.beside import beside
from gateway.config import Config
from gateway.core.meters import Meters
from gateway.core.metrics import Layout
from gateway.service.boards import Board
from gateway.service.lookout import Lookout, looking
from gateway.store.groups import Call
from gateway.store.lane import Watch
from gateway.store.opening import Store
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.hindrances import Hindrances
from gateway.wiring_cloud import make_outbox

if TYPE_CHECKING:  # needs the extra otel
    from gateway.wiring_traces import Traces

PULSE_S: Final = 1.0
EXPORTERS: Final = frozenset({"otlp", "console"})
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OVER_HTTP: Final = "http/protobuf"

_log: Final = structlog.get_logger("gateway.traces")


def layout_of(config: Config) -> Layout:
    """Give the layout of the metrics, the same in all workers of a gateway."""
    return Layout([upstream.name for upstream in config.upstreams])


class MeteredLane(Watch):
    """Counts what happens in a lane."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def refused(self, jobs: int) -> None:
        """Count jobs that found no place."""
        self._meters.add("gateway_lane_refused_total", by=jobs)

    def exchanged(self, calls: Sequence[Call], took_s: float) -> None:
        """Count a pipeline."""
        self._meters.exchanged(took_s)


@asynccontextmanager
async def seen(
    config: Config,
    store: Store,
    board: Board,
    forwarder: Forwarder | None,
    reasons: Callable[[], Awaitable[list[str]]],
) -> AsyncIterator[None]:
    """Have the gauges kept until the end; the first worker looks at the store for all.

    Without a forwarder nothing is told of how upstreams answer: a 0 would say that all is well.
    """
    async with beside(_pulse(config, store, board.meters, forwarder)):
        if board.own:
            yield
        else:
            async with looking(Lookout(store, make_outbox(store), board.meters, reasons)):
                yield


async def _pulse(config: Config, store: Store, meters: Meters, forwarder: Forwarder | None) -> None:
    while True:
        meters.set("gateway_lane_depth", store.lane.depth)
        if forwarder is not None:
            _tell_upstreams(config, meters, forwarder.delivery.hindrances)
        await asyncio.sleep(PULSE_S)


def _tell_upstreams(config: Config, meters: Meters, hindrances: Hindrances) -> None:
    for each in config.upstreams:
        meters.set("gateway_upstream_away", hindrances.is_away(each.name), each.name)
        meters.set("gateway_upstream_stopped", hindrances.is_stopped(each.name), each.name)


@asynccontextmanager
async def open_traces(environ: Mapping[str, str]) -> AsyncIterator[Traces | None]:
    """Send traces out until the end, if the environment asks for it; None: nobody does.

    What cannot be sent is said once in the log: nobody is refused a start for want of a trace.
    """
    exporters = _exporters(environ)
    if not exporters:
        yield None
        return
    try:
        from gateway.wiring_traces import Traces
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        _log.warning("traces_off", why="OTEL_… asks for traces; install cmapi-gateway[otel]")
        yield None
        return
    traces = Traces.open(exporters, environ)
    _log.info("traces_on", exporters=list(exporters))
    try:
        yield traces
    finally:
        await traces.close()


def _exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Give the exporters that the standard variables name."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    wanted = environ.get("OTEL_TRACES_EXPORTER", "").replace(" ", "")
    if not wanted and any(environ.get(name) for name in ENDPOINTS):
        wanted = "otlp"
    names = tuple(name for name in wanted.split(",") if name not in ("", "none"))
    if unknown := set(names) - EXPORTERS:
        _log.warning("traces_off", why=f"no such exporter here: {', '.join(sorted(unknown))[:80]}")
        return ()
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _OVER_HTTP)
    if "otlp" in names and protocol != _OVER_HTTP:
        _log.warning("traces_off", why=f"OTLP goes by {_OVER_HTTP} only")
        return ()
    return names
