"""A connection that is over leaves nothing behind that only the collector of cycles would find.

The collector comes seldom (cli/worker.py, for the sake of requests, which leave no cycles): what
connections left would add up, by the thousand, to hundreds of megabytes. Source: RELIABILITY 1 (I6)
and 4 row 16.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import h2.connection
import h11
import pytest

from gateway.web.codecs import Codecs, Http1, Http2
from tests.web.doors import eventually
from tests.web.places import ASK, LAST, Slow, at
from tests.web.servers import Standing

MANY = 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
TWO = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
SAID = {
    "nothing": b"",
    "half a head": b"GET /x HTTP/1.1\r\nHost",
    "a request": ASK,
    "a last request": LAST,
    "half a body": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    "no HTTP": b"garbage\r\n\r\n",
    "two lengths": TWO,
    "the beginning of HTTP/2": PREFACE,
}
SENT_AWAY = ("a last request", "half a body", "no HTTP", "two lengths")
KINDS = (Codecs, Http1, Http2, h11.Connection, h2.connection.H2Connection)


@pytest.fixture
def uncollected() -> Any:
    """Have nobody look for cycles meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("said", SAID)
@pytest.mark.usefixtures("uncollected")
def test_what_a_connection_was_made_of_is_gone_with_it(said: str) -> None:
    before = _kept()

    async def story(server: Standing, app: Slow) -> None:
        writers = []
        for _ in range(MANY):
            _, writer = await server.connect()
            writer.write(SAID[said])
            writers.append(writer)

        async def met() -> bool:
            return _kept() >= before + MANY

        async def gone() -> bool:
            return _kept() <= before

        if said not in SENT_AWAY:
            await eventually(met)
        else:
            await asyncio.sleep(0)
        for writer in writers:
            writer.transport.abort()
        await eventually(gone)

    at(story)


def _kept() -> int:
    return sum(isinstance(each, KINDS) for each in gc.get_objects())
