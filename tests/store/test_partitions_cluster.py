"""What all partitions are asked for at once, in a cluster that is away in parts, or down."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue
from gateway.core.ports import PartlyUnavailable
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox
from tests.stores.clusters import QUIET_MS, Cluster
from tests.system.processes import eventually

pytestmark = pytest.mark.slow

PARTITIONS = 256
NAMES = [f"PART-{number}" for number in range(30)]
TOLD_S_MAX = 30.0  # though each partition's refusal is waited out: one by one it were minutes


async def provision(store: Store) -> RedisOutbox:
    for name in NAMES:
        await store.catalogues.put(Catalogue(id=name))
    return RedisOutbox(store.topology, store.scripts, store.partitions)


def test_a_node_that_is_away_keeps_nobody_from_hearing_of_the_others(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        async with open_store(cluster.url, tmp_path, partitions=PARTITIONS) as store:
            outbox = await provision(store)
            whole = await outbox.instances()
            assert sorted(name for names in whole.values() for name in names) == sorted(NAMES)
            assert list(whole) == sorted(whole)
            lost = cluster.primaries()[0]
            owners = {name: cluster.owner_of(store.catalogues.keys(name).cat) for name in NAMES}
            await asyncio.to_thread(lost.kill)
            with pytest.raises(PartlyUnavailable) as told:
                await outbox.instances()
            found = {name for names in told.value.found.values() for name in names}
            assert found == {name for name, owner in owners.items() if owner is not lost}
            assert told.value.found.items() <= whole.items()
            with pytest.raises(PartlyUnavailable):
                await store.catalogues.instances()
            for server in cluster.servers:
                await asyncio.to_thread(server.kill)
            with pytest.raises(Unavailable) as nothing:
                await outbox.due(1)
            assert not isinstance(nothing.value, PartlyUnavailable)

    # Who is killed is away at once; that others were taken for lost too would be another story.
    settings = {"replicas": 0, "full_coverage": False, "cluster_node_timeout": QUIET_MS}
    with Cluster(tmp_path / "cluster", **settings) as cluster:  # type: ignore[arg-type]
        asyncio.run(story(cluster))


def test_a_cluster_that_is_down_is_said_to_be_in_bounded_time(tmp_path: Path) -> None:
    """It refuses all partitions, and they are not waited for one behind the other."""

    async def story(cluster: Cluster) -> None:
        async with open_store(cluster.url, tmp_path, partitions=PARTITIONS) as store:
            outbox = await provision(store)
            lost, *others = cluster.primaries()
            await asyncio.to_thread(lost.kill)

            def is_down() -> bool:
                told = [server.try_ask("CLUSTER", "INFO") or "" for server in others]
                return all("cluster_state:fail" in each for each in told)

            await asyncio.to_thread(eventually, is_down, 60.0)
            for ask in (outbox.dirty, outbox.instances, store.catalogues.instances):
                begun_s = time.monotonic()
                with pytest.raises(Unavailable) as told:
                    await ask()
                assert told.value.outcome == "not_applied"
                assert time.monotonic() - begun_s < TOLD_S_MAX

    with Cluster(tmp_path / "cluster", replicas=0) as cluster:
        asyncio.run(story(cluster))
