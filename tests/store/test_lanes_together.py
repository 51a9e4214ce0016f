"""Many jobs submitted at once: all of them or none, in order, with one deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.core.calls import INCREMENTAL, PARTIAL
from gateway.core.errors import Unavailable
from tests.store.lane_bench import Bench, play, refusal, units_of

GREEDY = INCREMENTAL | PARTIAL


def test_jobs_submitted_together_are_applied_in_their_order(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane = bench.store.lane
        jobs = [bench.job(units, "few", flags=GREEDY) for units in (3, 4, 5, 1)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [3, 4, 3, 0]
        assert lane.submit_all([]) == []

    play(tmp_path, scene)


def test_what_does_not_fit_together_is_not_begun(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy(queue_max=3) as (_, lane):
            assert lane.room == 3
            first = lane.submit(bench.job(5, "few"))
            with pytest.raises(Unavailable) as refused:
                lane.submit_all([bench.job(1, "few") for _ in range(3)])
            assert (refused.value.outcome, lane.depth, lane.room) == ("not_applied", 1, 2)
            rest = lane.submit_all([bench.job(1, "few") for _ in range(2)])
            assert lane.room == 0
            replies = await asyncio.gather(first, *rest)
            assert [units_of(reply) for reply in replies] == [5, 1, 1]
        with pytest.raises(Unavailable):
            lane.submit_all([bench.job(1, "few")])
        assert await bench.field("acked|FEW") == 7

    play(tmp_path, scene)


def test_no_job_is_applied_behind_one_that_ran_out_of_time(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy() as (proxy, lane):
            await lane.submit(bench.job())  # loads the script
            proxy.black_hole, lane.deadline_s = True, 1.0
            waiting = lane.submit_all([bench.job() for _ in range(500)])
            outcomes = [await refusal(each) for each in waiting]
            sent = outcomes.count("unknown")
            assert 0 < sent < 500
            assert outcomes == ["unknown"] * sent + ["not_applied"] * (500 - sent)
            await proxy.held_back.wait()
        assert await bench.field("acked|CALLS") == 1 + sent

    play(tmp_path, scene)
