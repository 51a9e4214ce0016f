"""An upstream as a process of its own, which keeps books by id and misbehaves by plan.

    python -m tests.faults.upstream --dir DIR [--port P] [--exact | --forgets]

It speaks two wires: POST /api/1.0/instances/ID/access_request (CMAPI, the id is Idempotency-Key)
and POST /events (CloudEvents batch, source and id of each event). Its books are in DIR (ledger.py),
written before anything is answered, and read again at a start, so that it may be killed at any
moment. The plan is DIR/plan.json (plan.py), looked at for every request; replace it in one step.
`--exact`: like a gateway of ours, it remembers denials too, and shows Gateway-Request-Id.
`--forgets`: like a foreign licence server it tells no repeats, and counts them again.
Prints `ready PORT`. Standard library only; runs by its path too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path

if not __package__:  # run by its path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.ledger import Accepted, Denied, Handled, Ledger
from tests.faults.plan import FAULTS, NOT_APPLIED, Fault, How, Plan, decode_plan, fault_at
from tests.faults.wires import Posting, grant, read_access_request, read_events, refusal

PLAN_FILE = "plan.json"
BODY_BYTES_MAX = 8 * 1024 * 1024
MISMATCH = b'{"key":"gateway.idempotencyMismatch","message":"","arguments":[]}'
_ACCESS = re.compile(r"/api/1\.0/instances/[^/]+/access_request")


@dataclass(frozen=True)
class Request:
    """An HTTP request read whole; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An HTTP answer before it is sent. `applied`: the request was counted just now."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    applied: bool = False


class Upstream:
    """Judges and counts requests, one after the other, and answers as its plan has it."""

    def __init__(self, directory: Path, *, exact: bool, forgets: bool) -> None:
        self.ledger = Ledger(directory)
        self.exact = exact
        self.forgets = forgets
        self._plan_file = directory / PLAN_FILE
        self._plan_mark: tuple[int, int] | None = None
        self._plan = Plan()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends, or a fault ends it."""
        try:
            while await self._handle(await read_request(reader), reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def plan(self) -> Plan:
        """Give the plan as its file has it now."""
        try:
            found = self._plan_file.stat()
        except FileNotFoundError:
            return self._plan
        mark = (found.st_ino, found.st_mtime_ns)
        if mark != self._plan_mark:
            self._plan, self._plan_mark = decode_plan(self._plan_file.read_bytes()), mark
        return self._plan

    async def _handle(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a request; False when the connection is to be ended."""
        plan = self.plan()
        number = self.ledger.next_number(plan.serial)
        name = fault_at(plan, number)
        # From here to the writing in the ledger nothing is awaited: requests have one order.
        fault = FAULTS[name]
        kind, batch, answer = self._decide(plan, fault, request, f"u{plan.serial}-{number}")
        silent = fault.how in (How.HANG, How.CLOSE, How.RESET)
        status = 0 if silent else answer.status
        self.ledger.handle(Handled(plan.serial, number, kind, batch, name, answer.applied, status))
        if fault.how is How.HANG:
            await reader.read()  # until the other side gives up
            return False
        return await _act(fault.how, answer, plan, writer)

    def _decide(
        self, plan: Plan, fault: Fault, request: Request, request_id: str
    ) -> tuple[str, str, Answer]:
        """Give the kind and batch id of a request, and its answer, the fault's if it has one."""
        try:
            posting = _read(request)
        except ValueError as error:
            return "unreadable", "", Answer(HTTPStatus.BAD_REQUEST, str(error).encode())
        if posting is None:
            return "unknown", "", Answer(HTTPStatus.NOT_FOUND)
        self.ledger.saw(posting.arrived)
        answer = self._judge(plan, posting, request) if fault.applies else _not_applied(plan)
        if fault.status:
            answer = _disturbed(fault, answer, plan, posting.kind)
        elif self.exact and posting.kind == "cmapi":
            # A fault that comes from something in between does not look like a gateway of ours.
            answer = replace(answer, headers={**answer.headers, "Gateway-Request-Id": request_id})
        return posting.kind, posting.batch, answer

    def _judge(self, plan: Plan, posting: Posting, request: Request) -> Answer:
        """Say what there would be to answer, and count what is to be counted."""
        if posting.kind == "cmapi" and not _has_token(request):
            return Answer(HTTPStatus.UNAUTHORIZED)
        remembered = None if self.forgets else self._remembered(posting)
        if remembered is not None:
            return remembered
        if len(request.body) > plan.bytes_max:
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if not posting.names.isdisjoint(plan.poison):
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY)
        if posting.asked is None:
            known = self.ledger.accepted.keys() if not self.forgets else set()
            applied = self._count([item for item in posting.items if item.id not in known])
            return Answer(HTTPStatus.NO_CONTENT, applied=applied)
        codes = self._refused(plan, posting)
        if codes:
            body = refusal(posting.asked, codes)
            if self.exact:
                sha256 = posting.items[0].sha256
                self.ledger.deny(Denied(posting.batch, sha256, body.decode()))
            return Answer(HTTPStatus.OK, body)
        again = posting.batch in self.ledger.accepted
        applied = self._count(posting.items)
        return Answer(HTTPStatus.OK, grant(posting.asked, again=again), applied=applied)

    def _remembered(self, posting: Posting) -> Answer | None:
        """Answer a repeated access request; None when it is none. Events are told one by one."""
        if posting.asked is None:
            return None
        item = posting.items[0]
        denied = self.ledger.denied.get(item.id)
        first = self.ledger.accepted.get(item.id) or (denied.sha256 if denied else None)
        if first is None:
            return None
        if first != item.sha256:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, MISMATCH)
        body = denied.answer.encode() if denied else grant(posting.asked, again=True)
        return Answer(HTTPStatus.OK, body, {"Idempotency-Replayed": "true"})

    def _refused(self, plan: Plan, posting: Posting) -> dict[str, str]:
        """Give the features that are not taken, with the code that says why."""
        codes = {}
        for name, units in posting.units.items():
            room = units
            if name in plan.capacity:
                room = max(0, plan.capacity[name] - self.ledger.totals[name])
            if units < 0 and not plan.takes_back:
                codes[name] = "UNDO_WINDOW_CLOSED"
            elif units > room:
                codes[name] = "FEATURE_COUNT_INSUFFICIENT"
        return codes

    def _count(self, items: list[Accepted] | tuple[Accepted, ...]) -> bool:
        known = self.ledger.accepted
        self.ledger.accept(replace(item, again=item.id in known) for item in items)
        return bool(items)


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read a request with a Content-Length; raises what reading raises when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if length > BODY_BYTES_MAX:
        raise ConnectionError("body over the bound")
    return Request(method, path, headers, await reader.readexactly(length))


