"""What the lookout finds in the store: what waits and how long, what is dead, and how full it
is; and that it costs the same however many instances there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway.core.meters import UNSET, Meters
from gateway.core.metrics import MICRO, OTHER, Layout
from gateway.core.ports import PartlyUnavailable, Places
from gateway.service import lookout as lookout_module
from gateway.service.lookout import looking
from gateway.store.facts import Memory
from gateway.upstream.forwarder import Forwarder
from tests.service.lookouts import AGE, HOUR_S, IMBALANCE, LOOKED, look_at, now_s
from tests.upstream.works import Works, at_works


def metered(works: Works) -> tuple[Forwarder, Meters]:
    forwarder, meters = works.forwarder(), Meters(Layout(["parent"]))
    forwarder.delivery.outcomes.meters = meters
    return forwarder, meters


def test_the_age_of_what_waits_is_that_of_its_hour_and_none_when_all_went(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        lookout = look_at(works)
        await lookout.look()
        assert lookout.meters.value(AGE, "parent") == 0
        await works.use("sessions", 42)
        works.clock.now_s += 2 * HOUR_S
        await works.clock.tell(int(now_s(works)() * 1000))
        await works.use("sessions", 1)
        await lookout.look()
        age_s = lookout.meters.value(AGE, "parent") / MICRO
        assert 2 * HOUR_S <= age_s <= 3 * HOUR_S
        works.parent.faults = ["500"] * 100
        forwarder, meters = metered(works)
        assert await forwarder.drain() != []  # sealed by now, and not gone
        await lookout.look()
        assert lookout.meters.value(AGE, "parent") / MICRO >= 2 * HOUR_S
        assert forwarder.delivery.hindrances.is_away("parent")
        works.parent.faults = []
        forwarder, meters = metered(works)
        assert await forwarder.drain() == []
        await lookout.look()
        assert lookout.meters.value(AGE, "parent") == 0
        assert meters.value("gateway_forward_rows_total", "parent", "forwarded") == 2

    at_works(tmp_path, story)


def test_dead_parked_and_blocked_are_told_and_age_no_outbox(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision(features=("sessions",))
        await works.provision("OTHER", features=("users",))
        await works.use("sessions", 3)
        works.parent.faults = ["422"]
        forwarder, meters = metered(works)
        assert await forwarder.drain() == []
        assert meters.value("gateway_forward_rows_total", "parent", "dead") == 1
        await works.use("users", 2, instance="OTHER")
        works.parent.unwanted = {"users"}
        forwarder, meters = metered(works)
        await forwarder.drain()
        assert meters.value("gateway_forward_rows_total", "parent", "refused") == 1
        lookout = look_at(works)
        await lookout.look()
        told = {
            name: lookout.meters.value(f"gateway_{name}", "parent")
            for name in ("dead_batches", "parked_batches", "blocked_rows", "outbox_oldest_seconds")
        }
        assert told == {
            "dead_batches": 1,
            "parked_batches": 0,
            "blocked_rows": 1,
            "outbox_oldest_seconds": 0,
        }

    at_works(tmp_path, story)


def test_what_is_carried_ages_no_outbox_until_later_use_is_beside_it(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 5)
        assert await works.forwarder().drain() == []
        works.parent.takes_back = False
        await works.use("sessions", -3)
        assert await works.forwarder().drain() == []
        works.clock.now_s += 5 * HOUR_S
        await works.clock.tell(int(now_s(works)() * 1000))
        lookout = look_at(works)
        await lookout.look()
        assert lookout.meters.value(AGE, "parent") == 0
        await works.use("sessions", 20)
        await lookout.look()
        assert lookout.meters.value(AGE, "parent") > 0

    at_works(tmp_path, story)


def test_a_batch_of_which_nothing_is_known_is_parked(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision(upstreams=("parent",))
        await works.use("sessions", 3)
        works.parent.faults = ["500 applied"]
        forwarder, meters = metered(works)
        await forwarder.drain()
        assert meters.value("gateway_forward_rows_total", "parent", "parked") == 1
        lookout = look_at(works, upstreams=())  # attached, and configured elsewhere
        await lookout.look()
        assert lookout.meters.value("gateway_parked_batches", OTHER) == 1

    at_works(tmp_path, story, dedupe_ms=0)


def test_who_never_comes_through_has_a_look_that_ages_from_the_start(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        lookout = look_at(works)
        lookout.meters.begin()
        with patch.object(type(works.outbox()), "instances", _raises):
            begun_s = now_s(works)()
            async with looking(lookout):
                await asyncio.sleep(0)  # it begins
            works.clock.now_s += 60
            await lookout.look()
        assert lookout.meters.value(LOOKED) == round(begun_s * MICRO)
        assert lookout.meters.value(IMBALANCE) == UNSET

    at_works(tmp_path, story)


def test_what_a_node_that_is_away_has_is_getting_old(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        for name in ("HERE", "THERE"):
            await works.provision(name)
        lookout = look_at(works)
        await lookout.look()
        looked = lookout.meters.value(LOOKED)
        with patch.object(type(works.outbox()), "instances", _tells_of_here):
            works.clock.now_s += 60
            await lookout.look()
        assert lookout.meters.value(LOOKED) == looked

    at_works(tmp_path, story)


async def _tells_of_here(self: object) -> Places:
    raise PartlyUnavailable({0: ["HERE"]})


def test_how_full_the_store_is_comes_from_its_examination(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        lookout = look_at(works)
        strength = replace(works.store.strength, memory=Memory(80, 100))
        with patch.object(works.store, "strength", strength):
            await lookout.look()
        told = [
            lookout.meters.value(f"gateway_store_memory_{each}") for each in ("bytes", "max_bytes")
        ]
        assert told == [80, 100]
        assert works.store.strength.memory.used > 100_000  # of a real server
        assert works.store.strength.memory.most == 0

    at_works(tmp_path, story)


@pytest.mark.parametrize(("bound", "most"), [("INSTANCES_MAX", 2), ("LINES_MAX", 4)])
def test_many_instances_are_looked_at_in_turn_and_it_is_told_since_when(
    tmp_path: Path, bound: str, most: int
) -> None:
    """Two at a time, by their number or by the two lines that each has."""

    async def story(works: Works) -> None:
        for number in range(5):
            await works.provision(f"I-{number}")
        lookout = look_at(works)
        with patch.object(lookout_module, bound, most):
            for _ in range(2):
                await lookout.look()
                assert lookout.meters.value(LOOKED) == 0  # never set by a meter of a test's own
                works.clock.now_s += 10
            await lookout.look()
            first = lookout.meters.value(LOOKED)
            assert first == round((now_s(works)() - 20) * MICRO)
            works.clock.now_s += 10
            await lookout.look()
            assert lookout.meters.value(LOOKED) == first + 10 * MICRO

    at_works(tmp_path, story)


def test_who_looked_at_a_large_instance_rests_until_that_is_paid_off(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision(features=tuple(f"f{number}" for number in range(7)))
        lookout = look_at(works)
        begun_s = now_s(works)()
        looked = []
        with patch.object(lookout_module, "LINES_MAX", 2):
            for _ in range(5):
                await lookout.look()
                looked.append(lookout.meters.value(LOOKED) / MICRO - begun_s)
                works.clock.now_s += 10
        assert looked == pytest.approx([0, 0, 0, 30, 30], abs=1)

    at_works(tmp_path, story)


def test_a_store_that_is_away_is_told_as_that_and_what_was_known_stays(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 3)
        lookout = look_at(works, ready=False)
        lookout.meters.begin()
        await lookout.look()
        up, ready = (lookout.meters.value(f"gateway_{name}") for name in ("store_up", "ready"))
        assert (up, ready) == (1, 0)
        age, looked = lookout.meters.value(AGE, "parent"), lookout.meters.value(LOOKED)
        assert looked != UNSET
        with (
            patch.object(type(works.store), "clocks_s", _nobody),
            patch.object(type(works.outbox()), "instances", _raises),
        ):
            works.clock.now_s += 60
            await lookout.look()
        assert lookout.meters.value("gateway_store_up") == 0
        assert lookout.meters.value(LOOKED) == looked
        assert lookout.meters.value(AGE, "parent") == age + 60 * MICRO

    at_works(tmp_path, story)


async def _nobody(self: object) -> dict[str, float]:
    return {}


async def _raises(self: object) -> None:
    raise ConnectionError("away")


@pytest.mark.parametrize("skew_s", [-3.0, 90.0])
def test_the_clock_is_compared_with_its_sign(tmp_path: Path, skew_s: float) -> None:
    async def story(works: Works) -> None:
        lookout = look_at(works)
        clock: Callable[[object], Awaitable[dict[str, float]]] = _clock(now_s(works)() - skew_s)
        with patch.object(type(works.store), "clocks_s", clock):
            await lookout.look()
        told = lookout.meters.value("gateway_clock_skew_seconds") / MICRO
        assert told == pytest.approx(skew_s, abs=0.001)

    at_works(tmp_path, story)


def _clock(at_s: float) -> Callable[[object], Awaitable[dict[str, float]]]:
    async def tell(self: object) -> dict[str, float]:
        return {"near": at_s, "nearer": at_s}

    return tell


def test_what_takes_long_to_list_is_not_listed_in_every_look(tmp_path: Path) -> None:
    """Of very many instances the names alone would take a share of all time."""

    async def story(works: Works) -> None:
        await works.provision()
        lookout, listed = look_at(works), 0
        now = 0.0
        lookout.clock_s = lambda: now
        instances = type(works.outbox()).instances

        async def slowly(outbox: object) -> Places:
            nonlocal listed, now
            listed += 1
            now += 0.1
            return await instances(outbox)  # type: ignore[arg-type]

        with patch.object(type(works.outbox()), "instances", slowly):
            for _ in range(40):
                await lookout.look()
                now += lookout_module.LOOK_S
        assert listed == 20  # a hundredth of the time: every ten seconds
        assert lookout.meters.value(LOOKED) != UNSET

    at_works(tmp_path, story)
