"""What is seen of a gateway that runs: one sum of all its workers, whoever of them is asked; logs
in which no secret is, whatever was sent; traces at a collector.

Source: INTERFACE 5, RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.store.opening import open_store
from tests.system.processes import AWAIT_S, Gateway, Processes, eventually
from tests.system.test_forward import House
from tests.system.test_kills import PROVISIONING, post, run
from tests.web.scrapes import series_of

pytestmark = pytest.mark.slow  # whole gateways, several processes each

UPSTREAMS = ("meter", "cloud")
GRANTED = ("gateway_access_requests_total", "granted", "cmapi")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a client's key, and the provisioning that trusts it."""
    directory = tmp_path_factory.mktemp("site")
    run("keys", "generate", "--out", str(directory))
    attached = "".join(f'  [[instance.upstream]]\n  name = "{name}"\n' for name in UPSTREAMS)
    (directory / "kills.toml").write_text(PROVISIONING + attached)
    return directory


@pytest.fixture(scope="module")
def token(site: Path) -> str:
    return run("token", "--key", str(site / "private.pem")).strip()


@pytest.fixture
def provisioned(site: Path, tmp_path: Path) -> None:
    run("apply", str(site / "kills.toml"), "--data-dir", str(tmp_path / "data"))


def scrape(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """Scrape over a connection of its own, which any worker may take."""
    status, _, body = gateway.get("/metrics")
    assert status == 200
    return series_of(body.decode())


# Metrics ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("provisioned")
def test_whichever_worker_is_asked_tells_the_sum_of_all(processes: Processes, token: str) -> None:
    gateway = processes.serve("--workers", "2")
    for number in range(12):
        assert post(gateway, token, f"id-{number}").status_code == 200
    eventually(lambda: scrape(gateway)[GRANTED] == 12)  # counted just after it is answered
    assert [scrape(gateway)[GRANTED] for _ in range(8)] == [12] * 8
    eventually(lambda: scrape(gateway).get(("gateway_store_up",)) == 1)
    eventually(lambda: ("gateway_ledger_imbalance",) in scrape(gateway))
    eventually(lambda: scrape(gateway)["gateway_workers",] == 2)
    eventually(lambda: scrape(gateway)["gateway_ready",] == 1)
    told = scrape(gateway)
    assert told["gateway_ledger_imbalance",] == 0
    assert told["gateway_worker_deaths_total",] == 0  # a start is none
    assert told["gateway_store_seconds_count",] > 0
    # Whoever dies takes no count along.
    for victim in gateway.workers():
        os.kill(victim, signal.SIGKILL)
        eventually(lambda victim=victim: victim not in gateway.workers())
        eventually(lambda: len(gateway.workers()) == 2)
        eventually(lambda: gateway.status("/livez") == 200)
        assert scrape(gateway)[GRANTED] == 12
    eventually(lambda: scrape(gateway)["gateway_workers",] == 2)
    told = scrape(gateway)
    assert (told[GRANTED], told["gateway_worker_starts_total",]) == (12, 4)
    assert told["gateway_worker_deaths_total",] == 2


@pytest.mark.usefixtures("provisioned")
@pytest.mark.parametrize("more", [(), ("--no-forward",)])
def test_who_does_not_forward_says_nothing_of_how_upstreams_answer(
    tmp_path: Path, processes: Processes, more: tuple[str, ...]
) -> None:
    gateway = processes.serve("--config", planted(tmp_path), *more)
    eventually(lambda: ("gateway_lane_depth",) in scrape(gateway))
    eventually(lambda: ("gateway_outbox_oldest_seconds", "meter") in scrape(gateway))
    said = {("gateway_upstream_away", "meter"), ("gateway_upstream_stopped", "cloud")}
    if not more:
        eventually(lambda: said <= scrape(gateway).keys())
    else:
        assert said.isdisjoint(scrape(gateway))


@pytest.mark.usefixtures("provisioned")
def test_a_gateway_that_starts_over_a_damaged_instance_sees_the_others(
    tmp_path: Path, processes: Processes, site: Path, token: str
) -> None:
    """AAA comes before KILLS, and a gateway that starts has looked at neither."""
    other = site / "aaa.toml"
    other.write_text((site / "kills.toml").read_text().replace('"KILLS"', '"AAA"'))
    run("apply", str(other), "--data-dir", str(tmp_path / "data"))

    async def damage() -> None:
        async with open_store("embedded", tmp_path / "data", partitions=256) as store:
            ledger = store.catalogues.keys("AAA").ledger
            await store.client.delete(ledger)
            await store.client.set(ledger, "no ledger")

    asyncio.run(damage())
    gateway = processes.serve("--no-forward")
    assert post(gateway, token, "of-the-other").status_code == 200
    eventually(lambda: scrape(gateway).get(("gateway_ledger_imbalance",)) == 1)
    of_others = ("gateway_outbox_oldest_seconds", "(other)")
    eventually(lambda: scrape(gateway).get(of_others, 0) > 0)
    eventually(lambda: scrape(gateway).get(("gateway_store_look_timestamp_seconds",), 0) > 0)
    assert gateway.log.count("instance_unreadable") == 1


# Logs ---------------------------------------------------------------------------------------------

SECRET = "opaque-secret-7"
HOST = "host-of-somebody"


def planted(directory: Path) -> str:
    """Write a configuration that names secrets in files, and upstreams that do not work."""
    for name in ("meter-token", "api-key", "shared-key"):
        (directory / name).write_text(f"{SECRET}-{name}")
    (directory / "broken.pem").write_text("-----BEGIN PRIVATE KEY-----\n" + SECRET)
    config = directory / "gateway.toml"
    config.write_text(
        '[licensespring]\ninstance = "KILLS"\nauth = true\n'
        '[[upstream]]\nname = "meter"\nkind = "cloudevents"\ninterval = "1s"\n'
        'url = "http://127.0.0.1:1/events"\ntoken_file = "meter-token"\n'
        '[[upstream]]\nname = "cloud"\nkind = "licensespring"\nurl = "http://127.0.0.1:1"\n'
        'api_key_file = "api-key"\nshared_key_file = "shared-key"\nhardware_id = "h-1"\n'
    )
    return str(config)


def provoke(gateway: Gateway, token: str) -> None:
    """Send requests of many kinds, each with secrets where such requests may have some."""
    base = f"{gateway.url}/api/1.0/instances/KILLS"
    good = {"Authorization": f"Bearer {token}"}
    tampered = {"Authorization": f"Bearer {token[:-4]}AAAA"}
    asked = {"hostId": {"type": "string", "value": HOST}, "features": [{"name": "sessions"}]}
    login = {"user": "ann", "password": SECRET}
    with httpx.Client(timeout=AWAIT_S) as http:
        for headers in (good, tampered, {"Authorization": SECRET}, {"Cookie": f"a={SECRET}"}):
            http.post(f"{base}/access_request", json=asked, headers=headers)
            http.post(f"{base}/access_request", content=SECRET.encode(), headers=headers)
            http.post(f"{base}/access_request?{SECRET}={SECRET}", json=asked, headers=headers)
            http.post(f"{base}/access_requests", json={"a": SECRET}, headers=headers)
            http.get(f"{base}/requests/{SECRET}", headers=headers)
            http.get(f"{gateway.url}/{SECRET}/{SECRET}", headers=headers)
            http.get(f"{gateway.url}/api/1.0/instances/{SECRET}/features", headers=headers)
            http.post(f"{gateway.url}/api/v4/register", json={"user": HOST}, headers=headers)
            http.post(f"{gateway.url}/api/v5/auth/login", json=login, headers=headers)
            http.get(f"{gateway.url}/auth", auth=("ann", SECRET))
        http.post(f"{base}/authorize", json=login)
        http.post(f"{base}/access_request", json={**asked, "hostId": SECRET}, headers=good)
        http.post(f"{base}/access_request", content=b"x" * 70_000, headers=good)
        idempotency = {**good, "Idempotency-Key": SECRET}
        http.post(f"{base}/access_request", json=asked, headers=idempotency)
    with gateway.connect() as raw:  # no HTTP at all
        raw.sendall(f"{SECRET} {SECRET}\r\n{SECRET}: {SECRET}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionResetError):
            raw.recv(1_000)


@pytest.mark.usefixtures("provisioned")
@pytest.mark.parametrize("format_", ["json", "console"])
def test_no_secret_is_logged_whatever_is_sent(
    tmp_path: Path, processes: Processes, site: Path, token: str, format_: str
) -> None:
    log = {"LEVEL": "debug", "FORMAT": format_, "ACCESS": "true"}
    environ = {f"GATEWAY_LOG__{name}": value for name, value in log.items()}
    # Traces to nowhere: what cannot be sent, with which headers, is told by another library.
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    environ["OTEL_EXPORTER_OTLP_HEADERS"] = f"api-key={SECRET}"
    gateway = processes.serve("--config", planted(tmp_path), **environ)
    provoke(gateway, token)
    store = gateway.store_pid()
    os.kill(store, signal.SIGSTOP)
    try:  # answered 503, and said why
        assert post(gateway, token, "while-away").status_code == 503
    finally:
        os.kill(store, signal.SIGCONT)
    eventually(lambda: "upstream_away" in gateway.log)
    gateway.signal(signal.SIGTERM)
    gateway.exit_code()
    text = gateway.log
    assert SECRET not in text
    assert HOST not in text
    assert token not in text
    assert token.rpartition(".")[2] not in text
    assert (site / "private.pem").read_text().split("\n")[1] not in text
    assert text.count("store_unavailable") >= 1
    if format_ == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        requests = [line for line in lines if line["event"] == "request"]
        assert len(requests) >= 45
        assert all(line["outcome"] for line in requests)
        away = [line for line in lines if line["event"] == "store_unavailable"]
        assert all(line["request_id"] and line["outcome"] for line in away)


# Traces -------------------------------------------------------------------------------------------


class Collector:
    """An OTLP collector on a real port, which keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def environ(self) -> dict[str, str]:
        """What has a gateway send its traces here, at once."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def spans(self) -> list[tuple[str, Any]]:
        """Give all spans with the service that they are of."""
        found = []
        for body in list(self.bodies):
            request = ExportTraceServiceRequest.FromString(body)
            for each in request.resource_spans:
                facts = {fact.key: fact.value.string_value for fact in each.resource.attributes}
                spans = [span for scope in each.scope_spans for span in scope.spans]
                found += [(facts["service.name"], span) for span in spans]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    opened = Collector()
    yield opened
    opened.close()


def test_a_send_and_what_it_does_at_the_parent_are_one_trace_at_a_collector(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    try:
        for name, value in collector.environ.items():
            monkeypatch.setenv(name, value)
        parent = house.parent()
        monkeypatch.setenv("OTEL_SERVICE_NAME", "child")
        child = house.child("--config", str(house.config))
        house.post(child, 3)

        def at_the_parent() -> list[Any]:
            forwards = {
                span.trace_id: span
                for service, span in collector.spans()
                if (service, span.name) == ("child", "forward")
            }
            return [
                span.name
                for service, span in collector.spans()
                if service == "cmapi-gateway" and span.trace_id in forwards
            ]

        wanted = {"POST access_request", "lane", "script"}

        def at_the_child() -> list[Any]:
            return [span.name for service, span in collector.spans() if service == "child"]

        eventually(lambda: wanted <= set(at_the_parent()))
        assert parent.status("/livez") == 200
        eventually(lambda: wanted <= set(at_the_child()))
    finally:
        house.processes.close()
