"""`serve` as a real process: it answers, it stops in order, and it leaves nothing behind."""

from __future__ import annotations

import datetime
import ipaddress
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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.system.processes import Gateway, Processes, eventually, free_port, has_ended

STOP_S = 10.0
PATH = "/api/1.0/instances/none/access_request"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # + SETTINGS


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


def test_it_is_ready_and_answers_where_it_says(processes: Processes) -> None:
    gateway = processes.serve()
    assert re.fullmatch(r"ready http://127\.0\.0\.1:[1-9][0-9]*", gateway.ready_line)
    status, headers, _ = gateway.get("/livez")
    assert status == 200
    assert "server" not in headers
    assert gateway.status("/readyz") == 200
    assert gateway.workers() == []


def test_it_drains_with_idle_connections_open_and_says_so(processes: Processes) -> None:
    gateway = processes.serve(drain_s=1)
    with gateway.connect() as idle, gateway.connect() as silent:
        assert ask(idle).startswith(b"HTTP/1.1 200")
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        eventually(lambda: gateway.status("/readyz") == 503)
        status, headers, _ = gateway.get("/livez")
        assert (status, headers["connection"]) == (200, "close")
        assert gateway.exit_code() == 0
        assert 1 <= time.monotonic() - began_s < STOP_S
        assert idle.recv(1) == silent.recv(1) == b""
    assert gateway.process.stdout is not None
    assert gateway.process.stdout.read() == ""


def test_a_second_signal_skips_the_drain(processes: Processes) -> None:
    gateway = processes.serve(drain_s=30)
    gateway.signal(signal.SIGINT)
    eventually(lambda: gateway.status("/readyz") == 503)
    gateway.signal(signal.SIGINT)
    assert gateway.exit_code() == 0


def test_a_request_in_flight_at_the_stop_is_answered(processes: Processes) -> None:
    gateway = processes.serve()
    with gateway.connect() as client:
        client.sendall(HEAD + b"Content-Length: 2\r\n\r\n{")
        gateway.status("/livez")  # by now the one before has begun
        gateway.signal(signal.SIGTERM)
        eventually(lambda: refuses(gateway))
        client.sendall(b"}")
        assert client.recv(4096).startswith(b"HTTP/1.1 401")
    assert gateway.exit_code() == 0


@pytest.mark.slow
def test_a_half_sent_body_does_not_hold_up_the_stop(processes: Processes) -> None:
    gateway = processes.serve()
    with gateway.connect() as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        gateway.status("/livez")
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


@pytest.mark.slow
def test_clients_that_fall_silent_are_cut_off(processes: Processes) -> None:
    gateway = processes.serve(GATEWAY_SERVER__HEADER_TIMEOUT_S="1")
    clients = [gateway.connect(timeout_s=5) for _ in range(3)]
    began_s = time.monotonic()
    for client, start in zip(
        clients, [b"", b"POST / HTTP/1.1\r\nHost", HTTP2_PREFACE], strict=True
    ):
        client.sendall(start)
    for client in clients:
        with client:
            assert ends(client)
    assert 1 <= time.monotonic() - began_s < 4
    assert gateway.status("/livez") == 200


