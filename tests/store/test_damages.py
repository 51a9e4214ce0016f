"""What of a read that failed tells of what is kept, and what of the store alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.core.errors import Unavailable
from gateway.store.damages import is_damage
from gateway.store.durable import answered
from tests.faults.scene import until
from tests.faults.store_troubles import BUSY_MS, busy
from tests.stores.servers import Server


def test_what_cannot_be_decoded_or_is_of_another_type_is_damaged() -> None:
    assert is_damage(msgspec.DecodeError("truncated"))
    assert is_damage(ResponseError("WRONGTYPE Operation against a key holding the wrong kind"))
    assert not is_damage(Unavailable("The catalogue changes too fast to follow", "not_applied"))
    assert not is_damage(ConnectionError("reset"))


@pytest.mark.parametrize("word", ["BUSY", "MISCONF", "NOREPLICAS"])
def test_a_store_that_refuses_whatever_it_is_asked_says_nothing_of_it(word: str) -> None:
    assert not is_damage(ResponseError(f"{word} is the state of the store"))


def test_a_busy_store_is_not_taken_for_damage_whichever_way_it_is_asked(tmp_path: Path) -> None:
    async def story(store: Server) -> None:
        async def refusal(*, pipelined: bool) -> Unavailable | None:
            async with Redis.from_url(store.url) as client:
                pipeline = client.pipeline(transaction=False)
                pipeline.hlen("books")
                try:
                    await answered(pipeline.execute() if pipelined else client.hlen("books"))
                except Unavailable as error:
                    return error
            return None

        async with busy(store):
            await until(lambda: not store.try_ask("PING"))
            for pipelined in (True, False):
                refused = await refusal(pipelined=pipelined)
                assert refused
                assert "BUSY" in str(refused.__cause__)
                assert refused.outcome == "not_applied"
                assert not is_damage(refused)
        assert await refusal(pipelined=True) is None

    with Server(tmp_path / "store", busy_reply_threshold=BUSY_MS) as store:
        asyncio.run(story(store))
