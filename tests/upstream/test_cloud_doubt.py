"""Doubts about the cloud: decided when they can be, shown when they cannot, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.decisions import Aside
from gateway.core.ports import Answer, Standing, Verdict
from gateway.core.usage import Batch, Row
from gateway.service.asides import Desk
from gateway.service.decisions import Action
from gateway.store.asides import Asides
from tests.upstream.cloud_house import INSTANCE, NAME, House, at_house
from tests.upstream.works import BEGIN_MS

pytestmark = pytest.mark.slow
DAY_S = 86_400.0
SILENT = ["", "", *["close"] * 30]  # once the total was read: for longer than a drain is patient


async def the_parked(house: House) -> Aside:
    (parked,) = await house.aside()
    assert parked.standing is Standing.PARKED
    return parked


def test_it_is_said_that_a_call_did_not_arrive_a_minute_after_its_date_has_run_out(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["close"], check=SILENT)
        await house.use("main", 7)
        await house.drain()
        house.follow()
        batch = await house.outbox().sealed(INSTANCE, NAME)
        index = await house.store.catalogues.read(INSTANCE)
        reconciler = house.forwarder().routes[0].reconciler
        assert batch is not None
        assert index is not None
        assert reconciler is not None
        date_s = json.loads(batch.before)["date_ms"] / 1_000 - BEGIN_MS / 1_000
        await house.clock.sleep(date_s + 960 - house.clock.now_s)
        verdict = await reconciler.decide(index, batch)
        assert (verdict.answer, verdict.retry_after_s) == (Answer.UNDECIDED, 1)
        await house.clock.sleep(1)
        verdict = await reconciler.decide(index, batch)
        assert verdict.answer is Answer.NOT_APPLIED

    at_house(tmp_path, story)


def test_a_batch_whose_total_was_not_read_is_not_sent(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        (route,) = house.forwarder().routes
        index = await house.store.catalogues.read(INSTANCE)
        assert index is not None
        assert route.reconciler is not None
        one, other = (Batch(name, NAME, INSTANCE, (Row("L1", 1, "", 7),), b"{}") for name in "ab")
        assert (await route.sender.send(one)).answer is Answer.NOT_APPLIED
        await route.reconciler.before(index, one)
        assert (await route.sender.send(other)).answer is Answer.NOT_APPLIED
        assert house.arrived() == []
        # As another kind of upstream of this name may have sealed it.
        both = Batch("c", NAME, INSTANCE, (Row("L1", 1, "", 7), Row("L2", 1, "", 5)), b"{}")
        asked = len(house.cloud.calls)
        refused = await route.reconciler.before(index, both)
        assert isinstance(refused, Verdict)
        assert refused.answer is Answer.REFUSED
        assert len(house.cloud.calls) == asked

    at_house(tmp_path, story)


def test_a_doubt_is_shown_where_another_server_uses_the_licence_too(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.use("main", 1)
        assert await house.drain() == []
        house.others_use(20)
        await house.use("main", 1)
        assert await house.drain() == []
        assert await house.elsewhere() == 20
        house.follow(add=["close applied"])
        await house.use("main", 7)
        begun_s = house.clock.now_s
        await house.settled()
        # A person who decides about it must not be overtaken by the call itself.
        assert house.clock.now_s - begun_s >= 960
        parked = await the_parked(house)
        assert "7 were sent; the cloud's total was 22 before and is 29 now" in parked.why
        assert "other servers" in parked.why
        await house.use("main", 3)  # newer usage passes
        assert await house.drain() == []
        assert await house.sums() == {"forwarded": 5, "parked": 7}
        # What is not decided counts as ours and as theirs: nothing is granted that may be gone.
        assert await house.elsewhere() == 27
        asides = Asides(house.store.topology, house.store.scripts, house.store.partitions)
        desk = Desk(asides, house.store.catalogues, {NAME: "licensespring"})
        item = await desk.find(parked.id)
        assert "activity log" in item.look_for
        await desk.decide(item, Action.APPLIED, "me", "seen in the activity log")
        assert await house.drain() == []
        assert await house.sums() == {"forwarded": 12}
        assert await house.elsewhere() == 20
        assert house.arrived() == [1, 1, 7, 3]

    at_house(tmp_path, story)


@pytest.mark.parametrize("fault", ["close", "close applied"])
def test_a_total_that_others_moved_in_between_decides_nothing(tmp_path: Path, fault: str) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=[fault], check=SILENT)
        await house.use("main", 7)
        await house.drain()
        house.others_use(5)
        house.follow()
        await house.settled()
        parked = await the_parked(house)
        assert "7 were sent; the cloud's total was 0 before" in parked.why
        assert await house.sums() == {"parked": 7}
        assert len(house.arrived()) == (fault == "close applied")

    at_house(tmp_path, story)


@pytest.mark.parametrize(("fault", "aside"), [("close applied", True), ("500", True), ("", False)])
def test_a_reset_in_the_middle_of_a_doubt_is_not_guessed_over(
    tmp_path: Path, fault: str, aside: bool
) -> None:
    """What is gone with the reset looks like what never came."""

    async def story(house: House) -> None:
        house.say(reset_consumption=True, consumption_period="daily")
        await house.provision()
        house.follow(add=[fault], check=SILENT)
        await house.use("main", 7)
        await house.drain()
        house.follow()
        await house.clock.sleep(600)
        await house.settled()
        assert len(await house.aside()) == aside
        assert await house.sums() == ({"parked": 7} if aside else {"forwarded": 7})
        assert house.total() == 0

    at_house(tmp_path, story, begin_s=DAY_S - 300)


def test_a_line_that_stands_for_another_licence_by_now_is_not_decided(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["close applied"], check=SILENT)
        await house.use("main", 7)
        await house.drain()
        one, other = (await house.line("L1")), (await house.line("L2"))
        assert one.licensespring is not None
        changed = msgspec.structs.replace(one.licensespring, license_key="KEY-2")
        await house.provision(msgspec.structs.replace(one, licensespring=changed), other)
        house.follow()
        (why,) = await house.drain()
        assert why.endswith("it may still arrive")  # a person might send it again
        assert await house.aside() == []
        await house.settled()
        assert "another licence" in (await the_parked(house)).why
        assert await house.sums() == {"parked": 7}

    at_house(tmp_path, story)


GONE: dict[str, dict[str, Any]] = {
    "no consumption feature pages": {"features": {}},
    "license_not_enabled": {"enabled": False},
}


@pytest.mark.parametrize("why", GONE)
def test_what_is_gone_in_the_middle_of_a_doubt_is_parked_when_nothing_can_arrive(
    tmp_path: Path, why: str
) -> None:
    """Nor does it keep away from a cloud that answers whoever else is delivered there."""

    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["close"], check=SILENT)
        await house.use("pages", 7)
        await house.drain()
        house.say(**GONE[why])
        house.follow()
        forwarder = house.forwarder()
        (left,) = await forwarder.drain()
        assert why in left.reason
        assert left.reason.endswith("it may still arrive")  # a person might send it again
        assert forwarder.delivery.hindrances.breaker(NAME).failures == 0
        await house.settled()
        assert why in (await the_parked(house)).why
        assert await house.sums("L2") == {"parked": 7}

    at_house(tmp_path, story)


def test_a_doubt_before_a_cloud_that_lets_nobody_in_waits_for_its_probe(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["close applied"], check=["", "", *["code revoked_api_key"] * 99])
        await house.use("main", 7)
        (why,) = await house.drain()
        assert why.startswith("revoked_api_key")
        assert house.asked("check") == 3  # two of them before the call
        assert await house.sums() == {"sealed": 7}
        house.follow()
        await house.settled()
        assert await house.sums() == {"forwarded": 7}
        assert house.arrived() == [7]

    at_house(tmp_path, story)
