"""What follows from each answer: what goes again, what waits, what is never sent twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import Unavailable
from gateway.core.ports import Standing, Step
from gateway.core.usage import Batch
from gateway.store.outbox import RedisOutbox
from gateway.upstream.forwarder import Leftover
from tests.upstream.works import Works, at_works, eventually
from tests.vectors.patience import PATIENT_S


@pytest.mark.parametrize("fault", ["drop applied", "hang", "500", "garbage", "503 unknown"])
def test_an_upstream_that_forgets_ids_is_never_asked_twice_in_doubt(
    tmp_path: Path, fault: str
) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = [fault]
        for _ in range(3):  # each is a process of its own
            assert await works.forwarder().drain() == []
        (parked,) = await works.aside()
        assert [parked.id] == works.parent.ids
        assert (parked.standing, parked.attempts) == (Standing.PARKED, 1)
        assert parked.why.startswith("outcome unknown")
        assert parked.first_sent_ms
        await works.use("sessions", 1)  # newer usage passes
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {"parked": 42, "forwarded": 1}

    at_works(tmp_path, story, dedupe_ms=0, timeout_s=1.0 if fault == "hang" else PATIENT_S)


def test_past_the_horizon_a_batch_in_doubt_is_parked_and_never_sent_again(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["500 applied"] * 1_000
        forwarder = works.forwarder()
        forwarder.start()
        horizon_ms = works.route().horizon_ms
        await eventually(lambda: works.clock.now_s > 1_000 + horizon_ms / 1000 + 61)
        await forwarder.stop()
        posts = len(works.parent.posts)
        assert len(set(works.parent.posts)) == 1
        (parked,) = await works.aside()
        assert parked.attempts == posts
        works.parent.faults = []
        await works.use("users", 1)
        assert await works.forwarder().drain() == []
        assert len(works.parent.posts) == posts + 1
        assert await works.ledger() == {"parked": 42, "forwarded": 1}

    at_works(tmp_path, story, dedupe_ms=600_000)


def test_a_clock_that_goes_back_leaves_a_batch_in_doubt_to_a_person(tmp_path: Path) -> None:
    """By a clock that went back the upstream would seem to remember for longer than it does."""

    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["500 applied"]
        tell = works.clock.tell

        async def tell_early(now_ms: int) -> None:
            await tell(now_ms - 7_200_000 if works.parent.posts else now_ms)

        works.clock.tell = tell_early
        forwarder = works.forwarder()
        forwarder.start()
        await eventually(lambda: works.clock.now_s > 1_200)
        await forwarder.stop()
        assert len(works.parent.posts) == 1
        assert await works.ledger() == {"parked": 42}

    at_works(tmp_path, story)


@pytest.mark.parametrize("fault", ["429", "503 not applied"])
def test_what_was_not_applied_for_sure_goes_again_also_to_one_that_forgets(
    tmp_path: Path, fault: str
) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = [fault, fault]
        assert await works.forwarder().drain() == []
        assert dict(works.parent.total) == {"sessions": 42}
        assert len(works.parent.posts) == 3
        assert len(set(works.parent.posts)) == 1

    at_works(tmp_path, story, dedupe_ms=0)


def test_a_grant_that_the_store_could_not_take_down_is_not_asked_for_again(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        class Failing(RedisOutbox):
            async def settle(self, holder: str, batch: Batch) -> Step:
                if not failed:
                    failed.append(batch.id)
                    raise Unavailable("The store gave no usable answer", "unknown")
                return await super().settle(holder, batch)

        failed: list[str] = []
        await works.provision()
        await works.use("sessions", 42)
        store = works.store
        outbox = Failing(store.topology, store.scripts, store.partitions)
        with capture_logs() as logs:
            assert await works.forwarder(outbox=outbox).drain() == []
        assert works.parent.ids == failed
        assert await works.ledger() == {"forwarded": 42}
        events = [each["event"] for each in logs]
        assert events == ["batch_sealed", "work_interrupted", "batch_settled", "work_resumed"]

    at_works(tmp_path, story, dedupe_ms=0)


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["429"]
        started_s = works.clock.now_s
        assert await works.forwarder().drain() == []
        assert works.clock.now_s - started_s >= 7

    at_works(tmp_path, story)


@pytest.mark.parametrize("fault", ["401", "403", "302"])
def test_an_upstream_that_lets_nobody_in_is_probed_every_five_minutes(
    tmp_path: Path, fault: str
) -> None:
    async def story(works: Works) -> None:
        for instance in ("DEMO", "OTHER"):
            await works.provision(instance)
            await works.use("sessions", 42, instance=instance)
        posts = 2 if fault == "401" else 1  # with a fresh token once more
        works.parent.faults = [fault] * posts * 2
        with capture_logs() as logs:
            left = await works.forwarder().drain()
            assert {each.instance for each in left} == {"DEMO", "OTHER"}
            assert {each.reason for each in left} == {f"HTTP {fault}"}
            assert len(works.parent.posts) == posts
            started_s = works.clock.now_s
            forwarder = works.forwarder()  # a restart probes at once
            forwarder.start()
            await eventually(lambda: works.parent.total["sessions"] == 84)
            assert works.clock.now_s - started_s >= 300
            assert await forwarder.stop() == []
        alarms = [each["event"] for each in logs if each["log_level"] == "error"]
        assert alarms == ["upstream_stopped"] * 2  # one a process

    at_works(tmp_path, story)


def test_an_upstream_that_is_away_is_given_up_by_a_drain_with_everything_kept(
    tmp_path: Path,
) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["500"] * 100
        (left,) = await works.forwarder().drain()
        assert left == Leftover("DEMO", "parent", 0, left.sealed, "upstream does not answer")
        assert 5 <= len(works.parent.posts) <= 10
        assert set(works.parent.ids) == {left.sealed}
        assert await works.ledger() == {"sealed": 42}

    at_works(tmp_path, story)
