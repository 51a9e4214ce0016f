"""Overload: who is let in is answered as if there were no crowd, all others at once.

Not by the clock: what is held back by an event tells the order of things, counters who did what.
Source: INTERFACE 2, SEMANTICS 10, RELIABILITY 4 row 16.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import CapturingLogger

from gateway.web import endpoints, refusing
from gateway.web import shedding as shedding_module
from gateway.web.shedding import OPERATIONS, Shedding
from gateway.web.streams import while_wanted
from tests.web.held_apps import Held, story, until

CROWD = 40


class Client:
    """One request, as a server hands it to an app: what is sent of it, and what is answered."""

    def __init__(self, shedding: Shedding, path: str = "/x") -> None:
        self.coming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.takes = asyncio.Event()  # what it is answered
        self.takes.set()
        scope = {"type": "http", "path": path, "method": "POST", "headers": []}
        self.task = asyncio.create_task(shedding(scope, self.coming.get, self._send))

    async def _send(self, message: Message) -> None:
        await self.takes.wait()
        self.sent.append(message)

    def send(self, body: bytes = b"", *, more: bool = False) -> Client:
        self.coming.put_nowait({"type": "http.request", "body": body, "more_body": more})
        return self

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def told(self) -> Any:
        return json.loads(b"".join(each.get("body", b"") for each in self.sent[1:]))


def test_who_is_one_too_many_is_refused_before_anything_is_done_for_him() -> None:
    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=3, present_max=100)
        admitted = [Client(shedding).send(b"{}") for _ in range(3)]
        await until(lambda: held.read == 3)
        crowd = [Client(shedding).send(b"{}") for _ in range(CROWD)]
        await asyncio.gather(*(each.task for each in crowd))
        # All of them have their answer, and none of those who were there before.
        assert {each.status for each in crowd} == {503}
        assert (held.begun, held.answered) == (3, 0)
        for each in crowd:
            assert each.told == {
                "key": "gateway.unavailable",
                "message": "Too many requests are under way",
                "arguments": ["not_applied"],
            }
            assert each.headers["retry-after"] == "1"
            assert each.headers["content-type"] == "application/json"
            assert len(each.headers["gateway-request-id"]) == 22
        # And those who were there are answered without more being done than they ask for.
        held.go.set()
        await asyncio.gather(*(each.task for each in admitted))
        assert [each.status for each in admitted] == [200, 200, 200]
        assert (held.begun, held.answered) == (3, 3)
        again = Client(shedding).send(b"{}")
        await again.task
        assert again.status == 200

    story(told)


def test_clients_of_licensespring_are_refused_in_words_of_their_own() -> None:
    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=1, present_max=100)
        admitted = Client(shedding).send(b"{}")
        await until(lambda: held.read == 1)
        refused = Client(shedding, "/api/v4/register").send(b"{}")
        await refused.task
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.told == {
            "status": 503,
            "code": "unavailable",
            "message": "Too many requests are under way",
        }
        assert held.begun == 1
        held.go.set()
        await admitted.task

    story(told)


def test_a_refusal_does_not_wait_for_the_body() -> None:
    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=1, present_max=100)
        Client(shedding).send(b"{}")
        await until(lambda: held.read == 1)
        refused = Client(shedding)
        await until(lambda: len(refused.sent) == 2)  # all of the answer but its end
        assert refused.status == 503
        assert not refused.task.done()
        refused.send(b"x" * 1_000, more=True).send(b"x")
        await refused.task
        assert refused.sent[-1] == {"type": "http.response.body", "body": b""}
        held.go.set()

    story(told)


def test_who_waits_for_his_client_takes_no_place_from_others() -> None:
    """Slow bodies and answers that nobody takes would otherwise be a way to shut others out."""

    async def told(held: Held) -> None:
        held.go.set()
        shedding = Shedding(held, busy_max=2, present_max=1_000)
        slow = [Client(shedding).send(b"{", more=True) for _ in range(CROWD)]
        await until(lambda: held.begun == CROWD)
        lazy = Client(shedding).send(b"{}")
        lazy.takes.clear()
        await until(lambda: held.answered == 1)
        for _ in range(5):
            swift = Client(shedding).send(b"{}")
            await swift.task
            assert swift.status == 200
        for each in slow:
            each.send(b"}")
            await each.task
            assert each.status == 200
        lazy.takes.set()
        await lazy.task
        assert lazy.status == 200

    story(told)


def test_bodies_that_end_all_at_once_find_no_more_places_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(endpoints, "_log", log)

    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=3, present_max=1_000)
        slow = [Client(shedding).send(b"{", more=True) for _ in range(CROWD)]
        await until(lambda: held.begun == CROWD)
        for each in slow:
            each.send(b"}")
        await until(lambda: sum(each.task.done() for each in slow) == CROWD - 3)
        assert held.read == 3
        refused = [each for each in slow if each.task.done()]
        assert {each.status for each in refused} == {503}
        assert refused[0].told["arguments"] == ["not_applied"]
        assert refused[0].headers["retry-after"] == "1"
        held.go.set()
        await asyncio.gather(*(each.task for each in slow))
        assert sorted(each.status or 0 for each in slow) == [200] * 3 + [503] * (CROWD - 3)
        assert log.calls == []  # not a line for each of a crowd

    story(told)


def test_one_whose_client_left_is_no_refusal() -> None:
    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=1, present_max=100)
        leaving = Client(shedding).send(b"{", more=True)
        await until(lambda: held.begun == 1)
        Client(shedding).send(b"{}")
        await until(lambda: held.read == 1)
        leaving.coming.put_nowait({"type": "http.disconnect"})
        await leaving.task
        assert leaving.sent == []
        held.go.set()

    story(told)


def test_requests_that_are_here_are_bounded_too_with_those_that_wait() -> None:
    """With HTTP/2 a connection brings a hundred: its cap alone is no bound on memory."""

    async def told(held: Held) -> None:
        held.go.set()
        shedding = Shedding(held, busy_max=100, present_max=CROWD)
        slow = [Client(shedding).send(b"{", more=True) for _ in range(CROWD)]
        await until(lambda: held.begun == CROWD)
        late = Client(shedding).send(b"{}")
        await late.task
        assert late.status == 503
        slow[0].send(b"}")
        await slow[0].task
        next_one = Client(shedding).send(b"{}")
        await next_one.task
        assert next_one.status == 200
        for each in slow[1:]:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in slow), return_exceptions=True)
        assert (shedding._requests.busy, shedding._requests.present) == (0, 0)

    story(told)


@pytest.mark.parametrize("path", [*OPERATIONS, "/api/1.0/health", "/api/1.0/instances/I/health"])
def test_operations_have_room_of_their_own(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A process that does its best is not to be killed for being full."""
    monkeypatch.setattr(shedding_module, "OPERATIONS_MAX", 3)

    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=1, present_max=1)
        Client(shedding).send(b"{}")
        await until(lambda: held.read == 1)
        probes = [Client(shedding, path).send() for _ in range(3)]
        await until(lambda: held.read == 4)
        more = Client(shedding, path).send()
        await more.task
        assert more.status == 503
        held.go.set()
        await asyncio.gather(*(each.task for each in probes))
        assert {each.status for each in probes} == {200}

    story(told)