def _read(request: Request) -> Posting | None:
    """Read what is posted; None for a path or method that is none of ours."""
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if request.method == "POST" and _ACCESS.fullmatch(request.path):
        if media_type != "application/json":
            raise ValueError("media type")
        return read_access_request(request.headers.get("idempotency-key", ""), request.body)
    if request.method == "POST" and request.path == "/events":
        if media_type != "application/cloudevents-batch+json":
            raise ValueError("media type")
        return read_events(request.body)
    return None


def _has_token(request: Request) -> bool:
    return request.headers.get("authorization", "").startswith("Bearer ")


def _disturbed(fault: Fault, answer: Answer, plan: Plan, kind: str) -> Answer:
    """Put the fault's answer in place of the right one."""
    status = fault.status
    if status == HTTPStatus.OK and not answer.applied and kind == "events":
        status = HTTPStatus.BAD_GATEWAY  # any 2xx takes events: it would be a lie
    headers = dict(fault.headers)
    if fault.waits:
        headers["Retry-After"] = str(plan.retry_after_s)
    return Answer(status, fault.body, headers, answer.applied)


def _not_applied(plan: Plan) -> Answer:
    headers = {"Retry-After": str(plan.retry_after_s)}
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, NOT_APPLIED, headers)


async def _act(how: How, answer: Answer, plan: Plan, writer: asyncio.StreamWriter) -> bool:
    """Send the answer, as well as the fault lets it; False when the connection is to be ended."""
    text = _render(answer)
    match how:
        case How.ANSWER:
            writer.write(text)
        case How.LATE:
            await asyncio.sleep(plan.late_s)
            writer.write(text)
        case How.DRIP:
            for byte in text:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(plan.drip_s)
        case How.HALF:
            writer.write(text[: len(text) // 2])
        case How.CLOSE | How.HANG:
            return False
        case How.RESET:
            _reset(writer)
            return False
    await writer.drain()
    return how is not How.HALF


def _render(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {int(answer.status)} X"]
    if answer.status != HTTPStatus.NO_CONTENT:
        lines += ["Content-Type: application/json", f"Content-Length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body


def _reset(writer: asyncio.StreamWriter) -> None:
    # To linger for no time makes the kernel send RST instead of FIN.
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def run(directory: Path, port: int, *, exact: bool, forgets: bool) -> None:
    """Serve on the loopback until the process is ended."""
    upstream = Upstream(directory, exact=exact, forgets=forgets)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", port)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="an upstream that misbehaves by plan")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    memory = parser.add_mutually_exclusive_group()
    memory.add_argument("--exact", action="store_true")
    memory.add_argument("--forgets", action="store_true")
    words = parser.parse_args()
    os.makedirs(words.dir, exist_ok=True)
    asyncio.run(run(words.dir, words.port, exact=words.exact, forgets=words.forgets))


if __name__ == "__main__":
    main()
