"""The lane's ends: what a pipeline may hold, and that holds, pauses and connections end in time."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import TryAgainError

from gateway.core.calls import Verdict
from gateway.core.errors import Unavailable
from gateway.store.durability import wait_for
from gateway.store.groups import CONTEXT_WORK, LATE, PAUSE_S, WORK_MAX
from gateway.store.lane import CALENDARS_MAX
from tests.store.lane_bench import refusal
from tests.store.lane_nodes import CLOCK_MS, Lost, Silent, Stores, asked_of, job, play, units_of

ON_ITS_WAY = TryAgainError("on its way")
WORK = job().work


@pytest.mark.parametrize(
    ("waiting", "sent"),
    [
        ([100, 100, 100], [[100, 100, 50], [50]]),
        # What is left is work of one job, but not of its instance too.
        ([127, 124, 1], [[127, 124], [1]]),
    ],
)
def test_the_calls_of_a_pipeline_are_together_no_more_work_than_one_may_be(
    waiting: list[int], sent: list[list[int]]
) -> None:
    async def story() -> None:
        stores = Stores("a")
        node, lane = stores.node("a"), stores.lane()
        await lane.submit(job())
        node.calls.clear()
        node.pipelines.clear()
        jobs = [job(number) for number, times in enumerate(waiting) for _ in range(times)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        calls = iter(node.calls)
        found = [[len(next(calls)) for _ in commands] for commands in node.pipelines]
        assert found == sent
        works = [sum(CONTEXT_WORK + WORK * times for times in each) for each in found]
        assert max(works) <= WORK_MAX
        await lane.close()

    play(story())


def test_a_hold_begins_small_again_after_an_answer() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, loop = stores.lane(), asyncio.get_running_loop()
        for refusals, held_s in ((6, 63 * PAUSE_S), (1, PAUSE_S)):
            stores.node("a").fates.extend([ON_ITS_WAY] * refusals)
            begun_s = loop.time()
            await lane.submit(job())
            # 10, 20, 40, 80, 160, and then 200 ms.
            assert loop.time() - begun_s == pytest.approx(min(held_s, 51 * PAUSE_S))
        stores.node("a").fates.extend([Silent()] * 3)
        with pytest.raises(Unavailable, match=LATE):  # and nothing of what was the matter before
            await lane.submit(job())
        await lane.close()

    play(story())


def test_a_pause_after_a_loss_begins_small_again_after_an_answer() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, loop = stores.lane(), asyncio.get_running_loop()
        for losses, paused_s in ((5, 31 * PAUSE_S), (1, PAUSE_S)):
            stores.node("a").fates.extend([Lost(applied=False)] * losses)
            begun_s = loop.time()
            await lane.submit(job())
            assert loop.time() - begun_s == pytest.approx(paused_s)
        await lane.close()

    play(story())


def test_a_level_that_was_not_reached_is_asked_of_whoever_is_the_primary_now() -> None:
    async def story() -> None:
        stores = Stores()
        node, lane = stores.node(), stores.lane(wait=wait_for("replica", 2))
        node.waits.append(1)
        assert await refusal(lane.submit(job())) == "applied_not_durable"
        assert node.connections == 1
        await lane.submit(job())
        await lane.submit(job())
        assert node.connections == 2
        await lane.close()

    play(story())


def test_a_refusal_tells_nothing_of_the_pace() -> None:
    async def story() -> None:
        stores = Stores()
        node, lane = stores.node(), stores.lane()
        await lane.submit(job())
        node.latency_s = 0.1
        node.fates.append(ON_ITS_WAY)
        futures = lane.submit_all([job() for _ in range(WORK_MAX)])
        await asyncio.sleep(0.105)
        assert lane.depth == WORK_MAX
        assert lane._lanes[""].ahead_s == 0
        await asyncio.gather(*futures)
        await lane.close()

    play(story())


def test_the_store_s_clock_is_heard_with_every_reply() -> None:
    async def story() -> None:
        stores = Stores()
        lane, loop = stores.lane(), asyncio.get_running_loop()
        await lane.submit(job())
        await asyncio.sleep(60.0)
        lane.clock.hear(0, 0.0)
        await lane.submit(job())
        assert (lane.clock.heard_ms, lane.clock.heard_at_s) == (CLOCK_MS, loop.time())
        await lane.close()

    play(story())


def test_a_calendar_is_made_anew_a_few_times_and_no_more() -> None:
    async def story() -> None:
        stores = Stores()
        node, lane = stores.node(), stores.lane()
        node.fates.extend([Verdict.CALENDAR] * CALENDARS_MAX)
        one = job()
        assert units_of(await lane.submit(one)) == asked_of(one)
        node.fates.extend([Verdict.CALENDAR] * (CALENDARS_MAX + 1))
        two = job()
        with pytest.raises(Unavailable, match="clock") as told:
            await lane.submit(two)
        assert (told.value.outcome, stores.applied[0]) == ("not_applied", [one.dedupe_id])
        await lane.close()

    play(story())


def test_nodes_that_are_lost_together_are_looked_for_once() -> None:
    async def story() -> None:
        stores = Stores("a", "b", "c")
        lane = stores.lane()
        for node in stores.nodes.values():
            node.up = False
        futures = lane.submit_all([job(0), job(1), job(2)])
        await asyncio.sleep(PAUSE_S / 2)
        assert stores.looks == 1
        for node in stores.nodes.values():
            node.up = True
        await asyncio.gather(*futures)
        await lane.close()

    play(story())


def test_a_group_that_moves_while_the_lane_closes_is_served_where_all_was_done() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane = stores.lane()
        await asyncio.gather(*lane.submit_all([job(0), job(1)]))
        stores.owners[1] = "a"
        one = job(1)
        waiting = lane.submit(one)
        await lane.close()
        assert units_of(waiting.result()) == asked_of(one)
        assert stores.applied[1][1:] == [one.dedupe_id]
        assert len(asyncio.all_tasks()) == 1

    play(story())
