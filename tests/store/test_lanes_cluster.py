"""The lane over a real cluster, under load, while slots move and primaries die."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from gateway.core.calls import INCREMENTAL, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.model import UNITS_MAX, AccessRequest, Catalogue, Host, Line, Model, Want
from gateway.store.calls import Job
from gateway.store.keys import PartitionKeys, partition_of
from gateway.store.opening import Store, open_store
from tests.store.lane_bench import TTL_MS, eventually, units_of
from tests.stores.clusters import Cluster
from tests.stores.homes import PATIENT_S
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove

pytestmark = pytest.mark.slow

PARTITIONS = 16
INSTANCES = [f"CLUSTER-{number}" for number in range(12)]
LINE = Line(
    id="CALLS", feature="calls", version="1.0", model=Model.METERED, count=UNITS_MAX,
    capacity=UNITS_MAX,
)  # fmt: skip
WANT = AccessRequest(host=Host("string", "h1"), wants=(Want("calls", "0", 1),))
CLIENTS = 3  # of each instance
DEADLINE_S = 3.0  # so that a machine that stalls costs nobody an answer
LATE_S_MAX = 20.0  # on a machine that does a dozen other things: far below a hang
RECOVER_S_MAX = 90.0
_names = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose nodes serve their own slots whoever else is away."""
    with Cluster(tmp_path_factory.mktemp("nodes"), full_coverage=False) as cluster:
        yield cluster


