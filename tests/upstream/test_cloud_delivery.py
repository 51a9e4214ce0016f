"""Units go to the LicenseSpring cloud once, whatever it answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.ports import Standing
from tests.upstream.cloud_house import KEY, House, at_house, line
from tests.vectors.patience import PATIENT_S

UNKNOWN = (
    *("500", "502", "garbage", "hang", "close", "forged"),
    *("500 applied", "502 applied", "garbage applied", "hang applied", "close applied"),
    *("half applied", "wrong signature applied"),
)
UNTOLD = ("500", "garbage", "close", "429", "wrong signature applied", "undated applied")
STOPPING = ("302", "401", "code invalid_api_key", "code signature_mismatch")


def test_what_was_used_is_added_once_per_line_as_one_delta(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.use("main", 3)
        await house.clock.sleep(7_200)
        await house.use("main", 4)
        await house.use("pages", 5)
        with capture_logs() as logs:
            assert await house.drain() == []
        assert house.arrived() == [7]
        assert house.arrived("pages") == [5]
        assert await house.sums("L1") == {"forwarded": 7}
        assert await house.sums("L2") == {"forwarded": 5}
        assert house.asked("activate") == 1
        assert KEY not in repr(logs)
        known = await house.known()
        assert (known.code, known.total, known.unsynced) == ("ok", 7, 0)

    at_house(tmp_path, story)


@pytest.mark.slow
def test_what_nets_to_nothing_is_settled_without_a_call(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.use("main", 3)
        await house.use("main", -3)
        assert await house.drain() == []
        assert house.arrived() == []
        assert await house.sums() == {}

    at_house(tmp_path, story)


def test_a_lost_answer_is_found_in_the_total(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["close applied", "500"])
        await house.use("main", 7)
        await house.use("pages", 5)
        begun_s = house.clock.now_s
        await house.settled()
        assert house.arrived() == [7]
        assert house.arrived("pages") == [5]
        # What did not arrive is sent again only when it can arrive no more.
        assert house.clock.now_s - begun_s >= 960
        assert await house.sums("L1") == {"forwarded": 7}
        assert await house.sums("L2") == {"forwarded": 5}

    at_house(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNKNOWN)
def test_an_unknown_outcome_is_decided_by_the_total(tmp_path: Path, fault: str) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=[fault, fault])
        await house.use("main", 7)
        await house.settled()
        assert house.arrived() == [7]
        assert await house.sums() == {"forwarded": 7}
        assert await house.aside() == []

    at_house(tmp_path, story, timeout_s=0.5 if fault.startswith("hang") else PATIENT_S)


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNTOLD)
def test_a_total_that_is_not_told_leaves_everything_where_it_is(tmp_path: Path, fault: str) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(check=[fault] * 100)
        await house.use("main", 7)
        assert len(await house.drain()) == 1
        assert house.asked("add") == 0
        assert await house.sums() == {"sealed": 7}
        house.follow()
        await house.settled()
        assert house.arrived() == [7]

    at_house(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("fault", STOPPING)
def test_a_cloud_that_lets_nobody_in_is_probed_every_five_minutes(
    tmp_path: Path, fault: str
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=[fault])
        await house.use("main", 7)
        begun_s = house.clock.now_s
        (why,) = await house.drain()
        assert fault.removeprefix("code ") in why
        assert house.arrived() == []
        assert await house.sums() == {"sealed": 7}
        forwarder = house.forwarder()  # a restart probes at once
        assert await forwarder.drain() == []
        assert house.arrived() == [7]
        assert house.clock.now_s - begun_s < 300

    at_house(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["413", "422", "code license_not_active", "code invalid_json"])
def test_content_that_is_not_taken_is_dead_and_told(tmp_path: Path, fault: str) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=[fault])
        await house.use("main", 7)
        assert await house.drain() == []
        (dead,) = await house.aside()
        assert dead.standing is Standing.DEAD
        assert fault.removeprefix("code ") in dead.why
        assert house.arrived() == []
        await house.use("main", 1)
        assert await house.drain() == []
        assert await house.sums() == {"dead": 7, "forwarded": 1}

    at_house(tmp_path, story)


@pytest.mark.slow
def test_a_device_that_was_taken_off_is_activated_again_and_the_batch_goes(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["code device_not_found"])
        await house.use("main", 7)
        await house.settled()
        assert house.asked("activate") == 2
        assert house.arrived() == [7]

    at_house(tmp_path, story)


@pytest.mark.slow
def test_a_batch_that_was_refused_waits_for_no_date_though_the_activation_is_in_doubt(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        house.follow(add=["code device_not_found"], activate=["", "close"])
        await house.use("main", 7)
        begun_s = house.clock.now_s
        await house.settled()
        assert house.arrived() == [7]
        assert house.clock.now_s - begun_s < 300

    at_house(tmp_path, story)


@pytest.mark.slow
def test_overages_that_no_client_may_change_are_never_told_to_the_cloud(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(line("L1", "main"))
        await house.drain()
        await house.provision(line("L1", "main", overdraft="5", capacity=1_005))
        await house.use("main", 1)
        await house.drain()
        assert house.arrived() == [1]
        assert (await house.line()).overdraft == "0"

    at_house(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("off_s", [-3_000, 1_200])
def test_a_gateway_whose_clock_is_off_goes_by_the_cloud_s(tmp_path: Path, off_s: int) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.use("main", 7)
        forwarder = house.forwarder(now_ms=lambda: house.now_ms() + off_s * 1_000)
        assert await forwarder.drain() == []
        assert house.arrived() == [7]
        assert house.cloud.refused_dates == 1

    at_house(tmp_path, story)


@pytest.mark.slow
def test_a_line_without_a_licence_waits_and_nothing_is_asked(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.provision(line("L1", "main", licensespring=None))
        await house.use("main", 7)
        await house.drain()
        assert house.cloud.calls == []
        assert await house.sums() == {"parked": 7}
        assert await house.blocked() == {"L1": 7}

    at_house(tmp_path, story)


@pytest.mark.slow
def test_what_was_undone_after_it_was_sent_is_carried_where_it_is_not_taken_back(
    tmp_path: Path,
) -> None:
    async def story(house: House) -> None:
        await house.provision()
        await house.use("main", 7)
        assert await house.drain() == []
        await house.use("main", -2)
        assert await house.drain() == []  # what is carried counts as done
        assert await house.sums() == {"forwarded": 7, "open": -2}
        await house.use("main", 5)
        assert await house.drain() == []
        assert house.arrived() == [7, 3]
        assert await house.sums() == {"forwarded": 10}

    at_house(tmp_path, story)


@pytest.mark.slow
def test_a_refusal_keeps_the_delta_and_shows_it(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        house.say(max_consumptions=10)
        await house.provision()
        await house.use("main", 7)
        await house.drain()
        house.others_use(3)
        await house.use("main", 3)  # within what was known of it
        await house.drain()
        assert house.arrived() == [7]
        assert await house.blocked() == {"L1": 3}
        known = await house.known()
        assert (known.code, known.unsynced) == ("license_not_enough_consumptions", 3)
        await house.use("main", 1)
        await house.drain()
        assert await house.sums() == {"forwarded": 7, "parked": 3}
        house.say(max_consumptions=20)
        await house.clock.sleep(3_700)
        await house.drain()
        assert house.arrived() == [7, 3]
        assert (await house.known()).code == "ok"

    at_house(tmp_path, story)
