"""Syncs while other things happen: a changed catalogue, doubts, a cloud that is slow or away."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.model import FloatingLicense, Reset
from gateway.store.catalogues import CatalogueConflict
from gateway.upstream.licensespring_calls import CALLS_PER_S_MAX
from tests.upstream.cloud_house import INSTANCE, LICENCE, NAME, PRODUCT, House, at_house, line
from tests.upstream.cloud_syncs import after_each_look, syncing

pytestmark = pytest.mark.slow
HOUR_S = 3_600.0
MIX = {"": 6, "500": 1, "429": 1, "close": 1, "close applied": 2, "half applied": 2, "garbage": 1}


async def change(house: House, **changes: Any) -> None:
    """Change the line L1, whatever it was."""
    index = await house.store.catalogues.read(INSTANCE)
    assert index is not None
    changed = msgspec.structs.replace(index.line["L1"], **changes)
    lines = tuple(changed if each.id == "L1" else each for each in index.catalogue.lines)
    await house.store.catalogues.put(msgspec.structs.replace(index.catalogue, lines=lines))


def with_key(number: int, key: str = "") -> FloatingLicense:
    return FloatingLicense(77 + number, PRODUCT, "", key or f"KEY-{number}")


def many(house: House, number: int) -> list[Any]:
    """Let the cloud have so many licences, and give a line for each."""
    house.licences = [
        {**LICENCE, "id": 77 + each, "key": f"KEY-{each}"} for each in range(1, number + 1)
    ]
    house.say()
    return [
        line(f"L{each}", f"f{each}", licensespring=with_key(each), number=each)
        for each in range(1, number + 1)
    ]


def test_overages_that_a_client_changes_while_limits_are_pulled_are_not_lost(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision(line("L1", "main", client_overages=True))
        await house.drain()
        forwarder = house.forwarder()

        async def once() -> None:
            if (await house.line()).overdraft == "0":
                await change(house, overdraft="5", capacity=15)

        after_each_look(forwarder, once)
        house.say(max_consumptions=12)
        await forwarder.drain()
        found = await house.line()
        assert (found.count, found.overdraft, found.capacity) == (12, "5", 17)
        await house.use("main", 1)
        await house.drain()
        assert (await house.line()).overdraft == "5"
        assert await house.use("main", 16) == 16

    at_house(tmp_path, story)


def test_a_line_that_stands_for_another_licence_since_it_was_asked_about_is_left_alone(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        forwarder = house.forwarder()
        after_each_look(forwarder, lambda: change(house, licensespring=with_key(0, "KEY-2")))
        house.others_use(4)
        await forwarder.drain()
        found = await house.line()
        assert (found.count, found.pulled) == (1_000, "")
        assert await house.elsewhere() == 0

    at_house(tmp_path, story)


def test_what_is_detached_while_it_is_asked_about_is_left_alone(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        forwarder = house.forwarder()
        after_each_look(forwarder, lambda: house.provision(upstream=""))
        await forwarder.drain()
        assert (await house.line()).count == 1_000

    at_house(tmp_path, story)


@pytest.mark.parametrize("fault", ["500", "429", "close", "garbage"])
def test_a_cloud_that_is_away_is_not_asked_about_every_licence(tmp_path: Path, fault: str) -> None:
    async def story(house: House) -> None:
        await house.provision(*many(house, 6))
        house.follow(check=[fault] * 99)
        assert await house.drain() == []
        assert house.asked("check") == 3
        schedule = await house.book.schedule(INSTANCE, NAME)
        assert schedule.begun_ms == 0  # it is not over

    at_house(tmp_path, story)


def test_calls_keep_to_what_one_address_may_ask(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(*many(house, 6))
        begun_s = house.clock.now_s
        await house.drain()
        assert len(house.cloud.calls) == 18  # each is asked about, activated, and asked about
        assert house.clock.now_s - begun_s >= 17 / CALLS_PER_S_MAX

    at_house(tmp_path, story)


def test_one_licence_that_cannot_be_read_does_not_keep_the_others(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(*many(house, 6))
        house.follow(check=["500", "500", "", "", "500", "500"])
        await house.drain()
        pulled = [bool((await house.line(f"L{each}")).pulled) for each in range(1, 7)]
        assert pulled == [False, False, True, False, False, True]

    at_house(tmp_path, story)


def test_what_a_slow_cloud_tells_is_taken_over_while_it_is_fresh(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(*many(house, 6))
        forwarder = house.forwarder()

        async def slowly() -> None:
            for _ in range(20):  # a lease must be kept meanwhile
                await house.clock.sleep(2)

        after_each_look(forwarder, slowly)
        house.others_use(4)
        await forwarder.drain()
        assert await house.elsewhere() == 4
        assert (await house.line("L6")).pulled
        assert (await house.book.schedule(INSTANCE, NAME)).begun_ms > 0

    at_house(tmp_path, story)


def test_a_doubt_that_waits_is_looked_at_and_nothing_else(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(*many(house, 6))
        house.follow(add=["500"])
        await house.use("f1", 7)
        begun_s = house.clock.now_s
        forwarder = house.forwarder()
        forwarder.start()
        while not house.arrived():
            await house.clock.sleep(1)
        await forwarder.stop()
        # 6 of the sync, twice, since all are to be activated; 2 before attempts, and one a minute
        # for as long as the call is good.
        assert house.asked("check") <= 12 + 2 + 18
        assert house.clock.now_s - begun_s < 1_100

    at_house(tmp_path, story)


def test_what_was_begun_is_brought_to_its_end_when_syncs_are_made_by_hand(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.book.set_schedule(INSTANCE, NAME, enabled=False, hours=None, minutes=None)
        house.follow(add=["500"])
        forwarder = house.forwarder()
        forwarder.start()
        await house.use("main", 7)
        await house.clock.sleep(2 * HOUR_S)
        assert house.asked("check") == 0
        await house.book.ask(INSTANCE, NAME)
        for _ in range(120):
            await house.clock.sleep(10)
        assert house.arrived() == [7]
        await house.use("main", 3)
        asked = house.asked("check")
        await house.clock.sleep(2 * HOUR_S)
        assert (house.arrived(), house.asked("check")) == ([7], asked)
        await forwarder.stop()
        assert await house.sums() == {"forwarded": 7, "open": 3}

    at_house(tmp_path, story)


@pytest.mark.parametrize("why", ["boundary", "clocks apart", "rules apart", "under way"])
def test_where_total_and_counters_may_speak_of_different_things_nothing_is_computed(
    tmp_path: Path, why: str
) -> None:
    async def story(house: House) -> None:
        house.say(reset_consumption=True, consumption_period="daily")
        rule = Reset.NONE if why == "rules apart" else Reset.DAILY
        await house.provision(line("L1", "main", reset=rule))
        await house.use("main", 7)
        if why == "under way":
            house.follow(add=["500"])
        elif why != "rules apart":
            await house.drain()
        house.others_use(3)
        forwarder = house.forwarder()

        async def overtaken(*told: Any) -> None:
            raise CatalogueConflict("again and again")

        if why == "rules apart":
            syncing(forwarder).rewrite = overtaken
        with pytest.MonkeyPatch.context() as patch:
            if why == "clocks apart":
                patch.setattr(house.cloud, "now_ms", lambda: house.now_ms() - 200_000)
            await forwarder.drain()
        assert (await house.known()).total == (3 if why == "under way" else 10)
        assert await house.elsewhere() == 0
        await house.settled()
        await house.clock.sleep(300)
        await house.drain()
        # A reset came, or the 3 are known by now. What is parked is on neither side of the books;
        # what was used by another rule is not in the period of this one, and gone in it all the
        # same.
        units = {"boundary": 0, "rules apart": 10}.get(why, 3)
        assert await house.elsewhere() == units

    at_house(tmp_path, story, begin_s=86_400.0 - 100 if why == "boundary" else 100_000.0)


def test_a_licence_that_cannot_be_activated_keeps_its_units_waiting(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(activate=["code too_many_devices"] * 9)
        await house.use("main", 7)
        await house.drain()
        assert await house.blocked() == {"L1": 7}
        assert (await house.known()).code == "too_many_devices"
        house.follow()
        await house.settled()
        assert house.arrived() == [7]

    at_house(tmp_path, story)


@pytest.mark.parametrize("seed", range(2))
def test_replicas_that_share_the_work_and_their_troubles_add_everything_once(
    tmp_path: Path, seed: int
) -> None:
    async def story(house: House) -> None:
        dice = random.Random(seed)  # noqa: S311 (to be repeatable)
        await house.provision(*many(house, 3))
        await house.drain()
        house.follow(mix=MIX, seed=seed)
        forwarders = [house.forwarder() for _ in range(3)]
        for forwarder in forwarders:
            forwarder.start()
        used: Counter[int] = Counter()
        for _ in range(20):
            number = dice.randint(1, 3)
            used[number] += await house.use(f"f{number}", dice.randint(1, 9))
            for _ in range(40):
                await house.clock.sleep(dice.choice((1, 3)))
            if dice.random() < 0.3:
                await house.book.ask(INSTANCE, NAME)
            if dice.random() < 0.2:
                await house.lapse_leases()
        for forwarder in forwarders:
            await forwarder.stop()
        house.follow()
        await house.settled()
        there: Counter[int] = Counter()
        for each in house.cloud.books.counted:
            there[int(each.key.removeprefix("KEY-"))] += each.units
        assert there == used
        for number in used:
            assert await house.sums(f"L{number}") == {"forwarded": used[number]}
            assert (await house.known(f"L{number}")).others_ms == 0
        assert await house.aside() == []

    at_house(tmp_path, story)
