"""The lane over nodes that go away or say nothing: who is told what, and when."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import TryAgainError

from gateway.core.errors import Unavailable
from gateway.store.lanes import LATE_S, LEFT_S_MIN
from tests.store.lane_bench import refusal
from tests.store.lane_nodes import Lost, Silent, Slow, Stores, asked_of, job, play, units_of

# Between the clock at the submission and an alarm at the deadline lies arithmetic of floats.
TINY_S = 1e-6


@pytest.mark.parametrize("applied", [True, False])
def test_calls_without_a_reply_go_again_and_those_with_one_are_answered(applied: bool) -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, node = stores.lane(), stores.node("a")
        await lane.submit(job())
        node.fates.extend([Slow(0.0), Lost(applied=applied)])
        jobs = [job(0), job(1), job(2)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        assert node.calls[-2:] == [[jobs[1].dedupe_id], [jobs[2].dedupe_id]]
        assert [stores.applied[1], stores.applied[2]] == [
            [jobs[1].dedupe_id],
            [jobs[2].dedupe_id],
        ]
        assert node.connections == 2
        await lane.close()

    play(story())


def test_who_waits_for_a_silent_node_hears_at_the_deadline_and_nobody_else_waits() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        await asyncio.gather(*lane.submit_all([job(0), job(1)]))
        stores.node("a").fates.extend([Silent()] * 5)
        begun_s = loop.time()
        sent = lane.submit(job(0))
        await asyncio.sleep(0.4)
        behind = lane.submit(job(0))
        others = [job(1) for _ in range(5)]
        for each in others:
            assert units_of(await lane.submit(each)) == asked_of(each)
        assert loop.time() - begun_s < 0.4 + TINY_S
        assert await refusal(sent) == "unknown"
        assert loop.time() - begun_s == pytest.approx(1.0)
        # It was sent when the other was given up, and had no answer either.
        assert await refusal(behind) == "unknown"
        assert 1.4 - LEFT_S_MIN - TINY_S <= loop.time() - begun_s <= 1.4 + LATE_S + TINY_S
        assert len(stores.applied[0]) == 1
        await lane.close()

    play(story())


def test_who_is_held_hears_at_the_deadline_though_the_node_is_silent_to_another() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        fates = stores.node("a").fates
        begun_s = loop.time()
        fates.extend([TryAgainError("on its way")] * 20)
        held = lane.submit(job(1))
        await asyncio.sleep(0.52)  # it was refused at 0.51, and is held until 0.71
        fates.clear()
        fates.append(Silent())
        sent = lane.submit(job(0))
        assert await refusal(held) == "not_applied"
        assert loop.time() - begun_s == pytest.approx(1.0)
        assert not sent.done()
        assert await refusal(sent) == "unknown"
        assert not any(stores.applied.values())
        await lane.close()

    play(story())


def test_a_node_that_is_away_is_tried_until_the_deadline_and_found_when_it_is_back() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        stores.node("a").up = False
        begun_s = loop.time()
        jobs = [job(0), job(1), job(2)]
        away, other, too = lane.submit_all(jobs)
        assert units_of(await other) == asked_of(jobs[1])
        assert loop.time() == begun_s
        assert [await refusal(away), await refusal(too)] == ["not_applied", "not_applied"]
        assert loop.time() - begun_s <= 1.0 + LATE_S
        assert stores.looks > 0
        last = lane.submit(jobs[0])
        await asyncio.sleep(0.5)
        stores.node("a").up = True
        assert units_of(await last) == asked_of(jobs[0])
        assert stores.applied[0] == [jobs[0].dedupe_id]
        await lane.close()

    play(story())


def test_the_queue_of_a_node_that_is_away_is_not_that_of_the_others() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane = stores.lane(queue_max=3, deadline_s=1.0)
        stores.node("a").up = False
        waiting = lane.submit_all([job(0) for _ in range(3)])
        assert (lane.room, lane.depth) == (0, 3)
        with pytest.raises(Unavailable):
            lane.submit(job(2))
        mixed = [job(1), job(2)]
        with pytest.raises(Unavailable):
            lane.submit_all(mixed)
        assert lane.depth == 3
        assert units_of(await lane.submit(mixed[0])) == asked_of(mixed[0])
        assert stores.applied[1] == [mixed[0].dedupe_id]
        assert {await refusal(each) for each in waiting} == {"not_applied"}
        assert lane.room == 3
        await lane.close()

    play(story())


def test_a_cancelled_client_does_not_keep_its_job_from_being_applied() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane()
        stores.node("a").fates.append(Lost(applied=False))
        jobs = [job() for _ in range(3)]
        futures = lane.submit_all(jobs)
        futures[1].cancel()
        assert units_of(await futures[2]) == asked_of(jobs[2])
        assert stores.applied[0] == [each.dedupe_id for each in jobs]
        await lane.close()

    play(story())


def test_a_closing_lane_waits_for_answers_until_their_deadline_and_no_longer() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        stores.node("a").up = False
        jobs = [job(0), job(1)]
        away, other = lane.submit_all(jobs)
        begun_s = loop.time()
        await lane.close()
        assert loop.time() - begun_s <= 1.0 + LATE_S
        assert units_of(other.result()) == asked_of(jobs[1])
        assert await refusal(away) == "not_applied"
        with pytest.raises(Unavailable):
            lane.submit(job(1))
        assert stores.applied[1] == [jobs[1].dedupe_id]

    play(story())