def test_a_crowd_is_told_of_in_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(refusing, "_log", log)
    monkeypatch.setattr(refusing, "TOLD_S", 600.0)

    async def told(held: Held) -> None:
        shedding = Shedding(held, busy_max=1, present_max=1)
        Client(shedding).send(b"{}")
        await until(lambda: held.read == 1)
        for _ in range(CROWD):
            await Client(shedding).send(b"{}").task
        assert [(*each.args, each.kwargs) for each in log.calls] == [
            ("requests_refused", {"count": 1})
        ]
        held.go.set()

    story(told)


def test_a_streamed_answer_is_work_while_it_is_made_and_none_while_it_is_taken() -> None:
    """Beside it is watched whether its client leaves: that alone frees no place, nor a second."""

    async def told(held: Held) -> None:
        async def report(scope: Scope, receive: Receive, send: Send) -> None:
            await held.go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await while_wanted(report, scope, receive, send)

        shedding = Shedding(app, busy_max=1, present_max=100)
        client = Client(shedding).send()
        client.takes.clear()
        room = shedding._requests
        await until(lambda: client.coming.empty())
        assert room.busy == 1
        late = Client(shedding).send()
        await late.task
        assert late.status == 503
        held.go.set()
        await until(lambda: room.busy == 0)
        client.takes.set()
        await client.task
        assert client.status == 200
        assert (room.busy, room.present) == (0, 0)

    story(told)
