"""SIGTERM with every kind of connection open: not ready first, then the drain, then the end.

Run by hand under each Python that is supported: what a shutdown waits for has changed between them.
Source: INTERFACE 1, RELIABILITY 3 (6) and 4 row 2.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h2.connection
import h2.events
import pytest

from gateway.web.servers import GRANIAN, HYPERCORN
from tests.stores.programs import lasting_port
from tests.system.processes import Gateway, Processes, eventually
from tests.web.servers import self_signed

STOP_S = 30.0  # 10 are promised; a machine that stalls takes longer, a stop that hangs for ever
DRAIN_S = 4.0  # in which it is looked at, also when the machine stalls
AGAIN_S = 0.02  # from one SIGTERM of an impatient one to the next
ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /api/1.0/instances/none/access_request HTTP/1.1\r\nHost: x\r\n"
HALVES = (b"", b"GET /livez HT", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


class Http2:
    """A client of HTTP/2 on a socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._connection = h2.connection.H2Connection()
        self._connection.initiate_connection()

    def ask(self, method: str, path: str, *, end: bool = True) -> int:
        stream = self._connection.get_next_available_stream_id()
        said = {":method": method, ":path": path, ":scheme": "http", ":authority": "x"}
        self._connection.send_headers(stream, list(said.items()), end_stream=end)
        self._flush()
        return stream

    def heard_until_the_end(self) -> list[h2.events.Event]:
        """Read until the server is gone."""
        heard: list[h2.events.Event] = []
        with contextlib.suppress(ConnectionError):
            while data := self._socket.recv(2**16):
                heard += self._connection.receive_data(data)
        return heard

    def hear(self, kind: type[h2.events.Event]) -> None:
        while True:
            events = self._connection.receive_data(self._socket.recv(2**16))
            self._flush()
            if any(isinstance(event, kind) for event in events):
                return

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("served_by", "workers", "tls"),
    [
        *((HYPERCORN, workers, tls) for workers in ("1", "2") for tls in (False, True)),
        *((GRANIAN, "1", False), (GRANIAN, "2", True)),
    ],
    indirect=["served_by"],
)
def test_it_is_not_ready_first_then_drains_then_ends_in_time(
    processes: Processes, workers: str, tls: bool, served_by: str
) -> None:
    environ = {}
    if tls:
        certificate, key = self_signed(processes.directory)
        environ["GATEWAY_SERVER__TLS_CERT"] = str(certificate)
        environ["GATEWAY_SERVER__TLS_KEY"] = str(key)
    gateway = processes.serve("--workers", workers, drain_s=DRAIN_S, **environ)
    with contextlib.ExitStack() as stack:

        def connect(alpn: str = "http/1.1") -> socket.socket:
            return stack.enter_context(connected(gateway, environ, alpn))

        raw = stack.enter_context(gateway.connect())  # under TLS: a handshake that never begins
        halves = [connect() for _ in HALVES]
        for each, half in zip(halves, HALVES, strict=True):
            each.sendall(half)
        idle = [connect() for _ in range(20)]
        for each in idle:
            assert asked(each, ASK).startswith(b"HTTP/1.1 200")
        http2 = served_by == HYPERCORN
        if http2:
            idle2, half2 = Http2(connect("h2")), Http2(connect("h2"))
            idle2.ask("GET", "/livez")
            idle2.hear(h2.events.StreamEnded)
            half2.ask("POST", "/api/1.0/instances/none/access_request", end=False)

        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        eventually(lambda: b"503" in once(connect(), b"/readyz"))
        # Not ready, and at work all the same: for who has not heard of it yet.
        assert once(connect(), b"/livez").startswith(b"HTTP/1.1 200")
        assert asked(idle[0], ASK).lower().count(b"connection: close") == 1
        assert gateway.process.poll() is None
        assert gateway.exit_code() == 0
        assert DRAIN_S <= time.monotonic() - began_s < STOP_S
        if http2:
            gone = idle2.heard_until_the_end()[-1]
            assert isinstance(gone, h2.events.ConnectionTerminated)
            assert (gone.error_code, gone.last_stream_id) == (0, 1)
        for each in (*idle[1:], raw):
            with contextlib.suppress(ConnectionError):
                assert each.recv(1) == b""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_while_it_starts_and_one_while_it_ends_are_orderly(
    processes: Processes, workers: str
) -> None:
    for number in range(4):
        port = lasting_port()
        process, log_file = processes.start(
            *("serve", "--bind", f"127.0.0.1:{port}", "--workers", workers),
            *("--data-dir", str(processes.directory / f"data-{number}")),
            GATEWAY_SERVER__DRAIN_S="0",
        )
        eventually(lambda port=port: accepts(port))  # it listens, and has not opened its store
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(AGAIN_S)
            process.send_signal(signal.SIGTERM)
        assert process.returncode == 0
        assert "Traceback" not in log_file.read_text()


def connected(gateway: Gateway, environ: dict[str, str], alpn: str) -> socket.socket:
    plain = gateway.connect()
    if not environ:
        return plain
    trusting = ssl.create_default_context(cafile=environ["GATEWAY_SERVER__TLS_CERT"])
    trusting.set_alpn_protocols([alpn])
    return trusting.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=True)


def asked(client: socket.socket, request: bytes) -> bytes:
    """Ask for something small, and read until its end."""
    client.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        part = client.recv(4096)
        assert part, answer
        answer += part
    return answer


def once(client: socket.socket, path: bytes) -> bytes:
    """Ask on a connection that is of no use afterwards."""
    with client:
        return asked(client, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
