"""A cluster under load: slots move, a primary dies, a new one joins. Only 503s, and not for long.

Who has other slots is served meanwhile, each instance in every second. GATEWAY_FAULT_MOVES is how
many slots move key by key; GATEWAY_FAULT_SEED repeats a run. Source: RELIABILITY 4, row 8;
RELIABILITY 2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.fleet import ASKED_S_MAX, knob
from tests.faults.growing_cluster import GrowingCluster, slot_of
from tests.faults.scene import until
from tests.faults.trial import PARTITIONS, Trial, have_back, now_ms, open_trial
from tests.faults.watched_load import ANSWERED
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove

MOVES = knob("MOVES", 1)  # of slots, key by key
OF_EACH_NODE = 2  # instances
NAMES = [f"C-{number}" for number in range(40)]
MIDDLE_S = 1.5  # a move stops in its middle for longer than a request's deadline
PORTION = 10  # keys, of a partition that has more
HANDED_OVER = 4  # a node hands one of so many of its slots over

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrowingCluster]:
    """Three primaries with a replica each; every test leaves all well, if not as it was."""
    with GrowingCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_a_slot_that_moves_holds_its_own_partition_only(
    cluster: GrowingCluster, tmp_path: Path
) -> None:
    """Key by key, and with a stop in the middle: then its keys are in two places."""

    async def story() -> None:
        async with trial_of("slots move", "replica", cluster, tmp_path) as trial:
            async with trial.at_work():
                for moved in list(trial.loads)[:MOVES]:
                    await a_slot_moves(trial, cluster, moved)
            assert (await trial.judge()).violations == []

    asyncio.run(story())


def test_a_primary_that_dies_while_it_takes_a_slot_over_has_lost_nothing(
    cluster: GrowingCluster, tmp_path: Path
) -> None:
    """Nothing is acknowledged there until it has a replica again; then the move goes on."""

    async def story() -> None:
        async with trial_of("receiver killed", "replica", cluster, tmp_path) as trial:
            moved, *_ = trial.loads
            slot, to = slot_of(moved, PARTITIONS), other_than(cluster, owner(cluster, moved))
            there, _ = apart(trial, lambda each: owner(cluster, each) is to)
            hit, others = apart(trial, lambda each: each == moved or each in there)
            async with trial.at_work():
                await trial.loads[moved].enough(2 * PORTION)
                async with trial.fault("kill", *hit) as since_s:
                    move = SlotMove(cluster, slot, to)
                    await asyncio.to_thread(move.begin)
                    assert await asyncio.to_thread(move.portion, PORTION) == PORTION
                    to.kill()
                    move.to = await asyncio.to_thread(cluster.wait_promoted, to)
                    await unsafe(trial, there)
                    await asyncio.to_thread(to.start)
                    await asyncio.to_thread(cluster.wait_in_sync)
                    await the_rest(move)
                assert_served(trial, since_s, others)
            assert (await trial.judge()).violations == []

    asyncio.run(story())


def test_a_primary_that_dies_takes_nobody_else_along(
    cluster: GrowingCluster, tmp_path: Path
) -> None:
    """What is lost of what was only written was acknowledged just before."""

    async def story() -> None:
        async with trial_of("primary killed", "written", cluster, tmp_path) as trial:
            lost = owner(cluster, next(iter(trial.loads)))
            hit, others = apart(trial, lambda each: owner(cluster, each) is lost)
            async with trial.at_work():
                async with trial.fault("kill", *hit) as since_s:
                    died_ms = now_ms()
                    lost.kill()
                    await asyncio.to_thread(cluster.wait_promoted, lost)
                await asyncio.to_thread(lost.start)
                await asyncio.to_thread(cluster.wait_in_sync)
                assert_served(trial, since_s, others)
            assert (await trial.judge((died_ms, died_ms))).violations == []

    asyncio.run(story())


def test_a_primary_that_joins_takes_slots_over_and_hardly_anybody_notices(
    cluster: GrowingCluster, tmp_path: Path
) -> None:
    """The gateways find it by themselves: nobody tells them that it is there."""

    async def story() -> None:
        async with trial_of("primary joins", "replica", cluster, tmp_path) as trial:
            async with trial.at_work():
                async with trial.fault("join") as since_s:
                    joined = await asyncio.to_thread(cluster.join)
                    for slots in [slots_from(cluster, each) for each in one_each(cluster, trial)]:
                        await asyncio.to_thread(cluster.hand_over, slots, joined)
                assert_served(trial, since_s, trial.loads)
                there = [each for each in trial.loads if owner(cluster, each) is joined]
                assert len(there) >= len(cluster.primaries()) - 1
                await trial.served(*there)
            assert (await trial.judge()).violations == []

    asyncio.run(story())


@asynccontextmanager
async def trial_of(
    deed: str, ack: str, cluster: GrowingCluster, directory: Path
) -> AsyncIterator[Trial]:
    """Set a trial with instances on every node."""
    have_back(cluster.servers)
    cluster.wait_in_sync()
    for primary in cluster.primaries():
        primary.ask("FLUSHALL", answer_s_max=ASKED_S_MAX)
    by_node: dict[Server, list[str]] = {}
    for name in NAMES:
        by_node.setdefault(owner(cluster, name), []).append(name)
    instances = [name for names in by_node.values() for name in names[:OF_EACH_NODE]]
    name, store = f"cluster: {deed} at {ack}", (cluster.url, cluster.owner_of)
    async with open_trial(name, directory, *store, instances, ack=ack) as trial:
        yield trial


async def a_slot_moves(trial: Trial, cluster: GrowingCluster, moved: str) -> None:
    """Move the slot of an instance to another node, with a stop in the middle."""
    slot, to = slot_of(moved, PARTITIONS), other_than(cluster, owner(cluster, moved))
    hit, others = apart(trial, lambda each: slot_of(each, PARTITIONS) == slot)
    await trial.loads[moved].enough(2 * PORTION)
    async with trial.fault("move", *hit) as since_s:
        move = SlotMove(cluster, slot, to)
        await asyncio.to_thread(move.begin)
        assert await asyncio.to_thread(move.portion, PORTION) == PORTION
        await asyncio.sleep(MIDDLE_S)
        assert set(trial.endings(since_s, *others)) == {ANSWERED}
        await the_rest(move)
    assert set(trial.endings(since_s, *hit)) == {ANSWERED, "503 not_applied"}
    assert_served(trial, since_s, others)


async def the_rest(move: SlotMove) -> None:
    """Bring a move to its end."""
    while await asyncio.to_thread(move.portion):
        pass
    await asyncio.to_thread(move.finish)


def assert_served(trial: Trial, since_s: float, instances: Iterable[str]) -> None:
    """Each of them, in every whole second in which the machine did not stall."""
    seconds = {each: trial.answers_each_second(since_s, each) for each in instances}
    assert all(all(answers) for answers in seconds.values()), seconds


async def unsafe(trial: Trial, hit: list[str]) -> None:
    """Wait until requests are applied where there is no replica: none of them is acknowledged."""
    since_s = time.monotonic()
    await until(lambda: trial.endings(since_s, *hit)["503 applied_not_durable"])
    assert ANSWERED not in trial.endings(since_s, *hit)


def owner(cluster: GrowingCluster, instance: str) -> Server:
    return cluster.owner(slot_of(instance, PARTITIONS))


def other_than(cluster: GrowingCluster, server: Server) -> Server:
    return next(each for each in cluster.primaries() if each is not server)


def apart(trial: Trial, is_hit: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Tell instances that are hit from the others."""
    hit = [each for each in trial.loads if is_hit(each)]
    return hit, [each for each in trial.loads if each not in hit]


def one_each(cluster: GrowingCluster, trial: Trial) -> list[str]:
    """Give an instance of each node that has any."""
    return list({owner(cluster, each): each for each in trial.loads}.values())


def slots_from(cluster: GrowingCluster, instance: str) -> range:
    """Give an instance's slot and those behind it, up to some of those that its node has."""
    slot, node = slot_of(instance, PARTITIONS), owner(cluster, instance)
    (own,) = [each for each in cluster.nodes(node) if "myself" in each.flags]
    (around,) = [each for each in own.slots if slot in each]
    return range(slot, min(slot + sum(map(len, own.slots)) // HANDED_OVER, around.stop))
