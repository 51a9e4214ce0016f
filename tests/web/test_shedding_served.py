"""Overload over connections, and of a whole gateway: who is refused, and what that leaves alone.

Source: INTERFACE 2, SEMANTICS 10, RELIABILITY 4 row 16.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import h2.events
import httpx
import pytest

from gateway.service.credentials import Credentials
from gateway.web import bodies
from tests.served_by import under_both
from tests.vectors.served import Served
from tests.web.doors import GOOD, Door, eventually
from tests.web.held_apps import Held, story, until
from tests.web.servers import Http2, run, standing
from tests.web.whole import gateway_standing

CROWD = 40


# Over connections ---------------------------------------------------------------------------------


@under_both
def test_refused_ones_keep_their_connection_and_admitted_ones_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "DRAIN_S", 50.0)  # or a slow client's would be closed

    async def told(held: Held) -> None:
        async with (
            standing(held, LIMITS__LANE_QUEUE="2") as server,
            httpx.AsyncClient(base_url=server.url, timeout=60) as http,
        ):
            admitted = [asyncio.create_task(http.post("/x", content=b"{}")) for _ in range(2)]
            await until(lambda: held.read == 2)
            connections = set()
            for size in (2, 20_000, 2):
                refused = await http.post("/x", content=b"x" * size)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert "connection" not in refused.headers
                connections.add(refused.extensions["network_stream"])
            assert len(connections) == 1
            assert (held.begun, held.answered) == (2, 0)
            held.go.set()
            assert [(await each).status_code for each in admitted] == [200, 200]

    story(told)


def test_refused_and_admitted_ones_share_an_http2_connection() -> None:
    async def told(held: Held) -> None:
        async with standing(held, LIMITS__LANE_QUEUE="2") as server:
            client = Http2(*await server.connect())
            await client.begin()
            admitted = [await client.ask("GET", "/x") for _ in range(2)]
            await until(lambda: held.read == 2)
            for size in (2, 20_000, 2):
                refused = await client.ask("POST", "/x", end=False)
                await client.send(refused, b"x" * size)
                answer = await client.heard(h2.events.ResponseReceived)
                assert answer.stream_id == refused
                assert {(b":status", b"503"), (b"retry-after", b"1")} <= set(answer.headers)
                assert (await client.heard(h2.events.StreamEnded)).stream_id == refused
            assert (held.begun, held.answered) == (2, 0)
            held.go.set()
            ended = [(await client.heard(h2.events.StreamEnded)).stream_id for _ in range(2)]
            assert sorted(ended) == admitted

    story(told)


@under_both
def test_a_refusal_is_heard_by_who_sends_on_and_the_rest_is_bounded_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "DRAIN_S", 0.2)

    async def told(held: Held) -> None:
        async with standing(held, LIMITS__LANE_QUEUE="1") as server:
            _, first = await server.connect()
            first.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            await until(lambda: held.read == 1)
            reader, writer = await server.connect()
            writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 ")
            await reader.read()  # and is over, though the body never comes
            held.go.set()
            writer.close()
            first.close()

    story(told)


# The whole gateway --------------------------------------------------------------------------------


@under_both
def test_a_crowd_before_a_store_that_stands_still_is_refused_unseen(tmp_path: Path) -> None:
    """No signature of a refused one is verified, and nothing of it is counted."""
    judged = 0
    real = Credentials.by_payload

    async def counting(self: Credentials, *args: Any, **more: Any) -> Any:
        nonlocal judged
        judged += 1
        return await real(self, *args, **more)

    async def told(served: Served) -> None:
        door = Door(served)
        await door.put()
        assert (await door.knock(GOOD, credential="signed", claims={"jti": "0"})).status_code == 200
        before, used = judged, await door.used()
        await served.store.client_pause(60_000, all=False)
        admitted = [
            asyncio.create_task(door.knock(GOOD, credential="signed", claims={"jti": f"a{number}"}))
            for number in range(3)
        ]

        async def all_in() -> bool:
            return judged == before + 3

        await eventually(all_in)
        crowd = await asyncio.gather(
            *(
                door.knock(GOOD, credential="signed", claims={"jti": f"c{number}"})
                for number in range(CROWD)
            )
        )
        assert {each.status_code for each in crowd} == {503}
        assert {each.headers["retry-after"] for each in crowd} == {"1"}
        assert crowd[0].json()["arguments"] == ["not_applied"]
        assert not any(each.done() for each in admitted)
        assert judged == before + 3
        assert (await served.http.get("/livez")).status_code == 200
        await served.store.client_unpause()
        assert {(await each).status_code for each in admitted} == {200}
        assert await door.used() == {name: units + 3 for name, units in used.items()}

    async def opened() -> None:
        async with gateway_standing(
            tmp_path, LIMITS__LANE_QUEUE="3", REDIS__DEADLINE_MS="50000"
        ) as (_, served):
            await told(served)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Credentials, "by_payload", counting)
        run(opened())
