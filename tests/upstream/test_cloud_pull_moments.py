"""Pulls at awkward moments: by several processes, near a boundary, past an end, detached."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.core.model import Attachment
from gateway.core.provisioning_change import next_catalogue
from gateway.upstream.leases import Lease
from gateway.upstream.licensespring_sync import AGAIN_S
from tests.upstream.cloud_house import INSTANCE, LINES, NAME, House, at_house, line
from tests.upstream.cloud_syncs import after_each_look, syncing

pytestmark = pytest.mark.slow
DAY_S = 86_400.0


async def apply(house: House, *upstreams: str) -> None:
    """Apply the file that there was at first, with these upstreams."""
    index = await house.store.catalogues.read(INSTANCE)
    assert index is not None
    attached = tuple(Attachment(name) for name in upstreams)
    declared = msgspec.structs.replace(index.catalogue, version=0, lines=LINES, upstreams=attached)
    await house.store.catalogues.put(next_catalogue(index.catalogue, declared))


def test_what_another_process_has_synced_meanwhile_is_not_asked_about_again(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        sync = syncing(house.forwarder())
        assert [*(await sync.due((), everything=False)).values()] == [[INSTANCE]]
        await house.drain()
        asked = house.asked("check")
        index = await house.store.catalogues.read(INSTANCE)
        assert index is not None
        await sync.pull(Lease(0, "nobody", house.clock.now_s + 15), index)
        assert house.asked("check") == asked
        # Nor is it lost: when its time has come, it is asked about.
        await house.clock.sleep(3_600)
        house.others_use(2)
        await house.drain()
        assert await house.elsewhere() == 2

    at_house(tmp_path, story)


def test_who_was_suspended_does_not_put_old_limits_in_the_place_of_newer_ones(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        forwarder = house.forwarder()

        async def overtaken() -> None:
            if not (await house.line()).pulled:
                await house.lapse_leases()
                house.say(max_consumptions=5)
                await house.drain()
                await house.clock.sleep(20)

        after_each_look(forwarder, overtaken)
        await forwarder.drain()
        assert (await house.line()).count == 5
        assert await house.use("main", 10) == 5

    at_house(tmp_path, story)


def test_a_total_near_a_boundary_is_asked_for_again_behind_it(tmp_path: Path) -> None:
    """Or a sync once a day, at midnight, would never learn what others consume."""

    async def story(house: House) -> None:
        house.say(reset_consumption=True, consumption_period="daily")
        await house.provision()
        house.others_use(3)
        forwarder = house.forwarder()
        forwarder.start()
        await house.clock.sleep(70)  # and it is another day
        house.others_use(5)
        while await house.elsewhere() == 0:
            await house.clock.sleep(10)
        await forwarder.stop()
        assert await house.elsewhere() == 5
        assert house.clock.now_s - DAY_S < 120 + 2 * AGAIN_S
        assert house.asked("check") < 10

    at_house(tmp_path, story, begin_s=DAY_S - 60)


def test_an_end_that_is_moved_into_the_past_stops_grants_and_not_what_waits(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        assert await house.use("main", 5) == 5
        house.say(validity_period="2026-01-01T00:00:00Z")
        house.follow(add=["500"])
        await house.drain()
        assert await house.use("main", 5) == 0
        await house.settled()
        assert (house.arrived(), await house.sums()) == ([5], {"forwarded": 5})
        house.say(validity_period=None)
        await house.drain()
        assert await house.use("main", 5) == 5

    at_house(tmp_path, story)


def test_what_is_detached_is_asked_about_no_more_and_nothing_is_kept_of_it(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        await house.use("main", 7)
        await house.drain()
        house.admin_resets()
        forwarder = house.forwarder()
        await forwarder.drain()
        assert await house.elsewhere() == -7
        await apply(house, "collector")
        asked = house.asked("check")
        assert await house.elsewhere() == 0
        forwarder.start()
        await house.clock.sleep(2 * 3_600)
        await forwarder.stop()
        await house.drain()
        assert house.asked("check") == asked
        assert await house.book.asking([INSTANCE], NAME) == []
        # The file says what holds: 1,000, of which 7 are used.
        assert await house.use("main", 2_000) == 993

    at_house(tmp_path, story)


def test_what_is_attached_again_begins_anew(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10, reset_consumption=True, consumption_period="monthly")
        await house.provision()
        await house.use("main", 4)
        await house.drain()
        await apply(house, "collector")
        assert ((await house.line()).count, await house.elsewhere()) == (1_000, 0)
        await house.use("main", 5)  # of the file's
        house.others_use(1)
        await apply(house, "collector", NAME)
        assert (await house.line()).count == 1_000
        await house.drain()
        # The cloud has 4 and 1 in this month; what it was never told of is not in its total.
        assert ((await house.line()).count, house.total()) == (10, 5)
        assert await house.use("main", 99) == 5
        await house.drain()
        assert house.total() == 10
        assert (await house.known()).code == "ok"

    at_house(tmp_path, story)


def test_a_collector_that_is_detached_leaves_what_the_cloud_said(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        await apply(house, "collector", NAME)
        house.others_use(3)
        await house.drain()
        await apply(house, NAME)
        assert ((await house.line()).count, await house.elsewhere()) == (10, 3)

    at_house(tmp_path, story)


def test_a_change_of_the_rule_of_resets_leaves_doubts_decidable(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(line("L1", "main"))
        await house.use("main", 6)
        await house.drain()
        house.say(reset_consumption=True, consumption_period="monthly")
        await house.drain()
        assert (await house.known()).others_ms == 0
        await house.use("main", 2)
        house.follow(add=["close applied"])
        await house.settled()
        assert (house.arrived(), await house.aside()) == ([6, 2], [])
        assert await house.sums() == {"forwarded": 8}

    at_house(tmp_path, story)
