"""The lane over several nodes: what goes together, whose turn it is, and partitions that move."""

from __future__ import annotations

import asyncio
import os
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ClusterDownError, TryAgainError

from gateway.core.calls import Reply
from gateway.core.errors import Unavailable
from gateway.store.calls import Job
from gateway.store.groups import CONTEXT_WORK, WORK_MAX
from gateway.store.lane import CALLS_MAX
from tests.store.lane_bench import eventually
from tests.store.lane_nodes import (
    PARTITIONS,
    Fate,
    Lost,
    Silent,
    Slow,
    Stores,
    asked_of,
    job,
    play,
    units_of,
)

EXAMPLES = int(os.environ.get("GATEWAY_LANE_EXAMPLES", "150"))


# What goes together ---------------------------------------------------------------------------


def test_partitions_of_a_cluster_have_calls_of_their_own_in_one_pipeline() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane = stores.lane()
        jobs = [job(number) for number in (0, 1, 2, 3, 2, 0)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        assert [len(ids) for ids in stores.node("a").calls] == [2, 2]
        assert [len(ids) for ids in stores.node("b").calls] == [1, 1]
        assert (len(stores.node("a").pipelines), lane.calls) == (1, 4)
        await lane.close()

    play(story())


def test_partitions_of_one_server_share_a_call() -> None:
    async def story() -> None:
        stores = Stores()
        lane = stores.lane()
        jobs = [job(number) for number in (0, 1, 2, 3)]
        replies = await asyncio.gather(*lane.submit_all(jobs))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        assert [len(ids) for ids in stores.node().calls] == [4]
        await lane.close()

    play(story())


def test_a_pipeline_is_bounded_by_its_calls_and_those_left_over_come_first_in_the_next() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane()
        jobs = [job(number % PARTITIONS) for number in range(2 * PARTITIONS)]
        await asyncio.gather(*lane.submit_all(jobs))
        calls = [each.count("EVALSHA") for each in stores.node("a").pipelines]
        assert calls == [CALLS_MAX, PARTITIONS - CALLS_MAX]
        assert all(len(ids) == 2 for ids in stores.node("a").calls)
        await lane.close()

    play(story())


def test_the_work_of_a_pipeline_is_that_of_a_call_and_nobody_waits_for_one_group_only() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane()
        await lane.submit(job(0))
        wide = job(0, feature="WIDE-00").work
        heavy = [job(0) for _ in range(WORK_MAX)]
        light = job(1)
        *_, last = lane.submit_all(heavy)
        other = lane.submit(light)
        assert units_of(await other) == asked_of(light)
        assert not last.done()
        await last
        first, *rest = [len(ids) for ids in stores.node("a").calls[1:]]
        assert first == (WORK_MAX - CONTEXT_WORK) // wide
        assert stores.node("a").calls[2] == [light.dedupe_id]
        assert sum(rest) == WORK_MAX + 1 - first
        await lane.close()

    play(story())


# Who has what ---------------------------------------------------------------------------------


def test_a_partition_that_moved_is_found_with_all_that_waits_in_order() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane = stores.lane()
        await asyncio.gather(*lane.submit_all([job(number) for number in range(4)]))
        stores.owners[0] = "b"
        jobs = [job(0) for _ in range(3)]
        first = lane.submit(jobs[0])
        await eventually(lambda: len(stores.node("a").calls) == 3)
        replies = await asyncio.gather(first, *lane.submit_all(jobs[1:]))
        assert [units_of(reply) for reply in replies] == [asked_of(each) for each in jobs]
        assert stores.applied[0][1:] == [each.dedupe_id for each in jobs]
        assert stores.looks == 1
        await lane.close()

    play(story())


def test_a_partition_does_not_move_while_a_call_of_it_is_under_way() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane, loop = stores.lane(), asyncio.get_running_loop()
        await asyncio.gather(*lane.submit_all([job(number) for number in range(4)]))
        stores.node("a").fates.append(Slow(0.5))
        jobs = [job(0) for _ in range(3)]
        begun_s = loop.time()
        slow = lane.submit(jobs[0])
        await eventually(lambda: len(stores.node("a").calls) == 3)
        behind = lane.submit_all(jobs[1:])
        stores.owners[0] = "b"
        stores.node("b").fates.append(ClusterDownError("look who has what"))
        await lane.submit(job(1))
        assert stores.looks == 1
        assert loop.time() - begun_s < 0.1
        assert not any(each.done() for each in behind)
        await asyncio.gather(slow, *behind)
        assert loop.time() - begun_s == pytest.approx(0.5)
        assert stores.applied[0][1:] == [each.dedupe_id for each in jobs]
        assert stores.node("b").calls[-1] == [each.dedupe_id for each in jobs[1:]]
        await lane.close()

    play(story())


def test_the_lane_of_a_node_that_has_nothing_any_more_ends() -> None:
    async def story() -> None:
        stores = Stores("a", "b")
        lane = stores.lane()
        await asyncio.gather(*lane.submit_all([job(number) for number in range(4)]))
        calls = lane.calls
        stores.owners |= {0: "b", 2: "b"}
        stores.node("a").up = False
        tasks = len(asyncio.all_tasks())
        await asyncio.gather(*lane.submit_all([job(0), job(2)]))
        await eventually(lambda: len(asyncio.all_tasks()) == tasks - 1)
        assert lane.calls == calls + 2
        stores.node("a").up, stores.owners[0] = True, "a"
        await lane.submit(job(0))
        assert len(asyncio.all_tasks()) == tasks
        await lane.close()
        assert len(asyncio.all_tasks()) == 1

    play(story())


def test_what_waits_for_a_node_that_died_goes_to_the_one_in_its_place() -> None:
    async def story() -> None:
        stores = Stores("a", "b", "c")
        lane, loop = stores.lane(), asyncio.get_running_loop()
        await lane.submit(job(0))
        stores.node("a").up = False
        stores.node("a").fates.append(Lost(applied=False))
        jobs = [job(0) for _ in range(5)]
        futures = lane.submit_all(jobs)
        await asyncio.sleep(0.5)
        begun_s = loop.time()
        stores.owners |= dict.fromkeys([0, 3], "c")
        assert [units_of(await each) for each in futures] == [asked_of(each) for each in jobs]
        assert loop.time() - begun_s < 0.25
        assert stores.applied[0][1:] == [each.dedupe_id for each in jobs]
        await lane.close()

    play(story())


# The law --------------------------------------------------------------------------------------

_fates: st.SearchStrategy[Fate] = st.one_of(
    st.just(TryAgainError("on its way")),
    st.just(ClusterDownError("The cluster is down")),
    st.builds(Lost, applied=st.booleans()),
    st.just(Silent()),
    st.builds(Slow, st.sampled_from([0.001, 0.1, 0.4])),
)
_nodes = st.sampled_from(["a", "b", "c"])
_partitions = st.integers(0, 3)
_submission = st.tuples(st.just("submit"), _partitions, st.integers(1, 4))
_event = st.one_of(
    st.tuples(st.just("move"), _partitions, _nodes),
    st.tuples(st.just("fate"), _nodes, _fates),
    st.tuples(st.just("switch"), _nodes, st.booleans()),
    st.tuples(st.just("forget"), _nodes, st.none()),
)
_step = st.tuples(st.one_of(_submission, _event), st.sampled_from([0.0, 0.0, 0.005, 0.015, 0.2]))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(_step, max_size=40))
def test_whatever_happens_a_partition_is_applied_in_the_order_of_submission(
    steps: list[tuple[tuple[str, object, object], float]],
) -> None:
    """Nothing is applied twice or before what came first; every answer is its own; who is told
    `not_applied` was not, and whoever is answered was."""

    async def story() -> None:
        stores = Stores("a", "b", "c")
        for node in stores.nodes.values():
            node.latency_s = 0.01
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        asked: list[tuple[Job, int, asyncio.Future[Reply]]] = []
        for step, then_s in steps:
            match step:
                case ("submit", int() as partition, int() as times):
                    jobs = [job(partition) for _ in range(times)]
                    asked += zip(jobs, repeat(partition), lane.submit_all(jobs), strict=False)
                case ("move", int() as partition, str() as name):
                    stores.owners[partition] = name
                case ("fate", str() as name, fate):
                    stores.node(name).fates.append(fate)
                case ("switch", str() as name, bool() as up):
                    stores.node(name).up = up
                case ("forget", str() as name, None):
                    stores.node(name).knows_script = False
            await asyncio.sleep(then_s)
        begun_s = loop.time()
        await lane.close()
        assert loop.time() - begun_s <= 1.0 + 0.02
        for partition, applied in stores.applied.items():
            order = [one.dedupe_id for one, where, _ in asked if where == partition]
            assert len(set(applied)) == len(applied)
            assert applied == [name for name in order if name in applied]
        for one, partition, future in asked:
            applied_at_all = one.dedupe_id in stores.applied[partition]
            error = future.exception()
            if error is None:
                assert (units_of(future.result()), applied_at_all) == (asked_of(one), True)
            else:
                assert isinstance(error, Unavailable)
                assert error.outcome == "unknown" or not applied_at_all

    play(story())
