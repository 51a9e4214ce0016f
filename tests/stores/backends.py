"""Stand-ins for gateways behind a balancer: what was posted to each can be told for certain."""

from __future__ import annotations

import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Ways to ask a gateway for its metrics, as they stand in a request line.
METRICS = (
    "/metrics",
    "/metrics?x=1",
    "/metrics?",
    "/metrics/",
    "/%6detrics",
    "/%6D%65%74%72%69%63%73",
    "/metric%73?x=%2F",
    "/%6detrics/",
    "/metrics%0a",  # a gateway answers it
    "/metrics#x",
    "http://somewhere/%6detrics",
)


def status_of(address: str, target: str, method: str = "GET") -> int:
    """Ask for what no library has tidied up; give the status."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, target)
        return connection.getresponse().status
    finally:
        connection.close()


class Backend(ThreadingHTTPServer):
    """Stands for a gateway: ready or not, counts what is posted, answers it or breaks off."""

    daemon_threads = True

    def __init__(self, name: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answers)
        self.name = name
        self.ready = True
        self.breaks = False
        self.posted: list[str | None] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Keep quiet: a balancer that resets a connection is nothing to tell of."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: Backend
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200 if self.server.ready else 503)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.posted.append(self.headers["X-Forwarded-For"])
        if self.server.breaks:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(200)

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.server.name)))
        self.end_headers()
        self.wfile.write(self.server.name.encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
