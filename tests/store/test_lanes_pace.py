"""The lane over a node that is slow: who is let in, and that those who are do not wait for long."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from itertools import chain

import pytest

from gateway.core.calls import Reply
from gateway.core.errors import Unavailable
from gateway.store.groups import WORK_MAX
from gateway.store.lane import Pace
from gateway.store.lanes import QUEUE_SHARE_MAX
from tests.store.lane_nodes import Stores, asked_of, job, play, units_of

PER_S = 1_000  # jobs that the slow node gets done


def test_what_would_wait_too_long_is_refused_at_once_and_who_is_let_in_is_answered_soon() -> None:
    async def story() -> None:
        stores = Stores()
        stores.node().s_per_job = 1 / PER_S
        lane, loop = stores.lane(deadline_s=2.0), asyncio.get_running_loop()
        answered: list[float] = []
        refused: list[str] = []
        outcomes: set[str] = set()

        async def client() -> None:
            begun_s = loop.time()
            one = job()
            try:
                waiting = lane.submit(one)
            except Unavailable as error:
                outcomes.add(error.outcome)
                refused.append(one.dedupe_id)
                return
            assert units_of(await waiting) == asked_of(one)
            answered.append(loop.time() - begun_s)

        async with asyncio.TaskGroup() as clients:
            for _ in range(8_000):  # twice what the node can do, for four seconds
                clients.create_task(client())
                await asyncio.sleep(0.5 / PER_S)
        full_s = WORK_MAX / 2 / PER_S  # a call takes so long: each job is two lines of work
        assert max(answered) < QUEUE_SHARE_MAX * 2.0 + 3 * full_s
        assert len(answered) > 0.9 * 4 * PER_S
        assert len(refused) > 0.8 * (8_000 - 5 * PER_S)
        assert outcomes == {"not_applied"}
        assert not set(refused).intersection(chain.from_iterable(stores.applied.values()))
        await lane.close()

    play(story())


def test_a_node_that_is_fast_again_is_found_out() -> None:
    async def story() -> None:
        stores = Stores()
        lane = stores.lane(deadline_s=2.0, queue_max=600)

        async def let_in() -> int:
            """Submit jobs while they are let in; give how many were, once all are answered."""
            waiting: list[asyncio.Future[Reply]] = []
            with suppress(Unavailable):
                while len(waiting) < lane.queue_max:
                    waiting.append(lane.submit(job()))
            await asyncio.gather(*waiting, return_exceptions=True)
            return len(waiting)

        stores.node().s_per_job = 0.005
        assert await let_in() == lane.queue_max  # nothing is known of the node
        stores.node().s_per_job = 0.0
        assert 0 < await let_in() < 2 * 200
        await let_in()
        assert await let_in() == lane.queue_max
        await lane.close()

    play(story())


def test_the_pace_is_that_of_full_pipelines_and_of_others_only_when_they_are_faster() -> None:
    pace = Pace()
    pace.learn(1, 1.0, full=False)
    assert pace.per_s == math.inf
    pace.learn(100, 1.0, full=True)
    assert pace.per_s == 100
    pace.learn(1, 1.0, full=False)
    assert pace.per_s == 100
    pace.learn(200, 1.0, full=False)
    assert pace.per_s == pytest.approx(120)
    pace.learn(20, 1.0, full=True)
    assert pace.per_s == pytest.approx(100)