def test_more_connections_than_allowed_are_dropped(processes: Processes) -> None:
    gateway = processes.serve(GATEWAY_LIMITS__CONNECTIONS="2")
    with gateway.connect() as first, gateway.connect() as second, gateway.connect() as third:
        assert ask(first).startswith(b"HTTP/1.1 200")
        assert ends(third)
        assert ask(second).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_workers_serve_and_stop_together(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2", drain_s=0.5)
    workers = gateway.workers()
    assert len(workers) == 2
    assert gateway.status("/readyz") == 200
    gateway.signal(signal.SIGTERM)
    eventually(lambda: gateway.status("/readyz") == 503)
    assert gateway.exit_code() == 0
    assert all(has_ended(pid) for pid in workers)


@pytest.mark.slow
def test_no_orphan_answers_after_the_parent_was_killed(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    workers, store = gateway.workers(), gateway.store_pid()
    gateway.signal(signal.SIGKILL)
    gateway.exit_code()
    eventually(lambda: all(has_ended(pid) for pid in workers), within_s=1)
    # A process counts as ended while its last thread still closes what it had open.
    eventually(lambda: refuses(gateway), within_s=1)
    eventually(lambda: has_ended(store))


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_service_goes_on(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2", GATEWAY_LOG__FORMAT="json")
    before, store = gateway.workers(), gateway.store_pid()
    killed = before[0]
    os.kill(killed, signal.SIGKILL)
    assert gateway.status("/livez") == 200
    eventually(lambda: has_ended(killed) and len(gateway.workers()) == 2)
    assert killed not in gateway.workers()
    assert before[1] in gateway.workers()
    assert gateway.store_pid() == store
    assert gateway.status("/readyz") == 200
    assert '"worker died"' in gateway.log


@pytest.mark.slow
def test_ctrl_c_is_one_orderly_stop_for_all_workers(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    with gateway.connect() as client:
        client.sendall(HEAD + b"Content-Length: 2\r\n\r\n{")
        gateway.status("/livez")
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
    assert has_ended(hanging)
    assert has_ended(store)


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
        if not has_ended(store):
            os.kill(store, signal.SIGKILL)


@pytest.mark.slow
def test_workers_that_keep_dying_are_given_up(processes: Processes) -> None:
    gateway = processes.serve("--workers", "2")
    steady, store = gateway.workers()[1], gateway.store_pid()

    def has_given_up() -> bool:
        for worker in set(gateway.workers()) - {steady}:
            os.kill(worker, signal.SIGKILL)
        return gateway.process.poll() is not None

    eventually(has_given_up, within_s=60)
    assert gateway.exit_code() == 1
    assert "died 10 times in a row" in gateway.log
    assert has_ended(steady)
    assert has_ended(store)


def test_one_http2_connection_serves_any_number_of_requests(processes: Processes) -> None:
    gateway = processes.serve()
    with httpx.Client(http1=False, http2=True) as client:
        answers = [client.get(f"{gateway.url}/livez") for _ in range(1_050)]
        streams = {id(each.extensions["network_stream"]) for each in answers}
    assert {("HTTP/2", 200)} == {(each.http_version, each.status_code) for each in answers}
    assert len(streams) == 1


@pytest.mark.slow
def test_it_serves_tls_with_a_certificate_given(processes: Processes) -> None:
    certificate, key = self_signed(processes.directory)
    settings = {"GATEWAY_SERVER__TLS_CERT": str(certificate), "GATEWAY_SERVER__TLS_KEY": str(key)}
    gateway = processes.serve(**settings)
    assert gateway.url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=certificate)
    with httpx.Client(verify=trusted, http2=True) as client:
        answer = client.get(f"{gateway.url}/livez")
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
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
        ("--server", "granian"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_bad_flags_are_one_sentence(processes: Processes, arguments: tuple[str, ...]) -> None:
    assert refused(processes, *arguments).count("\n") == 1


@pytest.mark.slow
def test_a_set_up_that_no_worker_can_start_with_is_told_once(processes: Processes) -> None:
    settings = {"GATEWAY_SIGNING__KEY_FILE": str(processes.directory / "missing.pem")}
    message = refused(processes, "--bind", f"127.0.0.1:{free_port()}", "--workers", "3", **settings)
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


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that lasts a day, and its key, as files."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


def refused(processes: Processes, *arguments: str, **environ: str) -> str:
    """Run a `serve` that is to refuse, and give what it says."""
    environ = {"GATEWAY_LOG__LEVEL": "error", **environ}
    data_dir = processes.directory / "data"
    process, log_file = processes.start("serve", "--data-dir", str(data_dir), *arguments, **environ)
    assert process.wait(20) == 2
    assert process.stdout is not None
    assert process.stdout.read() == ""
    return log_file.read_text()


def ask(client: socket.socket) -> bytes:
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += client.recv(4096)
    return answer


def refuses(gateway: Gateway) -> bool:
    try:
        with gateway.connect(timeout_s=2):
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
