"""A cluster's slots move from one primary to another, and replicas take the place of lost ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, TryAgainError

from tests.stores.clusters import SLOTS, Cluster
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove, move_slot
from tests.system.processes import eventually

pytestmark = pytest.mark.slow

KEYS = [f"{{tag}}{number}" for number in range(25)]
SLOT = key_slot(b"tag")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that every test leaves well; who has which slot is not the same for each."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        with cluster.owner(SLOT).client() as client:
            client.mset(dict.fromkeys(KEYS, 1))
        cluster.wait_in_sync()
        yield cluster


def other_than(cluster: Cluster, server: Server) -> Server:
    return next(each for each in cluster.primaries() if each is not server)


def test_all_slots_are_served_and_each_primary_has_its_replica(cluster: Cluster) -> None:
    assert len(cluster.primaries()) == 3
    slots = [
        slot for node in cluster.nodes(cluster.servers[0]) for each in node.slots for slot in each
    ]
    assert sorted(slots) == list(range(SLOTS))
    for primary in cluster.primaries():
        (replica,) = cluster.replicas(primary)
        assert any({primary, replica} == set(shard) for shard in cluster.shards)
    client = redis.RedisCluster.from_url(cluster.url.split(",")[0].replace("+cluster", ""))
    assert client.set("anything", 1)
    client.close()


def test_a_slot_moves_with_its_keys_and_everybody_knows(cluster: Cluster) -> None:
    old = cluster.owner_of("{tag}")
    new = other_than(cluster, old)
    assert move_slot(cluster, SLOT, new) == len(KEYS)
    assert cluster.owner(SLOT) is new
    assert new.ask("EXISTS", *KEYS) == len(KEYS)
    with pytest.raises(MovedError, match=f"{SLOT} {new.address}"):
        old.ask("GET", KEYS[0])


def test_stopped_in_the_middle_the_keys_are_in_two_places(cluster: Cluster) -> None:
    old = cluster.owner(SLOT)
    move = SlotMove(cluster, SLOT, other_than(cluster, old))
    move.begin()
    assert move.portion(10) == 10
    here: list[str] = []
    there: list[str] = []
    for key in KEYS:
        (here if old.try_ask("EXISTS", key) else there).append(key)
    assert (len(here), len(there)) == (15, 10)
    with pytest.raises(AskError, match=f"{SLOT} {move.to.address}"):
        old.ask("GET", there[0])
    with pytest.raises(TryAgainError):
        old.ask("MGET", here[0], there[0])
    assert cluster.owner(SLOT) is old
    while move.portion():
        pass
    move.finish()
    assert cluster.owner(SLOT) is move.to


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_replica_takes_the_place_of_a_primary_and_keeps_it(cluster: Cluster, how: str) -> None:
    cluster.wait_in_sync()  # who has the keys only now: so has its replica
    old = cluster.owner(SLOT)
    (replica,) = cluster.replicas(old)
    getattr(old, how)()
    assert cluster.wait_promoted(old) is replica
    assert replica.ask("EXISTS", *KEYS) == len(KEYS)
    if how == "kill":
        old.start()
    else:
        old.wake()
    cluster.wait_in_sync()
    assert cluster.replicas(replica) == [old]
    assert cluster.owner(SLOT) is replica


def test_without_full_coverage_the_other_slots_are_served(tmp_path: Path) -> None:
    with Cluster(tmp_path, primaries=3, replicas=0, full_coverage=False) as cluster:
        lost = cluster.owner(SLOT)
        lost.kill()
        rest = [server for server in cluster.servers if server is not lost]
        eventually(lambda: all(is_given_up(cluster, lost, by=server) for server in rest))
        key = next(key for key in "abcdefgh" if cluster.owner_of(key) in rest)
        eventually(lambda: cluster.owner_of(key).try_ask("SET", key, 1))


def is_given_up(cluster: Cluster, lost: Server, *, by: Server) -> bool:
    return any(node.port == lost.port and "fail" in node.flags for node in cluster.nodes(by))