@dataclass
class Load:
    """Clients that ask for one unit after the other, each until it is answered under one id."""

    store: Store
    indexes: dict[str, CatalogueIndex]
    answered: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # instance, outcome
    slowest_s: float = 0.0
    ending: bool = False

    @asynccontextmanager
    async def of(
        self, instances: list[str], before: dict[str, int] | None = None
    ) -> AsyncIterator[None]:
        """Have clients at work; when they have ended, each answered unit is counted once.

        `before` is what was counted at their beginning, for a store that cannot be asked then.
        """
        before = before or await self.acked(instances)
        async with asyncio.TaskGroup() as clients:
            for instance in instances * CLIENTS:
                clients.create_task(self.client(instance))
            yield
            await self.goes_on(instances)
            self.ending = True
        after = await self.acked(instances)
        assert {each: after[each] - before[each] for each in instances} == self.answered
        assert self.slowest_s < self.store.lane.deadline_s + LATE_S_MAX

    async def client(self, instance: str) -> None:
        while not self.ending:
            name, reply = f"ask-{next(_names)}", None
            while reply is None:
                reply = await self._try(instance, name)
            assert units_of(reply) == 1
            self.answered[instance] += 1
            self.verdicts[reply.verdict] += 1

    async def _try(self, instance: str, name: str) -> Reply | None:
        index = self.indexes[instance]
        job = Job(index, index.resolve(WANT), name, TTL_MS, "f", "", "h1", INCREMENTAL)
        begun_s = time.monotonic()
        try:
            return await self.store.lane.submit(job)
        except Unavailable as error:
            self.refused[instance, error.outcome] += 1
            return None
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)

    async def goes_on(self, instances: list[str]) -> None:
        """Wait until each instance has been answered some times more."""
        wanted = {instance: self.answered[instance] + 20 for instance in instances}
        await self.until(
            lambda: all(self.answered[each] >= count for each, count in wanted.items())
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        await eventually(condition, RECOVER_S_MAX)

    async def acked(self, instances: list[str]) -> dict[str, int]:
        ledgers = {each: self.store.catalogues.keys(each).ledger for each in instances}
        hget = self.store.client.hget
        return {each: int(await hget(key, "acked|CALLS") or 0) for each, key in ledgers.items()}


@asynccontextmanager
async def opened(cluster: Cluster, data_dir: Path, **more: Any) -> AsyncIterator[Load]:
    """Open the cluster, with the instances in it."""
    settings = {"partitions": PARTITIONS, "deadline_s": DEADLINE_S, **more}
    async with open_store(cluster.url, data_dir, **settings) as store:
        indexes = {}
        for instance in INSTANCES:
            if await store.catalogues.read(instance) is None:
                await store.catalogues.put(Catalogue(id=instance, lines=(LINE,)))
            found = await store.catalogues.read(instance)
            assert found is not None
            indexes[instance] = found
        yield Load(store, indexes)


def slot_of(instance: str) -> int:
    return key_slot(PartitionKeys(partition_of(instance, PARTITIONS)).lease.encode())


def served_by(cluster: Cluster, server: Server) -> list[str]:
    return [instance for instance in INSTANCES if cluster.owner(slot_of(instance)) is server]


def test_all_nodes_are_asked_each_for_its_own(cluster: Cluster, tmp_path: Path) -> None:
    async def story() -> None:
        patient = opened(cluster, tmp_path, deadline_s=PATIENT_S)
        async with patient as load, load.of(INSTANCES):
            await load.goes_on(INSTANCES)
        assert len({cluster.owner(slot_of(each)).port for each in INSTANCES}) == 3
        assert load.refused == Counter()
        assert set(load.verdicts) == {Verdict.DONE}

    asyncio.run(story())


def test_a_slot_that_moves_is_refused_for_a_while_and_then_served_by_its_new_owner(
    cluster: Cluster, tmp_path: Path
) -> None:
    async def story() -> None:
        slot = slot_of(INSTANCES[0])
        moving = [each for each in INSTANCES if slot_of(each) == slot]
        others = [each for each in INSTANCES if each not in moving]
        async with opened(cluster, tmp_path) as load, load.of(INSTANCES):
            old = cluster.owner(slot)
            new = next(each for each in cluster.primaries() if each is not old)
            move = SlotMove(cluster, slot, new)
            await asyncio.to_thread(move.begin)
            await asyncio.to_thread(move.portion)
            await load.goes_on(others)  # half of the slot is here, half of it there
            await load.until(lambda: bool(load.refused))
            while await asyncio.to_thread(move.portion, 1_000):
                pass
            await asyncio.to_thread(move.finish)
            await load.goes_on(moving)
            assert cluster.owner(slot) is new
        assert {each for each, _ in load.refused} <= set(moving)
        assert {outcome for _, outcome in load.refused} == {"not_applied"}

    asyncio.run(story())


def test_a_primary_that_is_killed_costs_its_own_clients_some_refusals_and_nobody_a_count(
    cluster: Cluster, tmp_path: Path
) -> None:
    async def story() -> None:
        at_replica = opened(cluster, tmp_path, ack="replica", ack_replicas=1)
        async with at_replica as load, load.of(INSTANCES):
            victim = cluster.owner(slot_of(INSTANCES[0]))
            hit = served_by(cluster, victim)
            others = [each for each in INSTANCES if each not in hit]
            assert others
            victim.kill()
            await load.goes_on(others)
            await asyncio.to_thread(cluster.wait_promoted, victim)
            # Who took its place has no replica of its own yet, so nothing is as safe as asked for.
            told = [(instance, "applied_not_durable") for instance in hit]
            before = load.refused.copy()
            await load.until(lambda: all(load.refused[each] > before[each] for each in told))
            await asyncio.to_thread(victim.start)
            await load.goes_on(hit)
        assert {each for each, _ in load.refused} <= set(hit)
        assert load.verdicts[Verdict.REPLAYED] > 0
        cluster.wait_in_sync()

    asyncio.run(story())


def test_a_primary_that_is_killed_is_followed_by_its_replica_without_a_restart(
    cluster: Cluster, tmp_path: Path
) -> None:
    async def story() -> None:
        victim = cluster.owner(slot_of(INSTANCES[0]))
        hit = served_by(cluster, victim)
        async with opened(cluster, tmp_path) as load:
            cluster.wait_in_sync()
            before = await load.acked(hit)
            # At this level what was written last may be lost, so nobody asks while it dies.
            victim.kill()
            async with load.of(hit, before):
                await asyncio.to_thread(cluster.wait_promoted, victim)
            assert {told for _, told in load.refused} <= {"not_applied"}
        victim.start()
        cluster.wait_in_sync()

    asyncio.run(story())
