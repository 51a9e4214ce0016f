"""Who folds old days: every instance once a day, one process at a time, in bounded visits."""

from __future__ import annotations

from pathlib import Path

from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue
from gateway.service.folding import Folder
from gateway.upstream.folding import FOLD_AGAIN_S, FOLD_EVERY_S, FOLD_TROUBLE_S
from gateway.upstream.forwarder import Forwarder
from tests.upstream.works import BEGIN_MS, DAY_MS, Works, at_works, eventually

VISITS = 4


class Visits:
    """What a forwarder's fold was asked for, and when."""

    def __init__(self, works: Works) -> None:
        self.works = works
        self.made: list[tuple[str, float]] = []
        self.more: dict[str, int] = {}  # how often an instance says that there is more
        self.broken: set[str] = set()

    async def fold(self, instance: str) -> bool:
        self.made.append((instance, self.works.clock.now_s))
        if instance in self.broken:
            raise Unavailable("not now", "not_applied")
        self.more[instance] = self.more.get(instance, 0) - 1
        return self.more[instance] >= 0

    def of(self, instance: str) -> list[float]:
        return [at_s for name, at_s in self.made if name == instance]

    def forwarder(self) -> Forwarder:
        made = self.works.forwarder(routes=[])
        made.fold = self.fold
        return made


async def provision(works: Works, *instances: str) -> None:
    """Provision instances without any upstream."""
    for instance in instances:
        await works.store.catalogues.put(Catalogue(id=instance))


def test_every_instance_is_visited_once_a_day_without_an_upstream_too(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await provision(works, "A", "B", "C")
        visits = Visits(works)
        forwarder = visits.forwarder()
        begun_s = works.clock.now_s
        forwarder.start()
        await eventually(lambda: len(visits.made) >= 3 * VISITS)
        await forwarder.stop()
        for instance in "ABC":
            days = [(at_s - begun_s) / FOLD_EVERY_S for at_s in visits.of(instance)[:VISITS]]
            assert [round(day, 2) for day in days] == list(range(VISITS))

    at_works(tmp_path, story)


def test_where_more_is_to_be_folded_there_is_another_visit_after_a_pause(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await provision(works, "A", "B")
        visits = Visits(works)
        visits.more["A"] = 2
        forwarder = visits.forwarder()
        forwarder.start()
        await eventually(lambda: len(visits.of("B")) >= 2)
        await forwarder.stop()
        first, second, third, fourth = visits.of("A")[:4]
        assert second - first >= FOLD_AGAIN_S
        assert third - second >= FOLD_AGAIN_S
        assert third - first < 3 * FOLD_AGAIN_S
        assert fourth - first >= FOLD_EVERY_S
        assert visits.of("B")[1] - visits.of("B")[0] >= FOLD_EVERY_S

    at_works(tmp_path, story)


def test_one_that_fails_keeps_nobody_waiting_and_is_visited_again(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await provision(works, "A", "B", "C")
        visits = Visits(works)
        visits.broken = {"B"}
        forwarder = visits.forwarder()
        forwarder.start()
        await eventually(lambda: len(visits.of("B")) >= 3)
        visits.broken = set()
        await eventually(lambda: len(visits.of("A")) >= 2 and len(visits.of("C")) >= 2)
        await forwarder.stop()
        first, second, third = visits.of("B")[:3]
        assert FOLD_TROUBLE_S <= second - first < FOLD_EVERY_S / 2
        assert FOLD_TROUBLE_S <= third - second < FOLD_EVERY_S / 2
        assert visits.of("A")[1] - visits.of("A")[0] >= FOLD_EVERY_S

    at_works(tmp_path, story)


def test_a_partition_leased_elsewhere_is_left_to_whoever_has_it(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await provision(works, "A")
        partition = works.store.catalogues.keys("A").partition
        await works.outbox().take_lease(partition, "other:1", 60_000)
        visits = Visits(works)
        forwarder = visits.forwarder()
        begun_s = works.clock.now_s
        forwarder.start()
        await eventually(lambda: works.clock.now_s > begun_s + 4 * FOLD_AGAIN_S)
        assert visits.made == []
        await works.outbox().drop_lease(partition, "other:1")
        await eventually(lambda: len(visits.made) >= 1)
        await forwarder.stop()

    at_works(tmp_path, story)


def test_a_drain_folds_nothing(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await provision(works, "A")
        visits = Visits(works)
        assert await visits.forwarder().drain() == []
        assert visits.made == []

    at_works(tmp_path, story)


def test_days_grow_old_while_a_forwarder_runs_and_are_folded(tmp_path: Path) -> None:
    """From the clock of the store to the record of an instance that nobody asks anything."""

    async def story(works: Works) -> None:
        await provision(works, "QUIET")
        keys = works.store.catalogues.keys("QUIET")
        await works.store.client.hset(keys.ledger, "since_ms", BEGIN_MS - DAY_MS)
        await works.store.client.hset(keys.days(202512), "L|20251231|u", 42)
        await works.store.client.hset(keys.days(202601), "L|20260101|u", 1)

        async def sweep(instance: str) -> None:
            now_ms = await works.store.client.get("gw:clock")
            await works.store.client.hset(keys.ledger, "last_ms", now_ms or 0)

        far_ms = 4_000_000_000_000
        folder = Folder(works.store.catalogues, sweep, 1, lambda: far_ms)
        forwarder = works.forwarder(routes=[])
        forwarder.fold = folder.fold
        begun_s = works.clock.now_s
        forwarder.start()
        days = 31 * DAY_MS / 1000  # of January
        await eventually(lambda: works.clock.now_s > begun_s + days - 2 * FOLD_EVERY_S)
        assert await works.store.client.hlen(keys.month(202512)) == 0
        await eventually(lambda: works.clock.now_s > begun_s + days + 2 * FOLD_EVERY_S)
        await forwarder.stop()
        assert await works.store.client.hgetall(keys.month(202512)) == {b"L|202512|u": b"42"}
        assert await works.store.client.hgetall(keys.days(202601)) == {b"L|20260101|u": b"1"}

    at_works(tmp_path, story)
