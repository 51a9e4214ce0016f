"""The lane when time runs out: who hears it, and that it goes on for those who have time left."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.exceptions import TryAgainError

from gateway.core.calls import Verdict
from gateway.core.errors import Unavailable
from gateway.store.durability import NO_WAIT
from gateway.store.frames import StoreClock
from gateway.store.pipe import Pipe
from gateway.store.scripts import Script
from gateway.store.server import connection_options
from tests.store.lane_bench import eventually, refusal
from tests.store.lane_nodes import Lost, Slow, Stores, asked_of, job, play, units_of

WAY_S = 0.04  # there and back: longer than who is sent last has to the deadline


@pytest.mark.parametrize("away_s", [2.5, 5.0])
def test_after_an_outage_everybody_who_comes_is_answered_though_many_waited_long(
    away_s: float,
) -> None:
    """Were a connection or a pipeline given up with the first deadline, none would ever be done:
    there is always one whose time is about to end."""

    async def story() -> None:
        stores = Stores("a")
        node, lane, loop = stores.node("a"), stores.lane(), asyncio.get_running_loop()
        await lane.submit(job())
        node.latency_s, node.up = WAY_S, False
        node.fates.append(Lost(applied=False))
        back_s = loop.time() + away_s
        late: list[float] = []

        false = 0

        async def client() -> None:
            nonlocal false
            one, begun_s = job(), loop.time()
            try:
                assert units_of(await lane.submit(one)) == asked_of(one)
            except Unavailable as error:
                late.append(begun_s)
                false += error.outcome == "not_applied" and one.dedupe_id in stores.applied[0]
            assert loop.time() - begun_s <= lane.deadline_s + 0.02

        async with asyncio.TaskGroup() as clients:
            while loop.time() < back_s + 4.0:
                node.up = loop.time() >= back_s
                clients.create_task(client())
                await asyncio.sleep(0.005)
        # It was looked for every 0.2 s, and who waited for longer than that was lost with it.
        assert (max(late) < back_s - lane.deadline_s + 0.5, false) == (True, 0)
        await lane.close()

    play(story())


def test_who_runs_out_of_time_while_it_is_connected_is_not_sent_after_all() -> None:
    async def story() -> None:
        stores = Stores("a")
        stores.node("a").latency_s = 0.15  # the greeting comes after the first one's deadline
        lane = stores.lane(deadline_s=0.1)
        jobs = [job(0), job(0)]
        late = lane.submit(jobs[0])
        lane.deadline_s = 1.0
        in_time = lane.submit(jobs[1])
        assert await refusal(late) == "not_applied"
        assert units_of(await in_time) == asked_of(jobs[1])
        assert stores.applied[0] == [jobs[1].dedupe_id]
        await lane.close()

    play(story())


def test_who_runs_out_of_time_under_way_hears_it_then_and_the_others_their_answers() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        stores.node("a").fates.extend([TryAgainError("on its way")] * 20)
        jobs = [job(0), job(0)]
        begun_s = loop.time()
        first = lane.submit(jobs[0])
        await asyncio.sleep(0.8)  # it was refused at 0.71, and is held until 0.91
        stores.node("a").fates.clear()
        stores.node("a").fates.append(Slow(0.3))
        second = lane.submit(jobs[1])
        assert await refusal(first) == "unknown"
        assert loop.time() - begun_s == pytest.approx(1.0)
        assert not second.done()
        assert units_of(await second) == asked_of(jobs[1])
        assert loop.time() - begun_s == pytest.approx(1.21)
        assert stores.applied[0] == [each.dedupe_id for each in jobs]
        assert stores.node("a").connections == 1
        await lane.close()

    play(story())


def test_who_runs_out_of_time_before_it_is_sent_was_not_applied() -> None:
    async def story() -> None:
        stores = Stores("a")
        node, lane, loop = stores.node("a"), stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        node.latency_s = 3.0  # the connection is made, and says nothing
        begun_s = loop.time()
        first = lane.submit(job())
        await asyncio.sleep(0.5)
        second = lane.submit(job())
        assert [await refusal(first), loop.time() - begun_s] == ["not_applied", pytest.approx(1.0)]
        assert [await refusal(second), loop.time() - begun_s] == [
            "not_applied",
            pytest.approx(1.5, abs=0.02),
        ]
        assert (lane.depth, node.calls) == (0, [])
        await lane.close()

    play(story())


def test_what_came_back_too_late_is_in_nobodys_way() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(deadline_s=1.0, queue_max=3)
        stores.node("a").fates.append(Slow(1.5))
        futures = lane.submit_all([job() for _ in range(3)])
        assert {await refusal(each) for each in futures} == {"unknown"}
        await eventually(lambda: not lane._lanes["a"].pipe.is_open)
        assert (lane.depth, lane.room) == (0, 3)
        jobs = [job() for _ in range(3)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        await lane.close()

    play(story())


@pytest.mark.parametrize("applied", [True, False])
def test_a_catalogue_that_changed_behind_a_lost_attempt_leaves_it_unknown(applied: bool) -> None:
    """Resolved anew and refused, it would be said not to be applied, though it may have been."""

    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane()
        stores.node("a").fates.extend([Lost(applied=applied), Verdict.STALE])
        one = job()
        with pytest.raises(Unavailable, match="catalogue") as told:
            await lane.submit(one)
        assert told.value.outcome == "unknown"
        assert len(stores.applied[0]) == applied
        stores.node("a").fates.append(Verdict.AGAIN)
        again = await lane.submit(one)
        assert again.verdict is (Verdict.REPLAYED if applied else Verdict.DONE)
        assert stores.applied[0] == [one.dedupe_id]
        await lane.close()

    play(story())


def test_a_preview_behind_a_lost_attempt_is_resolved_anew() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane()
        stores.node("a").fates.extend([Lost(applied=False), Verdict.STALE])
        preview = job()
        preview.dedupe_id = ""
        assert (await lane.submit(preview)).verdict is Verdict.STALE
        await lane.close()

    play(story())


def test_who_has_no_time_left_for_a_call_is_not_sent() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, node = stores.lane(deadline_s=0.92), stores.node("a")
        node.fates.extend([TryAgainError("on its way")] * 8)  # the last at 0.71: held until 0.91
        assert await refusal(lane.submit(job())) == "not_applied"
        assert (len(node.calls), stores.applied[0]) == (8, [])
        await lane.close()

    play(story())


def test_what_is_given_up_half_sent_is_not_sent_to_its_end_later(tmp_path: Path) -> None:
    path, size = str(tmp_path / "s"), 8_000_000
    got = bytearray()

    async def story() -> None:
        may_read, ended = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"TIME\r\n")
            writer.write(b"*2\r\n$1\r\n1\r\n$1\r\n0\r\n")
            await may_read.wait()
            while portion := await reader.read(1 << 20):
                got.extend(portion)
            writer.close()
            ended.set()

        options: dict[str, Any] = connection_options() | {"driver_info": None, "path": path}
        async with await asyncio.start_unix_server(serve, path):
            connect = partial(UnixDomainSocketConnection, **options)
            pipe = Pipe(Script("apply", "return 1"), connect, StoreClock(), NO_WAIT)
            loop = asyncio.get_running_loop()
            await pipe.open(loop.time() + 60.0)
            heard = await pipe.exchange([(["k"], b"x" * size)], loop.time() + 0.05)
            assert isinstance(heard.error, TimeoutError)
            assert (heard.replies, heard.safe, pipe.is_open) == ([], None, False)
            may_read.set()
            await asyncio.wait_for(ended.wait(), 60.0)

    asyncio.run(story())
    assert len(got) < size
