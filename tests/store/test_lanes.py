"""The lane over a real store: what leaves together, and in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.core.calls import INCREMENTAL, PARTIAL
from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import AccessRequest, Host, Want
from gateway.store.calls import Job
from gateway.store.lanes import CONTEXT_WORK, WORK_MAX
from tests.store.lane_bench import TTL_MS, Bench, eventually, play, units_of


def test_what_arrives_while_a_call_is_in_flight_leaves_in_one(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy() as (proxy, lane):
            await lane.submit(bench.job(units=1))  # loads the script
            before, proxy.calls = lane.calls, 0
            proxy.open.clear()
            first = lane.submit(bench.job(units=2))
            await eventually(lambda: proxy.calls == 1)
            rest = [lane.submit(bench.job(units=3 + number)) for number in range(20)]
            assert lane.depth == 20
            proxy.open.set()
            replies = await asyncio.gather(first, *rest)
            assert [2, *range(3, 23)] == [units_of(reply) for reply in replies]
            assert (lane.calls - before, proxy.calls) == (2, 2)

    play(tmp_path, scene)


def test_a_call_is_bounded_by_the_work_in_it(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane = bench.store.lane
        wide = bench.job(feature="wide", flags=INCREMENTAL | PARTIAL)
        assert wide.work == 61
        await lane.submit(bench.job())
        before = lane.calls
        fit = (WORK_MAX - CONTEXT_WORK) // wide.work
        jobs = [bench.job(feature="wide") for _ in range(3 * fit)]
        await asyncio.gather(*(lane.submit(job) for job in jobs))
        assert lane.calls - before == 3

    play(tmp_path, scene)


def test_a_job_larger_than_the_bound_goes_alone(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        request = AccessRequest(
            host=Host("string", "h1"),
            wants=tuple(Want("wide", f"0.{number}", 1) for number in range(1, 20)),
        )
        large = Job(bench.index, bench.index.resolve(request), "large", TTL_MS, "f", "", "h1", 3)
        assert large.work > WORK_MAX
        lane = bench.store.lane
        before = lane.calls
        replies = await asyncio.gather(
            lane.submit(bench.job()), lane.submit(large), lane.submit(bench.job(units=2))
        )
        assert [units_of(reply) for reply in replies] == [1, 0, 2]
        assert lane.calls - before == 3

    play(tmp_path, scene)


def test_jobs_are_applied_in_the_order_of_submission(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane = bench.store.lane
        wants = [3, 4, 5, 1, 1]
        replies = await asyncio.gather(
            *(lane.submit(bench.job(units, "few", flags=INCREMENTAL | PARTIAL)) for units in wants)
        )
        assert [units_of(reply) for reply in replies] == [3, 4, 3, 0, 0]

    play(tmp_path, scene)


def test_copies_of_one_catalogue_share_a_context(tmp_path: Path) -> None:
    """Two gateways' tasks may each have read the version; together they may not grant twice."""

    async def scene(bench: Bench) -> None:
        copy = CatalogueIndex(bench.index.catalogue)
        lane = bench.store.lane
        replies = await asyncio.gather(
            lane.submit(bench.job(8, "few")), lane.submit(bench.job(8, "few", index=copy))
        )
        assert [units_of(reply) for reply in replies] == [8, 0]
        assert await bench.field("acked|FEW") == 8

    play(tmp_path, scene)


def test_sixty_four_submitters_are_granted_exactly_the_capacity(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async def submitter(number: int) -> int:
            lane, granted = bench.store.lane, 0
            for _ in range(3):
                granted += units_of(await lane.submit(bench.job(1, "few", host=f"h{number}")))
            return granted

        assert sum(await asyncio.gather(*(submitter(number) for number in range(64)))) == 10
        assert await bench.field("acked|FEW") == 10

    play(tmp_path, scene)
