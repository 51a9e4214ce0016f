"""What a restore refuses, what it leaves alone, and what it does where it is disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.calls import Verdict
from gateway.core.errors import InvalidInput, Unavailable
from gateway.service.restoring import Busy
from gateway.store.asides import Asides
from gateway.store.keys import STAGED, InstanceKeys
from gateway.store.outbox import RedisOutbox
from gateway.store.restoring import Changed, Restoring
from tests.service.backup_house import (
    PARTITIONS,
    Site,
    backed_up,
    busy,
    leases,
    over_two,
    restored,
    restoring,
)


@pytest.mark.slow
def test_a_store_that_is_behind_is_replaced_without_force(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 5, "k1")
        older = await backed_up(a.store)
        await a.use("DEMO", "sessions", 5, "k2")
        newer = await backed_up(a.store)
        await restored(b.store, older)
        assert (await restored(b.store, newer)).of == {}  # b did nothing of its own
        assert await b.acked("DEMO") == 10
        await b.use("DEMO", "sessions", 1, "k3")
        losses = await restoring(b.store, newer).look()
        assert "1 requests decided" in losses.of["DEMO"].sentences

    over_two(tmp_path, story)


@pytest.mark.slow
def test_another_branch_is_not_taken_for_an_older_state(tmp_path: Path) -> None:
    """Counts alone would say that the file is ahead: it has more requests, but not these."""

    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 5, "k1")
        older = await backed_up(a.store)
        for number in range(9):
            await a.use("DEMO", "sessions", 5, f"a{number}")
        newer = await backed_up(a.store)
        await restored(b.store, older)
        await b.use("DEMO", "sessions", 1, "b1")
        losses = await restoring(b.store, newer).look()
        assert losses.of["DEMO"].sentences[0] == "1 requests decided"

    over_two(tmp_path, story)


@pytest.mark.slow
def test_a_repeat_after_the_same_restore_finds_nothing_to_forget(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await busy(a)
        file = await backed_up(a.store)
        await restored(b.store, file)
        version = await b.store.client.hget(b.store.catalogues.keys("DEMO").cat, "version")
        assert (await restored(b.store, file)).of == {}
        assert int(version) == 2001
        for name in b.names:
            assert await b.acked(name) == 7

    over_two(tmp_path, story)


@pytest.mark.slow
def test_decisions_stay_on_record_and_the_restore_is_on_it(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await busy(a)
        file = await backed_up(a.store)
        keys = a.store.catalogues.keys("DEMO")
        said = {"who": "bob", "what": "discard", "why": "", "upstream": "x", "units": ""}
        await a.store.client.xadd(keys.record, said)
        losses = await restored(a.store, file)
        assert losses.of["DEMO"].sentences == ("1 decisions of people (they stay on record)",)
        asides = Asides(a.store.topology, a.store.scripts, PARTITIONS)
        newest, former = await asides.decisions("DEMO")
        assert (newest.what, newest.who, former.who) == ("restore --force", "ann", "bob")

    over_two(tmp_path, story)


@pytest.mark.slow
def test_some_instances_only_and_no_other_is_touched(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await busy(a)
        file = await backed_up(a.store, ["SITE-1"])
        await a.use("SITE-1", "sessions", 1, "k9")
        await a.use("SITE-2", "sessions", 1, "k9")
        losses = await restored(a.store, file)
        assert losses.left_alone == ["DEMO", "SITE-2"]
        assert [await a.acked(name) for name in ("SITE-1", "SITE-2")] == [7, 8]
        assert (await a.use("SITE-2", "sessions", 1, "k9")).verdict is Verdict.REPLAYED
        with pytest.raises(InvalidInput, match="no instance 'DEMO'"):
            await restoring(b.store, file, ["DEMO"]).look()
        with pytest.raises(InvalidInput, match="no instance 'NONE'"):
            await backed_up(a.store, ["NONE"])

    over_two(tmp_path, story)


@pytest.mark.slow
def test_a_gateway_that_has_the_catalogue_cached_notices(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 5, "k1")
        file = await backed_up(a.store)
        cached = await a.store.catalogues.get("DEMO")
        await restored(a.store, file)
        assert await a.store.catalogues.get("DEMO") is cached
        await a.use("DEMO", "sessions", 5, "k2")  # refused as stale, read again
        assert (await a.store.catalogues.get("DEMO")).catalogue.version == 2001
        assert await a.acked("DEMO") == 10

    over_two(tmp_path, story)


@pytest.mark.slow
def test_a_gateway_that_runs_meanwhile_is_told_and_nothing_is_closed(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await busy(a)
        file = await backed_up(a.store)
        task = restoring(a.store, file)
        losses = await task.look()
        await a.use("SITE-2", "sessions", 1, "late")
        with pytest.raises(Changed, match="a gateway is running"):
            await task.run(leases(a.store), losses, 7, "ann", "a test")
        assert [await a.acked(name) for name in a.names] == [7, 7, 8]
        assert (await a.use("DEMO", "sessions", 10, "k1")).verdict is Verdict.REPLAYED

    over_two(tmp_path, story)


@pytest.mark.slow
def test_who_forwards_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        file = await backed_up(a.store)
        outbox = RedisOutbox(a.store.topology, a.store.scripts, PARTITIONS)
        partition = a.store.catalogues.keys("DEMO").partition
        assert await outbox.take_lease(partition, "a:1", 9_000)
        task = restoring(a.store, file, lease_wait_s=0.0)
        losses = await task.look()
        with pytest.raises(Busy, match="Nothing was changed"):
            await task.run(leases(a.store), losses, 7, "ann", "a test")
        assert await a.store.client.hget(a.store.catalogues.keys("DEMO").cat, "version") == b"1"

    over_two(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["used", "seen", "record"])
def test_what_was_staged_and_is_lost_is_not_swapped_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A replica that took over has not all of it: the instance stays closed, the next run mends."""

    async def story(a: Site, b: Site) -> None:
        await busy(a)
        keys = a.store.catalogues.keys("DEMO")
        said = {"who": "bob", "what": "discard", "why": "", "upstream": "x", "units": ""}
        await a.store.client.xadd(keys.record, said)
        file = await backed_up(a.store)
        swap = Restoring.swap

        async def taken_over(self: Restoring, instance: str, *args: Any) -> None:
            if instance == "DEMO":
                await self.client.delete(InstanceKeys(instance, PARTITIONS, STAGED).part(part))
            await swap(self, instance, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Restoring, "swap", taken_over)
            with pytest.raises(Unavailable, match="lost what was staged"):
                await restored(a.store, file)
        assert await a.store.catalogues.read("DEMO") is None
        await restored(a.store, file)
        assert await a.acked("DEMO") == 7

    over_two(tmp_path, story)


@pytest.mark.slow
def test_a_closed_instance_is_in_nobodys_service_nor_backup(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await busy(a)
        task = restoring(a.store, await backed_up(a.store))
        await task.look()
        await task._close(["DEMO"])
        with pytest.raises(AssertionError):  # read anew, there is no such instance
            await a.use("DEMO", "sessions", 1, "k9")
        with pytest.raises(InvalidInput, match="being restored"):
            await backed_up(a.store)

    over_two(tmp_path, story)
