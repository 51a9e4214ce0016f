"""`serve` as a real process: it answers, it stops in order, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.web.servers import GRANIAN, HYPERCORN
from tests.served_by import under_both
from tests.stores.programs import lasting_port
from tests.system.processes import Gateway, Processes, eventually, has_ended
from tests.web.servers import self_signed

STOP_S = 30.0  # 10 are promised; a machine that stalls takes longer, a stop that hangs for ever
DRAIN_S_MAX = 60  # the longest that may be set: nobody waits for its end
PATH = "/api/1.0/instances/none/access_request"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
CUT_OFF_S = 20.0  # one that is not cut off stays for 60
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # + SETTINGS


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@under_both
def test_it_is_ready_and_answers_where_it_says(processes: Processes, served_by: str) -> None:
    gateway = processes.serve()
    assert re.fullmatch(r"ready http://127\.0\.0\.1:[1-9][0-9]*", gateway.ready_line)
    status, headers, _ = gateway.get("/livez")
    assert status == 200
    assert ("server" in headers) == (served_by == GRANIAN)  # it cannot be told to be silent
    assert gateway.status("/readyz") == 200
    assert gateway.workers() == []


@under_both
def test_it_drains_with_idle_connections_open_and_then_ends(processes: Processes) -> None:
    gateway = processes.serve(drain_s=1)
    with gateway.connect() as idle, gateway.connect() as silent:
        assert ask(idle).startswith(b"HTTP/1.1 200")
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.exit_code() == 0
        assert 1 <= time.monotonic() - began_s < STOP_S
        assert heard_of(idle) == heard_of(silent) == b""
    assert gateway.process.stdout is not None
    assert gateway.process.stdout.read() == ""


@under_both
def test_it_says_that_it_drains_and_a_second_signal_skips_that(processes: Processes) -> None:
    gateway = processes.serve(drain_s=DRAIN_S_MAX)
    gateway.signal(signal.SIGINT)
    eventually(lambda: gateway.status("/readyz") == 503)
    status, headers, _ = gateway.get("/livez")
    assert (status, headers["connection"]) == (200, "close")
    gateway.signal(signal.SIGINT)
    assert gateway.exit_code(STOP_S) == 0


@under_both
def test_a_request_in_flight_at_the_stop_is_answered(processes: Processes) -> None:
    gateway = processes.serve()
    with gateway.connect() as client:
        begin(client, 2)
        gateway.signal(signal.SIGTERM)
        eventually(lambda: refuses(gateway))
        client.sendall(b"}")
        assert client.recv(4096).startswith(b"HTTP/1.1 401")
    assert gateway.exit_code() == 0


@under_both
@pytest.mark.slow
def test_a_half_sent_body_does_not_hold_up_the_stop(processes: Processes) -> None:
    gateway = processes.serve(GATEWAY_SERVER__BODY_TIMEOUT_S="600")
    with gateway.connect() as client:
        begin(client, 100)
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.exit_code() == 0
        assert time.monotonic() - began_s < STOP_S
    assert "requests cut off" in gateway.log


def test_the_store_ends_with_an_orderly_stop(processes: Processes) -> None:
    gateway = processes.serve()
    store = gateway.store_pid()
    gateway.signal(signal.SIGTERM)
    assert gateway.exit_code() == 0
    assert has_ended(store)


@under_both
@pytest.mark.slow
def test_clients_that_fall_silent_are_cut_off(processes: Processes) -> None:
    gateway = processes.serve(GATEWAY_SERVER__HEADER_TIMEOUT_S="1")
    began_s = time.monotonic()  # each is waited for from its connection on
    clients = [gateway.connect() for _ in range(3)]
    for client, start in zip(
        clients, [b"", b"POST / HTTP/1.1\r\nHost", HTTP2_PREFACE], strict=True
    ):
        client.sendall(start)
    for client in clients:
        with client:
            assert ends(client)
    assert 1 <= time.monotonic() - began_s < CUT_OFF_S
    assert gateway.status("/livez") == 200


def test_more_connections_than_allowed_are_told_to_come_again(processes: Processes) -> None:
    gateway = processes.serve(GATEWAY_LIMITS__CONNECTIONS="2")
    with gateway.connect() as first, gateway.connect() as second, gateway.connect() as third:
        assert ask(first).startswith(b"HTTP/1.1 200")
        refused = ask(third)
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"\r\nRetry-After: 1\r\n" in refused
        assert ends(third)
        assert ask(second).startswith(b"HTTP/1.1 200")


@under_both
@pytest.mark.slow
def test_workers_serve_and_stop_together(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2", drain_s=DRAIN_S_MAX)
    workers = gateway.workers()
    assert len(workers) == 2
    assert gateway.status("/readyz") == 200
    gateway.signal(signal.SIGTERM)
    eventually(lambda: gateway.status("/readyz") == 503)
    gateway.signal(signal.SIGTERM)  # their drain is test_serving_stops.py's
    assert gateway.exit_code(STOP_S) == 0
    assert all(has_ended(pid) for pid in workers)


@pytest.mark.slow
def test_no_orphan_answers_after_the_parent_was_killed(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    workers, store = gateway.workers(), gateway.store_pid()
    gateway.signal(signal.SIGKILL)
    gateway.exit_code()
    eventually(lambda: all(has_ended(pid) for pid in workers))
    # A process counts as ended while its last thread still closes what it had open.
    eventually(lambda: refuses(gateway))
    eventually(lambda: has_ended(store))


@pytest.mark.slow
def test_ctrl_c_is_one_orderly_stop_for_all_workers(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    with gateway.connect() as client:
        begin(client, 2)
        gateway.press_ctrl_c()
        eventually(lambda: refuses(gateway))
        client.sendall(b"}")
        assert client.recv(4096).startswith(b"HTTP/1.1 401")
    assert gateway.exit_code() == 0


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_at_the_stop(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    hanging, store = gateway.workers()[0], gateway.store_pid()
    os.kill(hanging, signal.SIGSTOP)
    began_s = time.monotonic()
    gateway.signal(signal.SIGTERM)
    assert gateway.exit_code() == 0
    assert time.monotonic() - began_s < STOP_S
    # By its parent, or by the kernel where that was held up itself until its time was over.
    eventually(lambda: has_ended(hanging) and has_ended(store))


@pytest.mark.slow
def test_a_store_that_hangs_does_not_hold_up_the_stop(processes: Processes) -> None:
    gateway = processes.serve(drain_s=3)
    store = gateway.store_pid()
    os.kill(store, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.exit_code() == 0
        assert time.monotonic() - began_s < STOP_S
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(store, signal.SIGKILL)


def test_one_http2_connection_serves_any_number_of_requests(processes: Processes) -> None:
    gateway = processes.serve()
    lasting = httpx.Limits(keepalive_expiry=None)
    with httpx.Client(http1=False, http2=True, timeout=STOP_S, limits=lasting) as client:
        answers = [client.get(f"{gateway.url}/livez") for _ in range(1_050)]
        streams = {id(each.extensions["network_stream"]) for each in answers}
    assert {("HTTP/2", 200)} == {(each.http_version, each.status_code) for each in answers}
    assert len(streams) == 1


@under_both
@pytest.mark.slow
def test_it_serves_tls_with_a_certificate_given(processes: Processes, served_by: str) -> None:
    certificate, key = self_signed(processes.directory)
    settings = {"GATEWAY_SERVER__TLS_CERT": str(certificate), "GATEWAY_SERVER__TLS_KEY": str(key)}
    gateway = processes.serve(**settings)
    assert gateway.url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=certificate)
    with httpx.Client(verify=trusted, http2=True, timeout=STOP_S) as client:
        answer = client.get(f"{gateway.url}/livez")
        spoken = "HTTP/2" if served_by == HYPERCORN else "HTTP/1.1"
        assert (answer.http_version, answer.status_code) == (spoken, 200)
        gateway.signal(signal.SIGTERM)
        assert gateway.exit_code() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_sentence(processes: Processes, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(processes, "--bind", f"127.0.0.1:{port}", "--workers", workers)
    assert message == f"Cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bind", "nowhere"),
        ("--bind", "192.0.2.1:0"),
        ("--workers", "0"),
        ("--server", "apache"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_bad_flags_are_one_sentence(processes: Processes, arguments: tuple[str, ...]) -> None:
    assert refused(processes, *arguments).count("\n") == 1


@pytest.mark.slow
def test_a_set_up_that_no_worker_can_start_with_is_told_once(processes: Processes) -> None:
    settings = {"GATEWAY_SIGNING__KEY_FILE": str(processes.directory / "missing.pem")}
    message = refused(
        processes, "--bind", f"127.0.0.1:{lasting_port()}", "--workers", "3", **settings
    )
    assert message.count("missing.pem") == message.count("\n") == 1


@pytest.mark.slow
def test_tls_without_its_key_is_one_sentence(processes: Processes) -> None:
    certificate, key = self_signed(processes.directory)
    names = ("GATEWAY_SERVER__TLS_CERT", "GATEWAY_SERVER__TLS_KEY")
    for files in [(str(certificate), ""), (str(certificate), "missing"), (str(key), str(key))]:
        message = refused(
            processes, "--bind", "127.0.0.1:0", **dict(zip(names, files, strict=True))
        )
        assert message.count("\n") == message.count("server.tls_key") == 1
        assert not (processes.directory / "data").exists()


def refused(processes: Processes, *arguments: str, **environ: str) -> str:
    """Run a `serve` that is to refuse, and give what it says."""
    environ = {"GATEWAY_LOG__LEVEL": "error", **environ}
    data_dir = processes.directory / "data"
    process, log_file = processes.start("serve", "--data-dir", str(data_dir), *arguments, **environ)
    assert process.wait(STOP_S) == 2
    assert process.stdout is not None
    assert process.stdout.read() == ""
    return log_file.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_trusting_every_proxy_is_refused_in_a_sentence(processes: Processes, workers: str) -> None:
    message = refused(
        processes,
        *("--bind", "127.0.0.1:0", "--workers", workers),
        GATEWAY_SERVER__TRUSTED_PROXIES="10.0.0.1,*",
    )
    assert message.count("\n") == message.count("server.trusted_proxies") == 1
    assert "every client could choose" in message
    assert not (processes.directory / "data").exists()  # and nothing was opened before


def ask(client: socket.socket) -> bytes:
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        part = client.recv(4096)
        assert part, answer
        answer += part
    return answer


def begin(client: socket.socket, length: int) -> None:
    """Send a request but for its last bytes; it has begun in earnest when this returns."""
    client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length)
    told = b""
    while not told.endswith(b"\r\n\r\n"):
        part = client.recv(4096)
        assert part, told
        told += part
    assert told.startswith(b"HTTP/1.1 100 ")
    client.sendall(b"{")


def heard_of(client: socket.socket) -> bytes:
    """Give what comes of one that is gone: nothing, whether it was closed or reset."""
    try:
        return client.recv(1)
    except ConnectionResetError:
        return b""


def refuses(gateway: Gateway) -> bool:
    try:
        with gateway.connect():
            return False
    except ConnectionRefusedError:
        return True


def ends(client: socket.socket) -> bool:
    """Read until the other side is gone; raises TimeoutError when it stays."""
    try:
        while client.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True
