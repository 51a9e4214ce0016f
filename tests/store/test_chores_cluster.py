"""What goes on beside requests goes on in a cluster whose slots move and whose primaries die.

Only Unavailable comes of it meanwhile; everything recovers by itself, and then everything balances.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from gateway.store.keys import InstanceKeys
from gateway.store.opening import open_store
from tests.store.chores import Chores
from tests.stores.clusters import Cluster
from tests.stores.slot_moves import SlotMove

pytestmark = pytest.mark.slow

PARTITIONS = 16
SLOTS_MOVED = 6
PORTION_KEYS = 5
PORTION_S = 0.02  # that nothing is moved in, again and again


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as running:
        yield running


def instances_of(cluster: Cluster) -> list[str]:
    """Name two instances of each primary, all in partitions of their own."""
    found: dict[int, list[str]] = {server.port: [] for server in cluster.primaries()}
    taken: set[int] = set()
    for number in range(200):
        keys = InstanceKeys(f"SITE-{number}", PARTITIONS)
        names = found[cluster.owner_of(keys.cat).port]
        if len(names) < 2 and keys.partition not in taken:
            taken.add(keys.partition)
            names.append(keys.instance)
    names = [name for each in found.values() for name in each]
    assert len(names) == 2 * len(found)
    return names


def slowly(move: SlotMove) -> None:
    """Move a slot in so many portions that everything comes by it on its way."""
    move.begin()
    while move.portion(PORTION_KEYS):
        time.sleep(PORTION_S)
    move.finish()


def over(
    cluster: Cluster,
    data_dir: Path,
    amiss: Callable[[Chores], Awaitable[None]],
    ack: str = "replica",
) -> Chores:
    """Do everything while something is amiss, and check it afterwards."""

    async def story() -> Chores:
        async with open_store(cluster.url, data_dir, partitions=PARTITIONS, ack=ack) as store:
            chores = Chores(store, instances_of(cluster))
            await chores.provision()
            with chores.listening():
                chores.begin()
                try:
                    await chores.done_again()
                    await amiss(chores)
                    await chores.done_again()
                finally:
                    await chores.end()
                await chores.check()
            return chores

    return asyncio.run(story())


def told(what: str, chores: Chores) -> None:
    print(  # a figure of the run
        f"{what}: {sum(chores.done.values())} done, {dict(chores.refused)} refused,"
        f" slowest {chores.slowest_s:.1f} s, {len(chores.upstream.bodies)} batches,"
        f" {sum(chores.acked.values())} units acked, lost 0, doubled 0"
    )


def test_slots_move_meanwhile(cluster: Cluster, tmp_path: Path) -> None:
    async def amiss(chores: Chores) -> None:
        for instance in (chores.instances * SLOTS_MOVED)[:SLOTS_MOVED]:
            slot = key_slot(_cat(instance).encode())
            owner = cluster.owner(slot)
            other = next(each for each in cluster.primaries() if each is not owner)
            move = SlotMove(cluster, slot, other)
            await asyncio.to_thread(slowly, move)

    told("slots moved", over(cluster, tmp_path, amiss))


def test_a_primary_is_killed_meanwhile(cluster: Cluster, tmp_path: Path) -> None:
    async def amiss(chores: Chores) -> None:
        victim = cluster.primaries()[0]
        await asyncio.to_thread(victim.kill)
        await asyncio.to_thread(cluster.wait_promoted, victim)
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(cluster.wait_in_sync)

    told("primary killed", over(cluster, tmp_path, amiss))


def test_a_primary_is_paused_meanwhile(cluster: Cluster, tmp_path: Path) -> None:
    async def amiss(chores: Chores) -> None:
        victim = cluster.primaries()[0]
        await asyncio.to_thread(victim.pause)
        await asyncio.to_thread(cluster.wait_promoted, victim)
        await asyncio.to_thread(victim.wake)
        await asyncio.to_thread(cluster.wait_in_sync)

    told("primary paused", over(cluster, tmp_path, amiss))


def test_what_the_others_have_goes_on_while_a_shard_is_away(tmp_path: Path) -> None:
    """In a cluster that serves the slots it has; what was away is taken up once it is back."""
    settings = {"replicas": 0, "full_coverage": False, "appendfsync": "always"}
    with Cluster(tmp_path / "cluster", **settings) as cluster:  # type: ignore[arg-type]

        async def amiss(chores: Chores) -> None:
            lost = cluster.primaries()[0]
            owners = {each: cluster.owner_of(_cat(each)) for each in chores.instances}
            here = [each for each, owner in owners.items() if owner is not lost]
            assert 0 < len(here) < len(chores.instances)
            await asyncio.to_thread(lost.kill)
            await chores.done_again(but="list")
            before = forwarded(chores)
            await chores.until(lambda: all(forwarded(chores)[x] > before[x] for x in here))
            assert {x for x in owners if forwarded(chores)[x] > before[x]} == set(here)
            await asyncio.to_thread(lost.start)

        told("shard away", over(cluster, tmp_path, amiss, ack="written"))


def forwarded(chores: Chores) -> Counter[str]:
    """Give what was taken upstream, by instance."""
    found: Counter[str] = Counter()
    for (instance, _), units in chores.upstream.units.items():
        found[instance] += units
    return found


def _cat(instance: str) -> str:
    return InstanceKeys(instance, PARTITIONS).cat
