"""A store of which a part is away: what the rest of it has is forwarded, swept and folded."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue
from gateway.core.ports import PartlyUnavailable, Places
from gateway.store.keys import partition_of
from gateway.store.outbox import RedisOutbox
from gateway.upstream.folding import FOLD_EVERY_S, FOLD_TROUBLE_S, FoldRounds
from tests.upstream.works import Works, at_works, eventually

HERE, AWAY = "DEMO", "AWAY-1"


class Parted(RedisOutbox):
    """An outbox that is told nothing of one partition, while `away`."""

    away = True

    def part(self, places: Places) -> Places:
        lost = partition_of(AWAY, self.partitions)
        assert lost != partition_of(HERE, self.partitions)
        if Parted.away:
            raise PartlyUnavailable({at: names for at, names in places.items() if at != lost})
        return places

    async def dirty(self) -> Places:
        return self.part(await super().dirty())

    async def due(self, now_ms: int) -> Places:
        return self.part({partition_of(name, self.partitions): [name] for name in (HERE, AWAY)})

    async def instances(self) -> Places:
        return self.part(await super().instances())


@pytest.fixture(autouse=True)
def _away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parted, "away", True)


class Refusing(RedisOutbox):
    """An outbox that tells of everything, and gives no lease of one partition: that has nobody to
    copy what it writes to, or no memory left.
    """

    async def due(self, now_ms: int) -> Places:
        return {partition_of(name, self.partitions): [name] for name in (AWAY, HERE)}

    async def take_lease(self, partition: int, holder: str, ttl_ms: int) -> bool:
        if partition == partition_of(AWAY, self.partitions):
            raise Unavailable("The store refuses the call", "not_applied")
        return await super().take_lease(partition, holder, ttl_ms)


def parted(works: Works) -> Parted:
    return Parted(works.store.topology, works.store.scripts, works.store.partitions)


def test_what_is_told_of_is_forwarded_and_a_drain_does_not_take_it_for_all(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        for instance in (HERE, AWAY):
            await works.provision(instance)
            await works.use("sessions", 42, instance=instance)
        forwarder = works.forwarder(outbox=parted(works))
        with pytest.raises(Unavailable):
            await forwarder.drain(lease_wait_s=3)
        assert await works.ledger(HERE) == {"forwarded": 42}
        assert await works.ledger(AWAY) == {"open": 42}
        Parted.away = False
        assert await forwarder.drain() == []
        assert await works.ledger(AWAY) == {"forwarded": 42}

    at_works(tmp_path, story)


def test_what_is_away_is_asked_for_often_and_the_others_keep_their_interval(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        interval_s = works.config.interval_s
        for instance in (HERE, AWAY):
            await works.provision(instance)
            await works.use("sessions", 1, instance=instance)
        forwarder = works.forwarder(outbox=parted(works))
        with capture_logs() as logs:
            begun_s = works.clock.now_s
            forwarder.start()
            await eventually(lambda: len(works.parent.posts) == 1)
            await works.use("sessions", 1, instance=HERE)
            await eventually(lambda: len(works.parent.posts) == 2)
            assert interval_s <= works.parent.posted_s[1] - begun_s < 2 * interval_s
            back_s, Parted.away = works.clock.now_s, False
            await eventually(lambda: len(works.parent.posts) == 3)
            assert works.parent.posted_s[2] - back_s < interval_s / 2
            await eventually(lambda: any(each["event"] == "work_resumed" for each in logs))
        assert await works.ledger(AWAY) == {"forwarded": 1}
        changes = [each["event"] for each in logs if each["event"].startswith("work_")]
        assert changes == ["work_interrupted", "work_resumed"]
        await forwarder.stop()

    at_works(tmp_path, story)


def test_a_batch_that_could_be_filled_is_seen_where_it_is_told_of(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        for instance in (HERE, AWAY):
            await works.provision(instance)
            await works.use("sessions", 1, instance=instance)
        assert await parted(works).crowded("parent", 1) == {HERE}
        Parted.away = False
        assert await parted(works).crowded("parent", 1) == {HERE, AWAY}

    at_works(tmp_path, story)


def test_those_who_are_told_of_are_swept_and_folded(tmp_path: Path) -> None:
    """What is away is folded as soon as it is back, not a day later."""

    async def story(works: Works) -> None:
        swept: list[str] = []
        folded: dict[str, list[float]] = {HERE: [], AWAY: []}

        async def sweep(instance: str) -> None:
            swept.append(instance)

        async def fold(instance: str) -> bool:
            folded[instance].append(works.clock.now_s)
            return False

        for instance in (HERE, AWAY):
            await works.store.catalogues.put(Catalogue(id=instance))
        forwarder = works.forwarder(outbox=parted(works), routes=[], sweep=sweep)
        forwarder.fold = fold
        forwarder.start()
        await eventually(lambda: len(swept) > 2 and len(folded[HERE]) > 2)
        assert set(swept) == {HERE}
        assert folded[AWAY] == []
        Parted.away = False
        await eventually(lambda: AWAY in swept and bool(folded[AWAY]))
        assert folded[AWAY][0] - folded[HERE][0] < FOLD_EVERY_S
        await forwarder.stop()

    at_works(tmp_path, story)


def test_a_partition_that_refuses_its_lease_keeps_no_other_from_being_swept_and_folded(
    tmp_path: Path,
) -> None:
    async def story(works: Works) -> None:
        swept: list[str] = []
        folded: list[str] = []

        async def sweep(instance: str) -> None:
            swept.append(instance)

        async def fold(instance: str) -> bool:
            folded.append(instance)
            return False

        for instance in (HERE, AWAY):
            await works.store.catalogues.put(Catalogue(id=instance))
        store = works.store
        outbox = Refusing(store.topology, store.scripts, store.partitions)
        forwarder = works.forwarder(outbox=outbox, routes=[], sweep=sweep)
        forwarder.fold = fold
        with capture_logs() as logs:
            forwarder.start()
            await eventually(lambda: len(swept) > 2 and bool(folded))
            await forwarder.stop()
        assert set(swept) == set(folded) == {HERE}
        assert [each["event"] for each in logs].count("work_interrupted") == 1

        for first in (0.0, 0.99):  # whichever of the two is visited first
            folded.clear()
            rounds = FoldRounds(
                outbox, forwarder.leases, fold, lambda: 1.0, lambda at=first: at, lambda: False
            )
            with pytest.raises(Unavailable):
                await rounds.make()
            assert folded == [HERE]
            assert rounds.pause_s == FOLD_TROUBLE_S
            with pytest.raises(Unavailable):  # only what failed is visited again
                await rounds.make()
            assert folded == [HERE]

    at_works(tmp_path, story)


def test_those_who_are_told_of_are_folded_and_all_are_asked_for_again(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        folded: list[str] = []

        async def fold(instance: str) -> bool:
            folded.append(instance)
            return False

        for instance in (HERE, AWAY):
            await works.store.catalogues.put(Catalogue(id=instance))
        leases = works.forwarder(routes=[]).leases
        rounds = FoldRounds(parted(works), leases, fold, lambda: 1.0, lambda: 0.0, lambda: False)
        with pytest.raises(PartlyUnavailable):
            await rounds.make()
        assert (folded, rounds.pause_s) == ([HERE], FOLD_TROUBLE_S)
        Parted.away = False
        await rounds.make()
        assert sorted(folded) == sorted([HERE, HERE, AWAY])

    at_works(tmp_path, story)
