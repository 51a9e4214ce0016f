"""The lane over nodes that refuse: who goes again, who is held, and what is said in the end."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from gateway.core.errors import Unavailable
from gateway.store.groups import PAUSE_S, PAUSE_S_MAX
from tests.store.lane_bench import eventually, refusal
from tests.store.lane_nodes import Lost, Stores, asked_of, job, play, units_of

REFUSALS = {
    "MOVED": MovedError("1 127.0.0.1:7000"),
    "ASK": AskError("1 127.0.0.1:7000"),
    "TRYAGAIN": TryAgainError("Multiple keys request during rehashing of slot"),
    "CLUSTERDOWN": ClusterDownError("The cluster is down"),
    "LOADING": BusyLoadingError("The server is loading the dataset in memory"),
    "READONLY": ReadOnlyError("You can't write against a read only replica."),
    "MASTERDOWN": MasterDownError("Link with MASTER is down"),
    "NOREPLICAS": ResponseError("NOREPLICAS Not enough good replicas to write."),
    "OOM": OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    "BUSY": ResponseError("BUSY Server is busy running a script."),
    "MISCONF": ResponseError("MISCONF Errors writing to the AOF file"),
}
each_refusal = pytest.mark.parametrize("word", list(REFUSALS))


@each_refusal
def test_what_was_refused_goes_again_and_holds_nobody_else(word: str) -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, loop = stores.lane(), asyncio.get_running_loop()
        stores.node("a").fates.append(REFUSALS[word])
        jobs = [job(0), job(1), job(0)]
        first, other, second = lane.submit_all(jobs)
        begun_s = loop.time()
        assert units_of(await other) == asked_of(jobs[1])
        assert (loop.time() - begun_s, first.done()) == (0.0, False)
        assert units_of(await first) == asked_of(jobs[0])
        assert loop.time() - begun_s == pytest.approx(PAUSE_S)
        assert units_of(await second) == asked_of(jobs[2])
        assert stores.applied[0] == [jobs[0].dedupe_id, jobs[2].dedupe_id]
        assert stores.applied[1] == [jobs[1].dedupe_id]
        await lane.close()

    play(story())


@each_refusal
def test_what_is_refused_to_the_end_was_not_applied(word: str) -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, loop = stores.lane(deadline_s=1.0), asyncio.get_running_loop()
        stores.node("a").fates.extend([REFUSALS[word]] * 20)
        begun_s = loop.time()
        assert await refusal(lane.submit(job())) == "not_applied"
        assert loop.time() - begun_s <= 1.0
        # 10, 20, 40, 80, 160, and then 200 ms each time.
        assert len(stores.node("a").calls) == 5 + int((1.0 - 31 * PAUSE_S) / PAUSE_S_MAX) + 1
        assert stores.applied[0] == []
        await lane.close()

    play(story())


def test_what_was_lost_and_then_refused_to_the_end_is_unknown() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(deadline_s=1.0)
        stores.node("a").fates.extend([Lost(applied=True), *[REFUSALS["OOM"]] * 20])
        lost, behind = job(), job()
        told = [lane.submit(lost)]
        await eventually(lambda: bool(stores.node("a").calls))
        told.append(lane.submit(behind))
        assert [await refusal(each) for each in told] == ["unknown", "not_applied"]
        assert stores.applied[0] == [lost.dedupe_id]
        await lane.close()

    play(story())


def test_the_words_of_a_refusal_are_passed_on_and_no_address() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane(deadline_s=0.1)
        for word, told in (("OOM", "maxmemory"), ("MOVED", "is moving")):
            stores.node("a").fates.extend([REFUSALS[word]] * 20)
            with pytest.raises(Unavailable, match=told) as raised:
                await lane.submit(job())
            assert "127.0.0.1" not in raised.value.message
            stores.node("a").fates.clear()
        await lane.close()

    play(story())


@pytest.mark.parametrize("word", ["READONLY", "MASTERDOWN", "NOREPLICAS"])
def test_a_primary_that_is_none_any_more_is_connected_to_anew(word: str) -> None:
    async def story() -> None:
        stores = Stores()
        lane, node = stores.lane(), stores.node()
        await lane.submit(job())
        node.fates.append(REFUSALS[word])
        await lane.submit(job())
        assert node.connections == 2
        node.fates.append(REFUSALS["OOM"])
        await lane.submit(job())
        assert node.connections == 2
        await lane.close()

    play(story())


def test_a_script_goes_with_the_first_calls_and_again_when_it_is_forgotten() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, node = stores.lane(), stores.node("a")
        for forgotten in (False, False, True):
            node.knows_script = node.knows_script and not forgotten
            jobs = [job(0), job(1)]
            replies = [units_of(reply) for reply in await asyncio.gather(*lane.submit_all(jobs))]
            assert replies == [asked_of(each) for each in jobs]
        calls = ["EVALSHA", "EVALSHA"]
        assert node.pipelines == [["SCRIPT", *calls], calls, calls, ["SCRIPT", *calls]]
        await lane.close()

    play(story())


def test_a_password_that_is_not_taken_is_told_to_all_who_wait() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane, node = stores.lane(deadline_s=0.5), stores.node("a")
        node.greeting = AuthenticationError("invalid username-password pair")
        for each in lane.submit_all([job(0), job(1)]):
            with pytest.raises(Unavailable, match="password") as told:
                await each
            assert told.value.outcome == "not_applied"
        assert (node.connections > 1, node.open) == (True, 0)
        node.greeting = None
        one = job(0)
        assert units_of(await lane.submit(one)) == asked_of(one)
        assert stores.applied[0] == [one.dedupe_id]
        await lane.close()

    play(story())


def test_an_error_of_the_script_is_told_to_its_own_call_only() -> None:
    async def story() -> None:
        stores = Stores("a")
        lane = stores.lane()
        stores.node("a").fates.append(ResponseError("user_script:1: a bug"))
        jobs = [job(0), job(0), job(1)]
        *failed, other = lane.submit_all(jobs)
        assert [await refusal(each) for each in failed] == ["unknown", "unknown"]
        assert units_of(await other) == asked_of(jobs[2])
        assert units_of(await lane.submit(job(0, units=7))) == 7
        assert stores.node("a").connections == 1
        await lane.close()

    play(story())
