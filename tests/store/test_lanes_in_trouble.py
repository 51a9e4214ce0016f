"""The lane over a real store that fails: what is said, and that nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.calls import Verdict
from gateway.core.errors import Unavailable
from gateway.store.durability import wait_for
from gateway.store.lanes import Lane
from gateway.store.server import open_client
from gateway.store.topology import OneServer
from tests.store.lane_bench import Bench, eventually, play, refusal, units_of
from tests.stores.homes import PATIENT_S

SOON_S = 1.0  # long enough to be sent, also on a busy machine


def test_what_was_never_sent_was_not_applied(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        nobody = OneServer(open_client(f"unix://{tmp_path}/nobody.sock"))
        lane = Lane(bench.store.scripts.apply, nobody, 4, deadline_s=0.1)
        assert await refusal(lane.submit(bench.job())) == "not_applied"
        await lane.close()
        assert await bench.field("acked|CALLS") == 0

    play(tmp_path, scene)


def test_what_was_sent_and_not_answered_is_unknown_and_its_repeat_a_replay(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy() as (proxy, lane):
            await lane.submit(bench.job(units=1))
            proxy.black_hole, lane.deadline_s = True, SOON_S
            assert await refusal(lane.submit(bench.job(units=5, name="five"))) == "unknown"
            await proxy.held_back.wait()
            assert await bench.field("acked|CALLS") == 6
            proxy.black_hole, lane.deadline_s = False, PATIENT_S
            again = await lane.submit(bench.job(units=5, name="five"))
            assert (again.verdict, units_of(again)) == (Verdict.REPLAYED, 5)
            assert await bench.field("acked|CALLS") == 6

    play(tmp_path, scene)


def test_what_comes_after_an_idle_connection_was_lost_is_in_no_doubt(tmp_path: Path) -> None:
    """Nothing was sent on it: who is stale after that is told so, and not that it is unknown."""

    async def scene(bench: Bench) -> None:
        lane, store = bench.store.lane, bench.store
        await lane.submit(bench.job())
        await store.catalogues.put(replace(bench.index.catalogue, name="another"))
        (at,) = lane._lanes.values()
        await store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await eventually(lambda: not at.pipe.is_open)
        assert (await lane.submit(bench.job())).verdict is Verdict.STALE
        assert await bench.field("acked|CALLS") == 1

    play(tmp_path, scene)


def test_what_waits_behind_a_silent_store_was_not_applied(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy() as (proxy, lane):
            await lane.submit(bench.job())
            loop = asyncio.get_running_loop()
            proxy.calls, proxy.black_hole, lane.deadline_s = 0, True, SOON_S
            until_s = loop.time() + SOON_S
            sent = lane.submit(bench.job())
            await eventually(lambda: proxy.calls == 1)
            lane.deadline_s = until_s - loop.time()  # no time is left for a call of its own
            waiting = lane.submit(bench.job())
            assert [await refusal(sent), await refusal(waiting)] == ["unknown", "not_applied"]
            await proxy.held_back.wait()
            assert await bench.field("acked|CALLS") == 2

    play(tmp_path, scene)


def test_a_job_sent_again_after_a_lost_reply_counts_once(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy() as (proxy, lane):
            await lane.submit(bench.job(units=1))
            proxy.calls, proxy.cut = 0, True
            reply = await lane.submit(bench.job(units=5))
            assert units_of(reply) == 5
            assert (proxy.held_back.is_set(), proxy.calls) == (True, 2)
            assert await bench.field("acked|CALLS") == 6

    play(tmp_path, scene)


def test_a_forgotten_script_is_loaded_again(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        for units in (1, 2, 3):
            await bench.store.client.script_flush()
            assert units == units_of(await bench.store.lane.submit(bench.job(units)))
        assert await bench.field("acked|CALLS") == 6

    play(tmp_path, scene)


def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy(queue_max=3) as (proxy, lane):
            await lane.submit(bench.job())
            proxy.calls = 0
            proxy.open.clear()
            first = lane.submit(bench.job())
            await eventually(lambda: proxy.calls == 1)
            waiting = [lane.submit(bench.job()) for _ in range(3)]
            with pytest.raises(Unavailable) as refused:
                lane.submit(bench.job())
            assert refused.value.outcome == "not_applied"
            proxy.open.set()
            await asyncio.gather(first, *waiting)
            assert await bench.field("acked|CALLS") == 5

    play(tmp_path, scene)


def test_a_closing_lane_answers_what_it_took_and_takes_no_more(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane = bench.store.lane
        taken = [lane.submit(bench.job(units)) for units in range(1, 8)]
        await lane.close()
        assert list(range(1, 8)) == [units_of(each.result()) for each in taken]
        with pytest.raises(Unavailable):
            lane.submit(bench.job())

    play(tmp_path, scene)


def test_a_killed_store_is_revived_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane, client = bench.store.lane, bench.store.client
        acknowledged = 0
        for _ in range(3):
            for _ in range(20):
                acknowledged += units_of(await lane.submit(bench.job(2)))
            info = await client.info("server")
            os.kill(info["process_id"], signal.SIGKILL)
            acknowledged += units_of(await lane.submit(bench.job(5)))
            await client.connection_pool.disconnect()
            assert acknowledged == await bench.field("acked|CALLS")
        assert acknowledged == 3 * (20 * 2 + 5)

    play(tmp_path, scene)


def test_a_full_store_applies_nothing(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane, client = bench.store.lane, bench.store.client
        await lane.submit(bench.job(units=1))
        await client.config_set("maxmemory", "1")
        lane.deadline_s = 0.2
        assert await refusal(lane.submit(bench.job(units=5, name="five"))) == "not_applied"
        lane.deadline_s = PATIENT_S
        await client.config_set("maxmemory", "0")
        assert await bench.field("acked|CALLS") == 1
        reply = await lane.submit(bench.job(units=5, name="five"))
        assert (reply.verdict, units_of(reply)) == (Verdict.DONE, 5)

    play(tmp_path, scene)


def test_a_store_that_hangs_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        assert units_of(await bench.store.lane.submit(bench.job())) == 1
        info: Any = await bench.store.client.info("server")
        os.kill(info["process_id"], signal.SIGSTOP)
        bench.store.lane.deadline_s = SOON_S
        try:
            begin_s = time.monotonic()
            assert await refusal(bench.store.lane.submit(bench.job())) == "unknown"
            assert time.monotonic() - begin_s < 15 * SOON_S
        finally:
            os.kill(info["process_id"], signal.SIGCONT)

    play(tmp_path, scene)


def test_a_primary_that_was_demoted_is_left_for_another(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        lane, client = bench.store.lane, bench.store.client
        assert units_of(await lane.submit(bench.job())) == 1
        clients: Any = await client.client_list()
        before = {each["id"] for each in clients}
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert await refusal(lane.submit(bench.job(name="two"))) == "not_applied"
        await client.execute_command("REPLICAOF", "NO", "ONE")
        assert (await lane.submit(bench.job(name="two"))).verdict is Verdict.DONE
        clients = await client.client_list()
        assert {each["id"] for each in clients} - before  # it came again, under the same address

    play(tmp_path, scene, deadline_s=2 * SOON_S)


def test_cancelled_clients_take_nobody_elses_answer(tmp_path: Path) -> None:
    seed = int(os.environ.get("GATEWAY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"replay with GATEWAY_SEED={seed}")  # shown when the test fails
    chance = random.Random(seed)  # noqa: S311 - a test's dice

    async def scene(bench: Bench) -> None:
        lane, answered = bench.store.lane, 0

        async def client(units: int) -> None:
            nonlocal answered
            assert units == units_of(await lane.submit(bench.job(units)))
            answered += 1

        asking: list[asyncio.Task[None]] = []
        for units in range(1, 1001):
            asking.append(asyncio.create_task(client(units)))
            if chance.random() < 0.3:
                chance.choice(asking).cancel()
            if chance.random() < 0.1:
                await asyncio.sleep(chance.random() / 1_000)
        ended = await asyncio.gather(*asking, return_exceptions=True)
        cancelled = [each for each in ended if each is not None]
        assert all(isinstance(each, asyncio.CancelledError) for each in cancelled)
        assert answered + len(cancelled) == 1000
        assert units_of(await lane.submit(bench.job(7))) == 7  # the lane goes on in step

    play(tmp_path, scene)


def test_each_call_waits_for_the_disk_where_that_is_asked(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy(wait=wait_for("local", 0)) as (proxy, lane):
            for units in (1, 2):
                assert units == units_of(await lane.submit(bench.job(units, name=f"n{units}")))
            await bench.store.client.script_flush()
            again = await lane.submit(bench.job(2, name="n2"))
            assert (again.verdict, units_of(again)) == (Verdict.REPLAYED, 2)
            proxy.cut = True
            assert units_of(await lane.submit(bench.job(5))) == 5
            assert await bench.field("acked|CALLS") == 8

    play(tmp_path, scene, ack="local")


def test_what_is_applied_but_not_on_disk_in_time_is_said_so(tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        async with bench.through_proxy(wait=wait_for("local", 0)) as (_, lane):
            await lane.submit(bench.job(1))
            await bench.store.client.config_set("appendfsync", "no")
            outcome = await refusal(lane.submit(bench.job(5, name="five")))
            assert outcome == "applied_not_durable"
            assert await bench.field("acked|CALLS") == 6
            await bench.store.client.config_set("appendfsync", "always")

    play(tmp_path, scene, ack="local")
