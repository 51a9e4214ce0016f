"""Our fake LicenseSpring cloud: License API v4 on a real socket, misbehaving by plan.

    python -m tests.upstream.cloud_server --dir DIR [--port P]

Written from protocols/licensespring.md 3, and sharing no code with what it tests: it parses and
checks the Authorization itself, signs answers with its own RSA key. Its books are in DIR
(cloud_books.py). `settings.json`: api_key, shared_key, key_file, good_s (how old a Date may be).
`plan.json`: what goes wrong, looked at for each call. `clock` holds the time in ms where a test
makes it. Prints `ready PORT`. It may be killed at any moment.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

if not __package__:  # run by its path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from tests.upstream.cloud_books import Books, Counted, Refused

BODY_BYTES_MAX = 2**20
CALLS = {
    "/api/v4/activate_license": "activate",
    "/api/v4/check_license": "check",
    "/api/v4/add_consumption": "add",
    "/api/v4/add_feature_consumption": "add",
}
# Faults by name: those that end in " applied" count the call all the same, before they happen.
STATUSES = {"500": 500, "502": 502, "429": 429, "413": 413, "422": 422, "401": 401, "302": 302}
_PART = re.compile(r'\s*([A-Za-z-]+)\s*=\s*"([^"]*)"\s*(?:,|\Z)')


@dataclass
class Plan:
    """What goes wrong, by call: the n-th gets the n-th fault of its script, later ones one drawn
    from `mix`, weights by name ("" is none). `lag_s` is how late a "lag" is worked upon.
    """

    serial: int = 0
    script: Mapping[str, list[str]] = field(default_factory=dict)
    mix: Mapping[str, int] = field(default_factory=dict)  # of adds
    seed: int = 0
    lag_s: float = 0.2

    def fault(self, call: str, number: int) -> str:
        script = self.script.get(call, [])
        if number < len(script):
            return script[number]
        if call != "add" or not self.mix:
            return ""
        dice = random.Random(f"{self.seed}/{number}")  # noqa: S311 (a plan is to be repeatable)
        return dice.choices(list(self.mix), list(self.mix.values()))[0]


@dataclass
class Call:
    """A call read whole; header names in lower case."""

    name: str
    path: str
    headers: Mapping[str, str]
    asked: dict[str, Any]


class CloudServer:
    """Answers calls, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.books = Books(directory)
        self.settings = json.loads((directory / "settings.json").read_bytes())
        pem = Path(self.settings["key_file"]).read_bytes()
        self.key: Any = serialization.load_pem_private_key(pem, password=None)
        self.calls: list[tuple[str, str, str]] = []  # name, fault, what was answered
        self.refused_dates = 0
        self.busy = 0
        self.resume = asyncio.Event()
        self.lagging: list[tuple[asyncio.TimerHandle, Call]] = []  # calls that are on their way
        self._plan, self._mark = Plan(), (0, 0)
        self._numbers: Counter[str] = Counter()

    def now_ms(self) -> int:
        file = self.directory / "clock"
        return int(file.read_text()) if file.exists() else time.time_ns() // 1_000_000

    def plan(self) -> Plan:
        file = self.directory / "plan.json"
        if file.exists():
            found = file.stat()
            mark = (found.st_ino, found.st_mtime_ns)
            if mark != self._mark:
                self._plan, self._mark = Plan(**json.loads(file.read_bytes())), mark
                self._numbers.clear()
        return self._plan

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection until it ends, or a fault ends it."""
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        call = await _read(reader)
        self.busy += 1
        try:
            return await self._answer(call, writer)
        finally:
            self.busy -= 1

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        plan = self.plan()
        fault = self._fault(plan, call)
        if fault == "lag":  # on its way for long; whoever sent it has given up by now
            loop = asyncio.get_running_loop()
            self.lagging.append((loop.call_later(plan.lag_s, self._judge, call, fault), call))
            await self._silent()
            return False
        if not fault or fault.endswith(" applied"):
            status, headers, body = self._judge(call, fault)
        else:
            status, headers, body = 0, {}, b""
            self.calls.append((call.name, fault, ""))
        kind = fault.removesuffix(" applied")
        if kind in ("hang", "close"):
            if kind == "hang":
                await self._silent()
            return False
        if kind == "garbage":
            status, headers, body = 200, {}, b"<html>please log in"
        elif kind == "forged":  # by somebody in between
            status, body = 200, b'{"id":77,"total_consumptions":7}'
            headers = {"LicenseSignature": base64.b64encode(b"\0" * 256).decode()}
        elif kind == "wrong signature":
            headers = {"LicenseSignature": base64.b64encode(b"\0" * 256).decode()}
        elif kind.startswith("code "):
            status, headers, body = 400, {}, _problem(400, kind.removeprefix("code "), "by plan")
        elif kind in STATUSES:
            status, headers, body = STATUSES[kind], {"Retry-After": "1"}, b"by plan"
            if kind == "302":
                headers = {"Location": "/elsewhere"}
        dated = {} if kind == "undated" else {"Date": self._date()}
        text = _render(status, {**headers, **dated}, body)
        if kind == "half":
            text = text[: len(text) - 5]
        writer.write(text)
        await writer.drain()
        return kind != "half"

    def arrive(self) -> None:
        """Let what lags arrive now, and not when its time has come."""
        now_s = asyncio.get_running_loop().time()
        for handle, call in self.lagging:
            if handle.when() > now_s:
                handle.cancel()
                self._judge(call, "lag")
        self.lagging.clear()

    def _fault(self, plan: Plan, call: Call) -> str:
        """Draw what goes wrong, and note it for whoever counts."""
        fault = plan.fault(call.name, self._numbers[call.name])
        self._numbers[call.name] += 1
        if fault:
            with (self.directory / "faults").open("a") as file:
                file.write(f"{fault}\n")
        return fault

    async def _silent(self) -> None:
        self.busy -= 1  # time may pass meanwhile
        try:
            await self.resume.wait()
        finally:
            self.busy += 1

    def _judge(self, call: Call, fault: str) -> tuple[int, dict[str, str], bytes]:
        try:
            self._authorize(call.headers)
            body = json.dumps(self._do(call), separators=(",", ":")).encode()
        except Refused as refused:
            self.calls.append((call.name, fault, refused.code))
            self.refused_dates += refused.code == "date_header_diff"
            return refused.status, {}, _problem(refused.status, refused.code, refused.message)
        self.calls.append((call.name, fault, "ok"))
        signature = self.key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        return 200, {"LicenseSignature": base64.b64encode(signature).decode()}, body

    def _do(self, call: Call) -> dict[str, Any]:
        now_ms = self.now_ms()
        if call.name == "activate":
            licence = self.books.known(call.asked)
            hardware_id = call.asked["hardware_id"]
            self.books.count(Counted("activate", licence["key"], "", 0, hardware_id, now_ms))
            return self.books.shown(licence, now_ms)
        if call.name == "check":
            return self.books.shown(self.books.licence(call.asked), now_ms)
        if call.name == "add":
            wants_feature = call.path.endswith("feature_consumption")
            if wants_feature != ("feature" in call.asked):
                raise Refused("validation_error", "feature")
            if call.asked.get("event") not in (None, ["offline_floating_consumptions_sync"]):
                raise Refused("validation_error", "event")
            return self.books.add(call.asked, call.asked.get("feature", ""), now_ms)
        raise Refused("not_found", status=404)

    def _authorize(self, headers: Mapping[str, str]) -> None:
        if "date" not in headers or "authorization" not in headers:
            raise Refused("missing_headers")
        parts = {name.lower(): text for name, text in _PART.findall(headers["authorization"])}
        if parts.keys() < {"algorithm", "headers", "signature", "apikey"}:
            raise Refused("authorization_missing_params")
        if parts["algorithm"] != "hmac-sha256" or parts["headers"] != "date":
            raise Refused("authorization_invalid_headers")
        off_s = abs(parsedate_to_datetime(headers["date"]).timestamp() - self.now_ms() / 1_000)
        if off_s > self.settings.get("good_s", 900):
            raise Refused("date_header_diff")
        if parts["apikey"] != self.settings["api_key"]:
            raise Refused("invalid_api_key")
        said = f"licenseSpring\ndate: {headers['date']}".encode()
        digest = hmac.new(self.settings["shared_key"].encode(), said, hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(digest).decode(), parts["signature"]):
            raise Refused("signature_mismatch")

    def _date(self) -> str:
        return formatdate(self.now_ms() // 1_000, usegmt=True)


async def _read(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if length > BODY_BYTES_MAX:
        raise ConnectionError("body over the bound")
    body = await reader.readexactly(length)
    split = urlsplit(target)
    asked = dict(parse_qsl(split.query)) if method == "GET" else json.loads(body or b"{}")
    right = method == ("GET" if split.path.endswith("check_license") else "POST")
    return Call(CALLS.get(split.path, "") if right else "", split.path, headers, asked)


def _problem(status: int, code: str, message: str) -> bytes:
    return json.dumps({"status": status, "code": code, "message": message}).encode()


def _render(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def run(directory: Path, port: int) -> None:
    """Serve on the loopback until the process is ended."""
    server = CloudServer(directory)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
    print("ready", listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await listening.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="a LicenseSpring cloud that misbehaves by plan")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    words = parser.parse_args()
    asyncio.run(run(words.dir, words.port))


if __name__ == "__main__":
    main()
