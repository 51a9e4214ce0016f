"""Traces: one from a client's span over the lane to the script, and one from a send to its parent.

The SDK's own exporter keeps the spans. Source: the W3C's Trace Context, and OpenTelemetry's
variables of the environment.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from gateway.core.ports import Answer
from gateway.core.usage import Batch, Row
from gateway.store.lane import Watch
from gateway.upstream.cmapi import CmapiUpstream
from gateway.upstream.sender import CmapiSender
from gateway.wiring_seeing import open_traces
from gateway.wiring_traces import UNDER_WAY_MAX, Traces
from tests.vectors.credentials import private
from tests.vectors.served import Served, serving
from tests.web.doors import GOOD, Door, at

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@dataclass
class Traced:
    served: Served
    exporter: InMemorySpanExporter

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def kept_by(exporter: InMemorySpanExporter) -> Traces:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Traces(provider)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, exporter: InMemorySpanExporter
) -> Iterator[Traced]:
    @asynccontextmanager
    async def opened(environ: Mapping[str, str]) -> AsyncIterator[Traces]:
        yield kept_by(exporter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.wiring.open_traces", opened)
        with serving(tmp_path_factory.mktemp("traces"), prelude=None) as served:
            yield Traced(served, exporter)


@pytest.fixture
def traced(whole: Traced) -> Traced:
    whole.exporter.clear()
    return whole


def named(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = (span for span in spans if span.name == name)
    return found


def test_request_lane_and_script_are_one_trace_with_the_clients(traced: Traced) -> None:
    async def story(door: Door) -> None:
        answer = await door.knock(headers=PARENT)
        await asyncio.sleep(0)
        spans = traced.spans()
        request = named(spans, "POST access_request")
        lane, script = named(spans, "lane"), named(spans, "script")
        assert {span.context.trace_id for span in (request, lane, script)} == {int(TRACE, 16)}
        assert request.parent is not None
        assert request.parent.span_id == int(SPAN, 16)
        assert (lane.parent, script.parent) == (request.context, lane.context)
        assert request.kind is SpanKind.SERVER
        assert lane.start_time <= script.start_time <= script.end_time
        facts = dict(request.attributes or {})
        assert facts == {
            "http.request.method": "POST",
            "http.route": "access_request",
            "http.response.status_code": 200,
            "gateway.request_id": answer.headers["gateway-request-id"],
            "gateway.outcome": "granted",
            "gateway.instance": door.instance,
        }

    at(traced.served, story)


def test_no_span_holds_what_a_client_wrote(traced: Traced) -> None:
    async def story(door: Door) -> None:
        word = "opaque-7"
        host = {"hostId": {"type": "string", "value": word}}
        await door.knock({**GOOD, **host}, headers={"Idempotency-Key": word})
        await door.knock(word.encode(), headers={"Authorization": f"Bearer {word}"})
        await door.knock(endpoint=f"{word}?{word}", instance=word)
        await traced.served.http.request("OPAQUE7", f"/api/1.0/instances/{door.instance}/features")
        assert {"HTTP features", "HTTP"} & {span.name for span in traced.spans()}
        told = "".join(span.to_json() for span in traced.spans())
        assert len(traced.spans()) >= 5
        assert word not in told
        assert "OPAQUE7" not in told
        assert '"http.request.method": "_OTHER"' in told
        assert "eyJ" not in told

    at(traced.served, story)


@pytest.mark.parametrize("header", ["", "00-nonsense", f"00-{TRACE}-{SPAN}-zz", "x" * 5_000])
def test_a_bad_traceparent_begins_a_trace_of_its_own(traced: Traced, header: str) -> None:
    async def story(door: Door) -> None:
        assert (await door.knock(headers={"traceparent": header})).status_code == 200
        request = named(traced.spans(), "POST access_request")
        assert request.parent is None

    at(traced.served, story)


def test_who_is_not_sampled_costs_no_span(traced: Traced) -> None:
    async def story(door: Door) -> None:
        await door.knock(headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
        await traced.served.http.get("/readyz")
        assert traced.spans() == []

    at(traced.served, story)


def test_the_spans_of_jobs_that_are_under_way_are_bounded() -> None:
    exporter = InMemorySpanExporter()
    traces = kept_by(exporter)
    job: Any = SimpleNamespace(index=SimpleNamespace(catalogue=SimpleNamespace(id="DEMO")))

    async def submitted(many: int) -> None:
        with traces._tracer.start_as_current_span("batch"):
            replies: list[Any] = [asyncio.Future() for _ in range(many)]
            for reply in replies:
                watch.queued(job, reply)
        for reply in replies:
            reply.set_result(None)
        await asyncio.sleep(0)

    async def story() -> None:
        await submitted(UNDER_WAY_MAX + 50)
        await submitted(10)  # there is room again

    watch = traces.watch(Watch())
    asyncio.run(story())
    lanes = [span for span in exporter.get_finished_spans() if span.name == "lane"]
    assert len(lanes) == UNDER_WAY_MAX + 10


# Upstream -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
def test_what_is_sent_upstream_carries_the_trace_of_its_send(status: int) -> None:
    exporter = InMemorySpanExporter()
    traces = kept_by(exporter)
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["traceparent"])
        return httpx.Response(status, json={"features": [], "statusList": []})

    async def story() -> Answer:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            traces.http(client)
            parent = CmapiUpstream(
                name="parent",
                url="http://parent/api/1.0/instances/P",
                kid="k",
                interval_s=1,
                dedupe_horizon_ms=0,
                timeout_s=1,
            )
            sender = traces.sender(CmapiSender(parent, private("own", "RS256"), client), "parent")
            batch = Batch("b1", "parent", "DEMO", (Row("L1", 1, "", 4),), b'{"features":[]}')
            return (await sender.send(batch)).answer

    verdict = asyncio.run(story())
    (span,) = exporter.get_finished_spans()
    (carried,) = seen
    version, trace_id, span_id, flags = carried.split("-")
    assert (version, trace_id) == ("00", f"{span.context.trace_id:032x}")
    assert span_id == f"{span.context.span_id:016x}"
    assert int(flags, 16) & 1  # sampled
    assert (span.name, span.kind) == ("forward", SpanKind.CLIENT)
    assert span.attributes is not None
    assert span.attributes["gateway.answer"] == verdict
    assert span.status.is_ok == (verdict is Answer.GRANTED)


# When ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_nobody_traces_unless_the_environment_asks_for_it(environ: dict[str, str]) -> None:
    with capture_logs() as logs:
        assert asyncio.run(_opened(environ)) is None
    assert logs == []


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_is_not_here_is_said_and_stops_nobody(environ: dict[str, str]) -> None:
    with capture_logs() as logs:
        assert asyncio.run(_opened(environ)) is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("traces_off", "warning")]


def test_without_the_extra_the_gateway_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "gateway.wiring_traces")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with capture_logs() as logs:
        assert asyncio.run(_opened({"OTEL_TRACES_EXPORTER": "otlp"})) is None
    assert ["otel" in line["why"] for line in logs] == [True]


@pytest.mark.slow  # a process that imports everything
def test_who_does_not_trace_loads_nothing_that_does() -> None:
    """The store's client has the library loaded where it is installed; that is its own affair."""
    told = subprocess.run(
        [sys.executable, "-c", "import sys, gateway.cli.serve; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "gateway.wiring_seeing" in told
    tracing = ("gateway.wiring_traces", "opentelemetry.exporter")
    assert [name for name in told if name.startswith(tracing)] == []


async def _opened(environ: dict[str, str]) -> Any:
    async with open_traces(environ) as traces:
        return traces
