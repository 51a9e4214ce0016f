"""A parent that keeps its own books by batch id and misbehaves on order, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.keyring import KeyRing
from gateway.core.tokens import verify_token

GRANT = {"features": [], "statusList": []}
REFUSAL = {"features": [], "statusList": [{"code": "FEATURE_NOT_FOUND", "name": "sessions"}]}
BASE = "/api/1.0/instances/PARENT"

# What is answered instead of a grant, by fault: applied or not, status, headers, body.
ANSWERS: dict[str, tuple[bool, int, dict[str, str], bytes]] = {
    "500": (False, 500, {}, b""),
    "500 applied": (True, 500, {}, b""),
    "502 applied": (True, 502, {}, b"<html>"),
    "429": (False, 429, {"Retry-After": "7"}, b""),
    "503 not applied": (
        False,
        503,
        {"Retry-After": "1"},
        b'{"key":"gateway.unavailable","message":"","arguments":["not_applied"]}',
    ),
    "503 unknown": (
        True,
        503,
        {"Retry-After": "1"},
        b'{"key":"gateway.unavailable","message":"","arguments":["unknown"]}',
    ),
    "garbage": (False, 200, {}, b"<html>please log in</html>"),
    "garbage applied": (True, 200, {}, b"\x00" * 100),
    "huge applied": (True, 200, {}, b'{"statusList":[],"features":["' + b"x" * 2**21 + b'"]}'),
    "refused": (False, 200, {}, json.dumps(REFUSAL).encode()),
    "400": (False, 400, {}, b""),
    "413": (False, 413, {}, b""),
    "422": (False, 422, {}, b""),
    "401": (False, 401, {}, b""),
    "403": (False, 403, {}, b""),
    "302": (False, 302, {"Location": f"{BASE}/elsewhere"}, b""),
}


@dataclass
class Parent:
    """Answers access requests. `faults` are used up one a request; then everything is granted."""

    ring: KeyRing | None = None  # None: tokens are not looked at
    faults: list[str] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)  # features refused until taken out of here
    poison: set[str] = field(default_factory=set)  # features whose requests get 422
    takes_back: bool = True  # False: negative counts are refused
    ours: bool = False  # answers as a gateway does that remembers outcomes with ids
    posts: list[tuple[str, bytes]] = field(default_factory=list)  # id and body, as they came
    posted_s: list[float] = field(default_factory=list)  # when they came, by `now_s`
    paths: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    applied: dict[str, bytes] = field(default_factory=dict)
    two_faced: list[str] = field(default_factory=list)  # ids that came with two contents
    busy: int = 0
    resume: asyncio.Event = field(default_factory=asyncio.Event)  # ends a "wait"
    now_s: Callable[[], float] = lambda: 0.0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE}"

    @property
    def total(self) -> Counter[str]:
        """What was used by feature, each id once."""
        total: Counter[str] = Counter()
        for body in self.applied.values():
            for feature in json.loads(body)["features"]:
                total[feature["name"]] += feature["count"]
        return total

    @property
    def ids(self) -> list[str]:
        return [batch for batch, _ in self.posts]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.busy += 1
        try:
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            original = dict(line.split(": ", 1) for line in head[1:] if line)
            fault = self.faults.pop(0) if self.faults else ""
            if fault == "close":
                return False
            body = await reader.readexactly(int(headers["content-length"]))
            batch = original["Idempotency-Key"]
            self.paths.append(head[0].split(" ")[1])
            self.posts.append((batch, body))
            self.posted_s.append(self.now_s())
            self.tokens.append(original["Authorization"].removeprefix("Bearer "))
            return await self._answer(fault, batch, body, writer)
        finally:
            self.busy -= 1

    async def _answer(
        self, fault: str, batch: str, body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        applies, status, headers, answer = ANSWERS.get(fault, (True, 200, {}, b""))
        features = json.loads(body)["features"]
        named = [
            each
            for each in features
            if each["name"] in self.unwanted or (each["count"] < 0 and not self.takes_back)
        ]
        if named and not fault:
            code = {"code": "FEATURE_COUNT_INSUFFICIENT"}
            refusal = {"features": [], "statusList": [{**code, **each} for each in named]}
            applies, fault, answer = False, "unwanted", json.dumps(refusal).encode()
        if any(each["name"] in self.poison for each in features) and not fault:
            applies, status, fault = False, 422, "422"
        if self.ours:
            headers = {"Gateway-Request-Id": "r", **headers}
        if not fault and not self._trusts(self.tokens[-1]):
            applies, status = False, 401
        if fault == "hang":
            applies = False
        if applies and self.applied.setdefault(batch, body) != body:
            self.two_faced.append(batch)
        if fault in ("hang", "hang applied", "wait"):
            self.busy -= 1  # time may pass meanwhile
            try:
                await self.resume.wait()
            finally:
                self.busy += 1
        if fault == "drop applied":
            return False
        if status == 200 and fault not in ANSWERS and fault != "unwanted":
            answer = json.dumps(GRANT).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(answer)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join([*lines, "", ""]).encode() + answer
        if fault == "half applied":
            writer.write(text[:-3])
            await writer.drain()
            return False
        writer.write(text)
        await writer.drain()
        return True

    def _trusts(self, token: str) -> bool:
        if self.ring is None:
            return True
        found = verify_token(token, self.ring, now_s=asyncio.get_running_loop().time())
        return found is not None and found.capable


@asynccontextmanager
async def open_parent(ring: KeyRing | None = None) -> AsyncIterator[Parent]:
    """Serve a parent on a free port of the loopback."""
    parent = Parent(ring)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await parent.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    parent.port = server.sockets[0].getsockname()[1]
    try:
        yield parent
    finally:
        parent.resume.set()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
