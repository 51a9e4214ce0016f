"""What the LicenseSpring cloud says is taken over: limits, resets, what others consumed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.errors import Unavailable
from gateway.core.model import Model, Reset
from gateway.core.provisioning_change import next_catalogue, not_in_force
from gateway.core.usage import Batch
from gateway.service.syncing import heard_of
from gateway.upstream.leases import Lease
from tests.upstream.cloud_books import Counted
from tests.upstream.cloud_house import INSTANCE, KEY, LINES, NAME, House, at_house, line

MONTH_S = 31 * 86_400.0
HOUR_S = 3_600.0
CONFIG = """
[redis]
partitions = 4
[[upstream]]
name = "cloud"
kind = "licensespring"
url = "http://127.0.0.1:9"
api_key_file = "api"
shared_key_file = "shared"
hardware_id = "gateway-1"
"""


def test_pulled_limits_raise_and_lower_the_cap(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(
            max_consumptions=10,
            allow_overages=True,
            max_overages=2,
            reset_consumption=True,
            consumption_period="monthly",
            validity_period="2026-12-31T00:00:00Z",
            pages={"max_consumptions": 5, "allow_unlimited_consumptions": True},
        )
        await house.provision()
        await house.drain()
        main, pages = await house.line("L1"), await house.line("L2")
        assert (main.count, main.overdraft, main.capacity, main.reset) == (
            *(10, "2", 12),
            Reset.MONTHLY,
        )
        assert main.expires_ms == 1_798_675_200_000
        assert (pages.count, pages.unlimited, pages.pulled) == (None, True, NAME)
        assert await house.use("main", 13) == 12
        assert await house.drain() == []
        house.say(max_consumptions=15, allow_overages=False)
        await house.drain()
        assert await house.use("main", 13) == 3
        house.say(max_consumptions=5)
        await house.drain()
        assert await house.use("main", 1) == 0
        assert await house.sums() == {"forwarded": 12, "parked": 3}

    at_house(tmp_path, story)


def test_what_others_consume_is_not_available_here(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        await house.use("main", 4)
        house.others_use(3)
        await house.drain()
        assert await house.elsewhere() == 3
        assert await house.use("main", 9) == 3
        await house.drain()
        house.admin_resets()
        await house.drain()
        assert await house.elsewhere() == -7
        assert (await house.known()).elsewhere == -7
        assert await house.use("main", 99) == 10
        await house.drain()
        assert house.total() == 10
        assert await house.sums() == {"forwarded": 17}

    at_house(tmp_path, story)


@pytest.mark.slow
def test_units_that_wait_are_not_taken_for_what_others_gave_back(tmp_path: Path) -> None:
    """Blocked and parked units are used here and unknown there."""

    async def story(house: House) -> None:
        house.say(max_consumptions=1_000)
        await house.provision()
        house.follow(add=["code license_not_enough_consumptions"])
        await house.use("main", 4)
        await house.drain()
        assert await house.blocked() == {"L1": 4}
        assert await house.elsewhere() == 0
        assert (await house.known()).unsynced == 4

    at_house(tmp_path, story)


def test_a_delta_across_a_reset_is_booked_there_in_the_new_period_and_told(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10, reset_consumption=True, consumption_period="monthly")
        await house.provision()
        await house.drain()
        assert await house.use("main", 6) == 6
        await house.clock.sleep(600)  # and it is another month
        assert await house.use("main", 3) == 3
        await house.drain()
        assert house.arrived() == [9]
        assert house.total() == 9
        days = await house.store.client.hgetall(house.store.catalogues.keys(INSTANCE).days(202601))
        assert days[b"L1|20260131|u"] == b"6"
        known = await house.known()
        assert (known.late, known.elsewhere) == (6, 6)
        assert await house.use("main", 99) == 1
        # It is no other server's doing, so a doubt can still be decided.
        house.follow(add=["close applied"])
        await house.settled()
        assert house.arrived() == [9, 1]
        assert await house.aside() == []

    at_house(tmp_path, story, begin_s=MONTH_S - 300)


@pytest.mark.slow
@pytest.mark.parametrize("noted", [False, True])
def test_a_delta_across_a_reset_is_told_once_also_in_a_doubt(tmp_path: Path, noted: bool) -> None:
    """Its answer is lost, or whoever had it ends before the batch is settled."""

    async def story(house: House) -> None:
        house.say(max_consumptions=10, reset_consumption=True, consumption_period="monthly")
        await house.provision()
        await house.drain()
        await house.use("main", 6)
        await house.clock.sleep(600)  # and it is another month
        if noted:
            forwarder = house.forwarder()
            forwarder.delivery.outcomes.settle = _never  # type: ignore[method-assign]
            await forwarder.drain(lease_wait_s=0.0)
            assert (await house.known()).late == 6
        else:
            house.follow(add=["close applied"])
        await house.settled()
        assert house.arrived() == [6]
        known = await house.known()
        assert (known.late, known.elsewhere, known.others_ms) == (6, 6, 0)

    at_house(tmp_path, story, begin_s=MONTH_S - 300)


@pytest.mark.slow
def test_a_refused_delta_goes_after_the_reset(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10, reset_consumption=True, consumption_period="monthly")
        await house.provision()
        await house.drain()
        house.others_use(8)
        await house.use("main", 6)
        await house.drain()
        assert await house.blocked() == {"L1": 6}
        assert (await house.known()).code == "license_not_enough_consumptions"
        forwarder = house.forwarder()
        forwarder.start()
        while not house.arrived():
            await house.clock.sleep(5)
        # Not at the next interval, but as soon as the total begins anew.
        assert house.clock.now_s - MONTH_S < 60
        await forwarder.stop()
        assert house.arrived() == [6]
        assert (await house.sums())["forwarded"] == 6

    at_house(tmp_path, story, begin_s=MONTH_S - 300)


@pytest.mark.slow
def test_a_file_that_is_applied_again_leaves_what_was_pulled(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10, reset_consumption=True, consumption_period="daily")
        await house.provision()
        await house.drain()
        index = await house.store.catalogues.read(INSTANCE)
        assert index is not None
        current = index.catalogue
        declared = msgspec.structs.replace(current, version=0, lines=LINES)
        merged = next_catalogue(current, declared)
        assert merged == current
        (told, _) = not_in_force(current, declared)
        assert told.startswith("= instance DEMO, line L1: the cloud decides, not this file:")
        assert "count 1000 -> 10" in told
        other = msgspec.structs.replace(LINES[0].licensespring, license_key="KEY-2")
        moved = msgspec.structs.replace(LINES[0], licensespring=other)
        merged = next_catalogue(current, msgspec.structs.replace(declared, lines=(moved,)))
        assert merged.lines[0].count == 1_000
        # Nobody sells it any more: the file says what holds.
        detached = msgspec.structs.replace(declared, upstreams=())
        merged = next_catalogue(current, detached)
        (main, _) = merged.lines
        assert (main.count, main.pulled, main.reset) == (1_000, "", Reset.NONE)
        assert main.reset_epoch == current.version + 1
        assert not_in_force(current, detached) == []

    at_house(tmp_path, story)


@pytest.mark.slow
def test_a_change_by_a_client_is_told_to_the_cloud_and_not_pulled_away(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision(line("L1", "main", client_overages=True))
        await house.drain()
        index = await house.store.catalogues.read(INSTANCE)
        assert index is not None
        mine = msgspec.structs.replace(index.line["L1"], overdraft="5", capacity=15)
        await house.store.catalogues.put(msgspec.structs.replace(index.catalogue, lines=(mine,)))
        await house.drain()  # with nothing to send the change waits
        assert (await house.line()).overdraft == "5"
        await house.use("main", 12)
        await house.drain()
        assert house.total() == 12
        assert (await house.line()).overdraft == "5"
        house.say(allow_overages=False, max_overages=0)
        await house.drain()
        assert (await house.line()).overdraft == "0"

    at_house(tmp_path, story)


@pytest.mark.slow
def test_what_was_known_of_one_licence_says_nothing_of_another(tmp_path: Path) -> None:
    """Others had brought it to the very total that we had brought the first one to."""

    async def story(house: House) -> None:
        await house.provision(line("L1", "main"))
        await house.drain()
        await house.use("main", 5)
        await house.drain()
        assert (await house.known()).others_ms == 0
        house.licences.append({**house.licences[0], "id": 78, "key": "KEY-2"})
        house.say()
        house.cloud.books.count(Counted("add", "KEY-2", "", 5, "another", house.now_ms()))
        other = msgspec.structs.replace(LINES[0].licensespring, license_key="KEY-2")
        await house.provision(line("L1", "main", licensespring=other))
        await house.use("main", 1)
        await house.drain()
        assert (await house.known()).others_ms > 0
        # What it used of the first one is no use of the second one's.
        assert (await house.known()).elsewhere == 0

    at_house(tmp_path, story)


@pytest.mark.slow
def test_seats_are_those_of_the_licence(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(is_floating=True, floating_users=4)
        seats = line("L3", "seats", model=Model.CONCURRENT, count=2, capacity=2, undo_ms=0)
        await house.provision(*LINES, seats)
        await house.drain()
        found = await house.line("L3")
        assert (found.count, found.capacity, found.reset) == (4, 4, Reset.NONE)

    at_house(tmp_path, story)


@pytest.mark.slow
def test_an_instance_is_synced_by_its_schedule_and_when_it_is_asked(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.provision(instance="OTHER", upstream="")
        forwarder = house.forwarder()
        forwarder.start()
        begun_s = house.clock.now_s

        async def synced(times: int) -> float:
            while (
                house.asked("check") < 1 + times
                or (await house.book.schedule(INSTANCE, NAME)).begun_ms == 0
            ):
                await house.clock.sleep(5)
            return house.clock.now_s - begun_s

        assert await synced(1) < 60
        assert HOUR_S <= await synced(2) < HOUR_S + 60
        await house.book.ask(INSTANCE, NAME)
        assert await synced(3) < HOUR_S + 120
        await house.book.set_schedule(INSTANCE, NAME, enabled=True, hours=0, minutes=10)
        at_s = await synced(4)
        assert HOUR_S + 600 <= at_s < HOUR_S + 800
        await house.book.set_schedule(INSTANCE, NAME, enabled=False, hours=None, minutes=None)
        await house.clock.sleep(2 * HOUR_S)
        assert house.asked("check") == 5
        await house.book.ask(INSTANCE, NAME)
        assert await synced(5) - at_s < 2 * HOUR_S + 120
        schedule = await house.book.schedule(INSTANCE, NAME)
        assert (schedule.hours, schedule.minutes, schedule.asked) == (0, 10, 2)
        await forwarder.stop()

    at_house(tmp_path, story)


@pytest.mark.slow
def test_what_was_heard_is_listed_for_people(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.others_use(3)
        await house.use("main", 4)
        await house.drain()
        catalogues = house.store.catalogues
        told = [each async for each in heard_of(catalogues, house.book, {NAME})]
        assert [(each.line, each.known.total, each.known.elsewhere) for each in told] == [
            ("L1", 7, 3),
            ("L2", 0, 0),
        ]
        assert [each async for each in heard_of(catalogues, house.book, {"other"})] == []

    at_house(tmp_path, story)
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    words = ["forward", "synced", "--config", str(config), "--data-dir", str(tmp_path)]
    shown = CliRunner().invoke(main, [*words, "--format", "json"])
    assert shown.exit_code == 0, shown.output
    assert [each["elsewhere"] for each in json.loads(shown.stdout)["lines"]] == [3, 0]
    assert KEY not in shown.output
    assert "L2" in CliRunner().invoke(main, words).stdout


async def _never(lease: Lease, batch: Batch) -> None:
    raise Unavailable("The store does not answer", "not_applied")
