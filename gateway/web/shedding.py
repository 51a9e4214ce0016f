"""Requests beyond what this process can answer in good time: refused at once, before any work.

Decided here: how many requests are worked on at a time, and how many there are at all; that who
waits for a client, for its body or until it takes its answer, does not count as work, or slow
clients would shut out the others; that a refusal comes before the body is read and a signature
verified; that operations have room of their own, or a crowd would have the process killed as dead.
Not decided here: what the store can do in time (store/lanes.py). Source: INTERFACE 2, SEMANTICS 10.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.meters import Meters
from gateway.protocols import licensespring_problem, problem
from gateway.web.bodies import Crowded
from gateway.web.endpoints import encoded
from gateway.web.exchanges import Exchange
from gateway.web.refusing import Tally
from gateway.web.request_ids import RequestIds

OPERATIONS: Final = ("/livez", "/readyz", "/metrics", "/health")  # how their paths end
OPERATIONS_MAX: Final = 1_024  # requests for operations at a time


class _Room:
    """Requests that are here. `busy_max` of them may be worked on, `present_max` be here at all."""

    __slots__ = ("busy", "busy_max", "present", "present_max")

    def __init__(self, busy_max: int, present_max: int) -> None:
        self.busy = self.present = 0
        self.busy_max, self.present_max = busy_max, present_max

    @property
    def full(self) -> bool:
        return self.busy >= self.busy_max or self.present >= self.present_max


class Shedding:
    """An app that takes as many requests as it can answer, and tells the others to come again.

    `busy_max` requests are worked on at a time. `present_max` may be here, those included that wait
    for their clients: with HTTP/2 a connection brings many.
    """

    def __init__(
        self, app: ASGIApp, *, busy_max: int, present_max: int, meters: Meters | None = None
    ) -> None:
        self._app = app
        self._requests = _Room(busy_max, present_max)
        self._operations = _Room(OPERATIONS_MAX, OPERATIONS_MAX)
        self._ids = RequestIds()
        self._tally = Tally("requests_refused", "gateway_shed_requests_total", meters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        operations = scope["path"].endswith(OPERATIONS)
        room = self._operations if operations else self._requests
        if room.full:
            self._tally.add()
            await self._refuse(scope["path"], Exchange(receive, send).send)
            return
        visit = _Visit(room, self._tally, receive, send)
        room.present += 1
        room.busy += 1
        try:
            await self._app(scope, visit.receive, visit.send)
        finally:
            room.busy -= 1
            room.present -= 1

    async def _refuse(self, path: str, send: Send) -> None:
        if licensespring_problem.is_theirs(path):
            status, headers, body = licensespring_problem.render(Crowded(), path)
        else:
            status, headers, body = problem.render(Crowded())
        headers |= {
            "Content-Length": str(len(body)),
            "Gateway-Request-Id": self._ids.next(),
        }
        await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})
        await send({"type": "http.response.body", "body": body})


class _Visit:
    """A request that was let in: while it waits for its client, its place is free for another."""

    __slots__ = ("_receive", "_room", "_send", "_settled", "_tally", "_waits", "_whole")

    def __init__(self, room: _Room, tally: Tally, receive: Receive, send: Send) -> None:
        self._room, self._tally, self._receive, self._send = room, tally, receive, send
        self._settled = False  # it is being answered: too late for another answer
        self._whole = False  # nothing more comes of it, but that its client leaves
        self._waits = 0  # a streamed one receives and sends at a time, and frees one place

    async def receive(self) -> Message:
        """Receive what its client sends. Raises Crowded when others took its place meanwhile."""
        if self._whole:
            return await self._receive()
        self._wait()
        try:
            message = await self._receive()
        finally:
            self._go_on()
        self._whole = not message.get("more_body", False)
        came = message["type"] == "http.request"  # and did not leave
        room = self._room
        if came and room.busy > room.busy_max and not self._settled:
            self._settled = True
            self._tally.add()
            raise Crowded
        return message

    async def send(self, message: Message) -> None:
        """Send a part of its answer."""
        self._settled = True
        self._wait()
        try:
            await self._send(message)
        finally:
            self._go_on()

    def _wait(self) -> None:
        self._room.busy -= not self._waits
        self._waits += 1

    def _go_on(self) -> None:
        self._waits -= 1
        self._room.busy += not self._waits
