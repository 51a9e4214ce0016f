"""The lane at levels that wait: what follows a pipeline, and who is told when it is not enough."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError, TryAgainError

from gateway.core.calls import Verdict
from gateway.store.durability import wait_for
from tests.store import lane_bench
from tests.store.lane_bench import refusal
from tests.store.lane_nodes import Lost, Stores, asked_of, job, play, units_of

REPLICAS = wait_for("replica", 2)
READ_ONLY_WAIT = ResponseError("WAIT cannot be used with replica instances.")


def test_one_wait_follows_all_calls_of_a_pipeline() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(wait=REPLICAS)
        jobs = [job(number) for number in (0, 1, 2)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        assert stores.node("a").pipelines == [["SCRIPT", *["EVALSHA"] * 3, "WAIT"]]
        await lane.close()

    play(story())


@pytest.mark.parametrize("told", [1, 0, READ_ONLY_WAIT], ids=str)
def test_a_level_not_reached_is_told_to_those_who_were_applied(told: object) -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(wait=REPLICAS)
        again = job(0)
        assert (await lane.submit(again)).verdict is Verdict.DONE
        stores.node("a").waits.append(told)
        stores.node("a").fates.extend([Verdict.MISMATCH, TryAgainError("on its way")])
        jobs = [job(0), job(1), job(2), again]
        other, held, applied = lane.submit_all(jobs[:3])
        assert (await other).verdict is Verdict.MISMATCH
        assert await refusal(applied) == "applied_not_durable"
        assert units_of(await held) == asked_of(jobs[1])
        stores.node("a").waits.append(told)
        assert await refusal(lane.submit(again)) == "applied_not_durable"
        reply = await lane.submit(jobs[2])
        assert (reply.verdict, units_of(reply)) == (Verdict.REPLAYED, asked_of(jobs[2]))
        assert stores.applied[2] == [jobs[2].dedupe_id]
        await lane.close()

    play(story())


def test_of_two_waits_the_last_one_decides() -> None:
    async def story() -> None:
        stores = Stores("a")
        node, lane = stores.node("a"), stores.lane(wait=wait_for("replica_fsync", 2))
        node.waits.extend([0, [1, 2]])
        one, two = job(), job()
        assert units_of(await lane.submit(one)) == asked_of(one)
        node.waits.extend([2, [1, 1]])
        assert await refusal(lane.submit(two)) == "applied_not_durable"
        assert node.pipelines[1] == ["EVALSHA", "WAIT", "WAITAOF"]
        assert node.waited_ms == [200, 600] * 2
        await lane.close()

    play(story())


def test_who_was_applied_and_lost_the_connection_while_waiting_goes_again() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(wait=REPLICAS, deadline_s=1.0)
        stores.node("a").waits.append(StoreConnectionError("closed"))
        jobs = [job(0), job(1)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [reply.verdict for reply in replies] == [Verdict.REPLAYED] * 2
        assert (stores.node("a").connections, len(stores.applied[0])) == (2, 1)

        stores.node("a").waits.extend([StoreConnectionError("closed")] * 50)
        assert await refusal(lane.submit(job(0))) == "unknown"
        await lane.close()

    play(story())


@pytest.mark.parametrize(("deadline_s", "at_most_ms"), [(2.0, 800), (0.1, 80)])
def test_a_wait_ends_well_before_the_deadline(deadline_s: float, at_most_ms: int) -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(wait=REPLICAS, deadline_s=deadline_s)
        await lane.submit(job(0))
        assert stores.node("a").waited_ms == [at_most_ms]
        stores.node("a").fates.append(Lost(applied=True))
        await lane.submit(job(0))
        first, again = stores.node("a").waited_ms
        assert again in (first, first - 8)  # 10 ms later, and no more than 800
        await lane.close()

    play(story())


def test_a_call_that_only_replays_writes_all_the_same(tmp_path: Path) -> None:
    """WAIT and WAITAOF speak for what their connection wrote, and for nothing if it did not."""

    async def scene(bench: lane_bench.Bench) -> None:
        async def offset() -> int:
            info = await bench.store.client.info("replication")
            return int(info["master_repl_offset"])

        lane = bench.store.lane
        await lane.submit(bench.job(5, name="five"))
        for _ in range(3):
            before = await offset()
            assert await offset() == before  # to ask for it moves nothing
            reply = await lane.submit(bench.job(5, name="five"))
            assert (reply.verdict, lane_bench.units_of(reply)) == (Verdict.REPLAYED, 5)
            assert await offset() > before
        assert await bench.field("acked|CALLS") == 5

    lane_bench.play(tmp_path, scene)
