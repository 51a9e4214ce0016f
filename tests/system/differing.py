"""A licence server that is not ours, made of ours: a proxy that takes away and alters.

Run as a process, `python -m tests.system.differing UPSTREAM`, it prints its address. What is ours
alone is not there (404, 415, or not looked at), and three things differ on purpose: what
VERSION_TOO_HIGH is called, an empty `statusList` that is left out, a part of `health`.
"""

from __future__ import annotations

import json
import re
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ABSENT = re.compile(
    r"/\.well-known/|/api/1\.0/(health|features)"
    r"|/api/1\.0/instances/[^/]+/(access_requests|policies|requests/|clients/)"
)
NOT_FOUND = b'{"key": "glsErr.notFound", "message": "no such path", "arguments": []}'
NO_TYPE = b'{"key": "glsErr.type", "message": "no such type", "arguments": []}'


class Proxy(BaseHTTPRequestHandler):
    """Hands a request on, without what a foreign server would not understand."""

    upstream: tuple[str, int]
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # head and body leave at once, or each answer waits for an acknowledgement

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if ABSENT.match(self.path):
            self.answer(404, NOT_FOUND)
        elif self.headers.get("Content-Type") == "application/jose":
            self.answer(415, NO_TYPE)
        else:
            self.answer(*self.handed_on(body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def handed_on(self, body: bytes) -> tuple[int, bytes]:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("host", "connection", "idempotency-key", "content-length")
        }
        connection = HTTPConnection(*self.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, without_id(body), headers)
            answer = connection.getresponse()
            return answer.status, altered(self.path, answer.read())
        finally:
            connection.close()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def without_id(body: bytes) -> bytes:
    """Leave out the idempotency id, in a body that has one."""
    if b'"correlationId"' not in body:
        return body
    members = json.loads(body)
    members.pop("correlationId", None)
    return json.dumps(members).encode()


def altered(path: str, body: bytes) -> bytes:
    """Answer as another server might."""
    body = body.replace(b'"gateway.', b'"glsErr.').replace(b'"VERSION_TOO_HIGH"', b'"7"')
    try:
        members: Any = json.loads(body)
    except ValueError:
        return body
    if isinstance(members, dict):
        if members.get("statusList") == []:
            del members["statusList"]
        if path.endswith("/health"):
            del members["LLS"]["database"]
    return json.dumps(members).encode()


if __name__ == "__main__":
    url = urlsplit(sys.argv[1])
    Proxy.upstream = (url.hostname or "", url.port or 80)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
