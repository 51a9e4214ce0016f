"""Traces: a span per request, one for its stay in the lane, one for the script; one per batch sent.

Decided here: what a span is named and which facts it has: those that a log line may have, no body,
no secret, no host. A trace begins where the client's does (W3C traceparent), and what is sent
upstream carries on that of its send, not of a request: a batch is the sum of many. Where it goes,
and how many are kept, say the standard variables. Needs the extra otel. Source: INTERFACE 5.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.calls import Reply
from gateway.core.errors import Unavailable
from gateway.core.ports import Answer, Sender, Verdict
from gateway.core.usage import Batch
from gateway.service.noted import Noted
from gateway.service.server import distribution_version
from gateway.store.calls import Job
from gateway.store.groups import Call
from gateway.store.lane import Watch
from gateway.web.endpoints import NOTED
from gateway.web.seeing import OTHER_METHOD, method_of
from gateway.web.shedding import OPERATIONS

UNDER_WAY_MAX: Final = 256  # jobs with a span of their own at a time; of a batch not every line
FLUSH_S_MAX: Final = 0.5  # at the end, for what was not sent yet
SERVICE: Final = "cmapi-gateway"

_RIGHT: Final = frozenset({Answer.GRANTED, Answer.HANDED_OVER})


class Traces:
    """Wraps what is to be traced: the application, the lane's watch, senders."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE, distribution_version())

    @classmethod
    def open(cls, exporters: Sequence[str], environ: Mapping[str, str]) -> Traces:
        """Send spans to `exporters` ("otlp", "console"), as the standard variables say."""
        named = "OTEL_SERVICE_NAME" in environ
        named = named or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        facts = {"service.version": distribution_version()}
        resource = Resource.create(facts if named else facts | {"service.name": SERVICE})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for name in exporters:
            # Not to stdout, on which a worker says one word to its supervisor and no more is read.
            exporter: SpanExporter = (
                OTLPSpanExporter() if name == "otlp" else ConsoleSpanExporter(out=sys.stderr)
            )
            provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    async def close(self) -> None:
        """Send what was not sent yet, for as long as FLUSH_S_MAX.

        In a thread that nobody waits for at the end: a collector that hangs must not keep a
        process from ending.
        """
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=end, name="traces-end", daemon=True).start()
        await asyncio.wait([asyncio.ensure_future(done.wait())], timeout=FLUSH_S_MAX)

    def app(self, app: ASGIApp) -> ASGIApp:
        """Trace the requests of an application, but for operations."""
        return _App(app, self._tracer)

    def watch(self, watch: Watch) -> Watch:
        """Trace jobs of a lane, beside what `watch` does."""
        return _Lane(watch, self._tracer)

    def sender(self, sender: Sender, upstream: str) -> Sender:
        """Trace what is sent to an upstream."""
        return _Sender(sender, upstream, self._tracer)

    def http(self, client: httpx.AsyncClient) -> None:
        """Have the requests of a client carry the trace they belong to."""

        async def carry(request: httpx.Request) -> None:
            propagate.inject(request.headers)

        client.event_hooks = {"request": [carry]}


class _Headers(Getter[Scope]):
    """Finds what a trace is carried by in the headers of ASGI."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        name = key.encode()
        return [value.decode("latin-1") for each, value in carrier["headers"] if each == name]

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


_HEADERS: Final = _Headers()


@dataclass(frozen=True, slots=True)
class _App:
    app: ASGIApp
    tracer: Tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(OPERATIONS):
            await self.app(scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.tracer.start_as_current_span(
            _name(scope),
            propagate.extract(scope, getter=_HEADERS),
            SpanKind.SERVER,
            # An exception's text may quote what a client sent.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                await self.app(scope, receive, noting)
            finally:
                _describe(span, scope, status)


def _name(scope: Scope) -> str:
    """Give the first word of a span: OpenTelemetry has HTTP for a method it does not know."""
    method = method_of(scope)
    return "HTTP" if method == OTHER_METHOD else method


def _describe(span: Span, scope: Scope, status: int) -> None:
    route = getattr(scope.get("endpoint"), "name", "")
    noted: Noted = scope.get(NOTED) or Noted()
    if route:
        span.update_name(f"{_name(scope)} {route}")
    facts = {
        "http.request.method": method_of(scope),
        "http.route": route,
        "gateway.request_id": noted.request_id,
        "gateway.outcome": str(noted.outcome),
        "gateway.instance": noted.instance,
    }
    span.set_attributes({name: fact for name, fact in facts.items() if fact})
    if status:
        span.set_attribute("http.response.status_code", status)
    if status >= 500 or not status:
        span.set_status(Status(StatusCode.ERROR))


class _Lane(Watch):
    def __init__(self, watch: Watch, tracer: Tracer) -> None:
        self._watch, self._tracer = watch, tracer
        self._spans: dict[asyncio.Future[Reply], Span] = {}

    def queued(self, job: Job, reply: asyncio.Future[Reply]) -> None:
        self._watch.queued(job, reply)
        if len(self._spans) < UNDER_WAY_MAX and trace.get_current_span().is_recording():
            facts = {"gateway.instance": job.index.catalogue.id}
            self._spans[reply] = self._tracer.start_span("lane", attributes=facts)
            reply.add_done_callback(self._answered)

    def refused(self, jobs: int) -> None:
        self._watch.refused(jobs)

    def exchanged(self, calls: Sequence[Call], took_s: float) -> None:
        self._watch.exchanged(calls, took_s)
        if not self._spans:
            return
        end_ns = time.time_ns()
        begin_ns = end_ns - int(took_s * 1e9)
        for call in calls:
            for waiting in call.batch:
                lane = self._spans.get(waiting.future)
                if lane is not None:
                    script = self._tracer.start_span(
                        "script",
                        trace.set_span_in_context(lane),
                        attributes={"gateway.calls": len(calls), "gateway.jobs": len(call.batch)},
                        start_time=begin_ns,
                    )
                    script.end(end_ns)

    def _answered(self, reply: asyncio.Future[Reply]) -> None:
        span = self._spans.pop(reply)
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, Unavailable):
            span.set_status(Status(StatusCode.ERROR, error.outcome))
        span.end()


@dataclass(frozen=True, slots=True)
class _Sender:
    sender: Sender
    upstream: str
    tracer: Tracer

    async def send(self, batch: Batch) -> Verdict:
        facts: dict[str, str | int] = {
            "gateway.upstream": self.upstream,
            "gateway.instance": batch.instance,
            "gateway.batch": batch.id,
            "gateway.rows": len(batch.rows),
            "gateway.attempt": batch.attempts + 1,
        }
        with self.tracer.start_as_current_span(
            "forward",
            kind=SpanKind.CLIENT,
            attributes=facts,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            verdict = await self.sender.send(batch)
            span.set_attribute("gateway.answer", str(verdict.answer))
            if verdict.answer not in _RIGHT:
                span.set_status(Status(StatusCode.ERROR, verdict.answer))
            return verdict
