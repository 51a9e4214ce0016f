"""A made-up licence server for tests of `conformance`, and runs of the suite against it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.conformity.site import Site
from gateway.cli.conformity.suite import Verdict, perform
from gateway.cli.conformity.wire import Wire, new_client
from gateway.cli.request import find_target
from gateway.core.keys import generate, private_pem

KEY = generate("RS256")
TOLD = ("seats", "units")


class Kiosk:
    """A small licence server: `seats` are held, `units` add up, everything else is unknown.

    It lets everybody in and remembers no id. `interrupt_at` is the number of the access request
    that ends in Ctrl-C after it was done.
    """

    def __init__(self) -> None:
        self.left = {"seats": 5, "units": 1_000}
        self.held: Counter[str] = Counter()
        self.seen: list[tuple[str, str, Any]] = []
        self.interrupt_at = 0
        self.granting = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = self.read(request.content)
        self.seen.append((request.method, request.url.path, body))
        endpoint = request.url.path.rpartition("/")[2]
        if not endpoint.endswith("_request"):
            return httpx.Response(404, json={"key": "x.no", "message": "no", "arguments": []})
        try:
            return self.served(endpoint, body)
        except (AttributeError, LookupError, TypeError):
            return httpx.Response(400, json={"key": "x.bad", "message": "bad", "arguments": []})

    def served(self, endpoint: str, body: Any) -> httpx.Response:
        host = (body.get("hostId") or {}).get("value", "")
        wants = [each for each in body.get("features") or () if each["name"] in self.left]
        unknown = [each for each in body.get("features") or () if each["name"] not in self.left]
        if endpoint == "preview_request":
            counts = {name: self.left[name] + self.own(host, name) for name in self.left}
            named = [each["name"] for each in wants] if body.get("features") else list(self.left)
            return self.answer(body, {name: counts[name] for name in named}, unknown)
        granted = self.granted(host, body, wants) if not unknown else {}
        self.interrupt_at -= 1
        if self.interrupt_at == 0:
            raise KeyboardInterrupt
        return self.answer(body, granted, unknown)

    def read(self, content: bytes) -> Any:
        try:
            return json.loads(content or b"null")
        except (ValueError, RecursionError):
            return None

    def own(self, host: str, name: str) -> int:
        return self.held[host] if name == "seats" else 0

    def granted(self, host: str, body: Any, wants: list[Any]) -> dict[str, int]:
        if not body.get("incremental"):
            self.left["seats"] += self.held.pop(host, 0)
        granted: dict[str, int] = {}
        for want in wants:
            name, count = want["name"], want.get("count", 1)
            if type(count) is not int or not self.granting or not 0 <= count <= self.left[name]:
                continue
            self.left[name] -= count
            if name == "seats":
                self.held[host] += count
            else:
                granted[name] = granted.get(name, 0) + count
        if self.held[host]:
            granted["seats"] = self.held[host]
        return granted

    def answer(self, body: Any, counts: dict[str, int], unknown: list[Any]) -> httpx.Response:
        features = [
            {"name": name, "version": "1.0", "count": count, "maxCount": count, "renewInterval": 0}
            for name, count in counts.items()
        ]
        status = [
            {"name": each["name"], "version": "0", "code": "7", "message": "no"} for each in unknown
        ]
        echo = {"requestHostId": body.get("hostId"), "features": features, "statusList": status}
        return httpx.Response(200, json=echo)

    def asked(self) -> Iterator[tuple[Any, Any]]:
        """Give each feature that an access request named, with the count."""
        for _, path, body in self.seen:
            features = body.get("features") if isinstance(body, dict) else None
            if path.endswith("access_request") and isinstance(features, list):
                for each in features:
                    yield each["name"], each.get("count", 1)


def site_of(kiosk: Callable[[httpx.Request], httpx.Response], *told: str) -> Site:
    target = find_target("http://kiosk", "I")
    return Site(wire_to(kiosk), target, "I", KEY, told=told)


def wire_to(kiosk: Callable[[httpx.Request], httpx.Response]) -> Wire:
    def streamed(request: httpx.Request) -> httpx.Response:
        # As a network gives it: an answer that was read already cannot be read raw.
        said = kiosk(request)
        return httpx.Response(said.status_code, headers=said.headers, content=iter([said.content]))

    return Wire(new_client(httpx.MockTransport(streamed)))


def every_verdict(site: Site) -> dict[str, Verdict]:
    found = perform(site, None, lambda _: None)
    return {verdict.id: verdict for _, verdicts in found for verdict in verdicts}


@contextmanager
def listening(answer: Callable[[httpx.Request], httpx.Response]) -> Iterator[str]:
    """Serve a made-up server on loopback; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        wbufsize = 65_536

        def handle_it(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            response = answer(httpx.Request(self.command, f"http://k{self.path}", content=content))
            self.send_response(response.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_it

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def command(directory: Path, *arguments: str, given: str = "") -> Result:
    key = directory / "private.pem"
    key.write_bytes(private_pem(KEY))
    typed = ["conformance", *arguments, "--instance", "I", "--key", str(key)]
    return CliRunner().invoke(main, typed, input=given)
