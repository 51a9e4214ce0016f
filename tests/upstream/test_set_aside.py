"""What is not taken or refused: halves, dead batches, blocked rows, what is carried, and bounds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.core.decisions import Decision, Fate
from gateway.core.model import Attachment
from gateway.core.ports import Standing
from tests.upstream.works import BEGIN_MS, Works, at_works, eventually


@pytest.mark.parametrize("fault", ["400", "413", "422"])
def test_a_batch_that_is_not_taken_is_halved_down_to_what_is_dead(
    tmp_path: Path, fault: str
) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        await works.use("users", 5)
        works.parent.faults = [fault, fault]  # the whole, and its first half
        with capture_logs() as logs:
            assert await works.forwarder().drain() == []
        (dead,) = await works.aside()
        assert dead.standing is Standing.DEAD
        assert f"HTTP {fault}" in dead.why
        assert sum(works.parent.total.values()) + sum(dead.units.values()) == 47
        assert len(set(works.parent.ids)) == 3
        alarms = [each["event"] for each in logs if each["log_level"] == "error"]
        assert alarms == ["batch_dead"]
        sums = await works.ledger()
        assert sums == {"dead": sum(dead.units.values()), "forwarded": works.parent.total.total()}

    at_works(tmp_path, story)


def test_only_what_is_poison_is_dead_and_halves_survive_kills(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision(features=tuple(f"f{n}" for n in range(20)))
        for n in range(20):
            await works.use(f"f{n}", n + 1)
        works.parent.poison = {"f3", "f17"}
        for _ in range(30):  # a process that comes to one request or more, and is killed
            posts, started_s = len(works.parent.posts), works.clock.now_s
            forwarder = works.forwarder()
            forwarder.start()
            await eventually(
                lambda posts=posts, started_s=started_s: (
                    len(works.parent.posts) > posts or works.clock.now_s > started_s + 60
                )
            )
            for task in forwarder._tasks:
                task.cancel()
            await works.lapse_leases()
        assert await works.forwarder().drain() == []
        for parked in await works.aside():  # killed while it was asked: a person looks it up
            if parked.standing is Standing.PARKED:
                fate = Fate.FORWARDED if parked.id in works.parent.applied else Fate.OPEN
                decision = Decision("me", "reconcile", "looked it up", "parent", parked.id)
                assert await works.asides().decide("DEMO", fate, parked.id, decision)
        assert await works.forwarder().drain() == []
        dead = [each.units for each in await works.aside()]
        assert sorted(dead, key=str) == [{"L-f17": 18}, {"L-f3": 4}]
        assert works.parent.total.total() == 210 - 22
        assert await works.ledger() == {"dead": 22, "forwarded": 188}
        assert works.parent.two_faced == []

    at_works(tmp_path, story)


def test_what_was_refused_waits_as_blocked_and_goes_again_after_a_while(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.provision("OTHER")
        await works.use("sessions", 42)
        works.parent.faults = ["refused"]
        with capture_logs() as logs:
            forwarder = works.forwarder()
            started_s = works.clock.now_s
            forwarder.start()
            await eventually(lambda: len(works.parent.posts) == 1)
            # Other instances have the same upstream and go on.
            await works.use("users", 5, instance="OTHER")
            await eventually(lambda: works.parent.total["users"] == 5)
            assert works.clock.now_s - started_s < 3_600
            assert await works.ledger() == {"parked": 42}
            assert await works.blocked() == {"L-sessions": 42}
            await eventually(lambda: works.parent.total["sessions"] == 42)
            assert works.clock.now_s - started_s >= 3_600
            await eventually(lambda: any(each["event"] == "features_taken" for each in logs))
            assert await forwarder.stop() == []
        alarms = [each["event"] for each in logs if each["log_level"] == "error"]
        assert alarms == ["features_refused"]
        assert dict(works.parent.total) == {"sessions": 42, "users": 5}
        assert works.parent.two_faced == []
        # A parent of ours remembers a refusal with the id: only a new id can be granted.
        assert len({id_ for id_, body in works.parent.posts if b"sessions" in body}) == 2
        assert await works.ledger() == {"forwarded": 42}

    at_works(tmp_path, story)


def test_a_drain_tries_once_what_was_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        works.parent.unwanted = {"sessions"}
        await works.use("sessions", 42)
        for turn in range(2):
            assert await works.forwarder().drain() == []
            assert len(works.parent.posts) == turn + 1
            assert await works.ledger() == {"parked": 42}
        await works.use("sessions", 1)
        works.parent.unwanted = set()
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {"forwarded": 43}
        assert await works.outbox().dirty() == {}

    at_works(tmp_path, story)


def test_what_is_refused_is_tried_again_when_the_upstream_counts_anew(tmp_path: Path) -> None:
    """Sooner than after `blocked_retry`: a line is taken to reset upstream as it does here."""

    async def story(works: Works) -> None:
        works.clock.now_s += 86_400 - 1_800  # half an hour before midnight, less what follows
        await works.clock.tell(BEGIN_MS + int(works.clock.now_s * 1000))
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["refused"]
        started_s = works.clock.now_s
        forwarder = works.forwarder()
        forwarder.start()
        await eventually(lambda: works.parent.total["sessions"] == 42)
        await forwarder.stop()
        assert 800 <= works.parent.posted_s[1] - started_s < 1_000

    at_works(tmp_path, story)


def test_what_is_not_taken_back_is_carried_and_netted_against_later_use(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        await works.use("users", 1)
        assert await works.forwarder().drain() == []
        works.parent.takes_back = False
        await works.use("sessions", -5)
        for _ in range(2):
            assert await works.forwarder().drain() == []  # carried is as good as done
            assert await works.ledger() == {"forwarded": 43, "open": -5}
        marks, _ = await works.outbox().marks("DEMO", "parent")
        assert [(mark.line, mark.carried) for mark in marks] == [("L-sessions", True)]
        await works.use("users", 2)
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {"forwarded": 45, "open": -5}
        await works.use("sessions", 12)
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {"forwarded": 52}
        assert dict(works.parent.total) == {"sessions": 49, "users": 3}

    at_works(tmp_path, story)


@pytest.mark.parametrize(("ours", "place"), [(False, "parked"), (True, "parked")])
def test_a_refusal_after_an_attempt_in_doubt_is_believed_of_a_gateway_of_ours_only(
    tmp_path: Path, ours: bool, place: str
) -> None:
    """Two answers of 200 that contradict one another: the units may have been applied."""

    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.ours = ours
        works.parent.faults = ["garbage applied", "refused"]
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {place: 42}
        if ours:
            assert await works.blocked() == {"L-sessions": 42}
        else:
            (parked,) = await works.aside()
            assert parked.standing is Standing.PARKED
            assert works.parent.applied.keys() == {parked.id}
        assert len(set(works.parent.posts)) == 1

    at_works(tmp_path, story)


def test_when_no_more_can_be_set_aside_the_lane_stands_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.outbox.ASIDE_MAX", 2)

    async def story(works: Works) -> None:
        await works.provision()
        works.parent.poison = {"sessions"}
        for _ in range(2):
            await works.use("sessions", 1)
            assert await works.forwarder().drain() == []
        await works.use("sessions", 1)
        with capture_logs() as logs:
            (left,) = await works.forwarder().drain()
            (left,) = await works.forwarder().drain()  # asked again, it is still not taken
        assert "too many batches are set aside" in left.reason
        assert works.parent.applied == {}
        assert [each["event"] for each in logs if each["log_level"] == "error"] == [
            "lane_blocked",
            "lane_blocked",
        ]
        assert await works.ledger() == {"dead": 2, "sealed": 1}
        first, _ = await works.aside()
        decision = Decision("me", "retry", "mended", "parent", first.id)
        assert await works.asides().decide("DEMO", Fate.OPEN, first.id, decision)
        works.parent.poison = set()
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {"dead": 1, "forwarded": 2}

    at_works(tmp_path, story)


def test_the_rest_of_a_refused_batch_goes_at_once_and_halves_follow_one_another(
    tmp_path: Path,
) -> None:
    """Not only at the next interval, which may be an hour away."""

    async def story(works: Works) -> None:
        await works.provision()
        works.parent.unwanted = {"sessions"}
        await works.use("sessions", 42)
        await works.use("users", 5)
        forwarder = works.forwarder(routes=[works.route(interval_s=36_000)])
        started_s = works.clock.now_s
        forwarder.start()
        await eventually(lambda: works.parent.total["users"] == 5)
        assert works.parent.posted_s[1] - started_s < 60
        await eventually(lambda: len(works.parent.posts) == 3)  # blocked_retry is an hour
        assert 3_600 <= works.parent.posted_s[2] - started_s < 8_000
        await forwarder.stop()

        works.parent.unwanted, works.parent.poison = set(), {"sessions"}
        await works.use("users", 1)
        forwarder = works.forwarder(routes=[works.route(interval_s=36_000)])
        started_s = works.clock.now_s
        forwarder.start()
        await eventually(lambda: works.parent.total["users"] == 6)
        await forwarder.stop()
        assert works.clock.now_s - started_s < 36_000

    at_works(tmp_path, story)


def test_an_undo_from_the_time_by_host_is_carried_and_not_asked_about_again(
    tmp_path: Path,
) -> None:
    async def story(works: Works) -> None:
        await works.provision(by_host=True)
        await works.use("sessions", 5, host="alice")
        assert await works.forwarder().drain() == []
        await works.use("sessions", -5, host="alice")
        index = await works.store.catalogues.read("DEMO")
        assert index is not None
        told_no_hosts = msgspec.structs.replace(index.catalogue, upstreams=(Attachment("parent"),))
        await works.store.catalogues.put(told_no_hosts)
        works.parent.takes_back = False
        posts = len(works.parent.posts)
        assert await works.forwarder().drain() == []
        assert len(works.parent.posts) == posts + 1
        assert await works.ledger() == {"forwarded": 5, "open": -5}

    at_works(tmp_path, story)


def test_new_use_beside_what_is_carried_is_not_taken_for_done(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 5)
        assert await works.forwarder().drain() == []
        works.parent.takes_back = False
        await works.use("sessions", -3)
        assert await works.forwarder().drain() == []
        await works.use("sessions", 20)
        partition = works.store.catalogues.keys("DEMO").partition
        await works.outbox().take_lease(partition, "other:1", 60_000_000)
        (left,) = await works.forwarder().drain(lease_wait_s=1)
        assert left.open_rows == 1

    at_works(tmp_path, story)


def test_a_person_s_word_does_not_take_away_the_mark_of_a_newer_refusal(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        works.parent.unwanted = {"sessions"}
        await works.use("sessions", 42)
        assert await works.forwarder().drain() == []
        (seen,) = await works.asides().blocked("DEMO", "parent")
        await works.use("sessions", 1)
        assert await works.forwarder().drain() == []  # refused anew, under another mark
        decision = Decision("me", "retry", "mended", "parent", "L-sessions")
        assert await works.asides().release(seen, Fate.OPEN, decision)
        marks, _ = await works.outbox().marks("DEMO", "parent")
        assert [mark.line for mark in marks] == ["L-sessions"]
        works.parent.unwanted = set()
        assert await works.forwarder().drain() == []
        assert await works.ledger() == {"forwarded": 43}

    at_works(tmp_path, story)


def test_a_refused_feature_waits_alone_and_the_rest_goes_at_once(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        works.parent.unwanted = {"sessions"}
        with capture_logs() as logs:
            forwarder = works.forwarder()
            started_s = works.clock.now_s
            forwarder.start()
            await works.use("sessions", 42)
            await works.use("users", 5)
            await eventually(lambda: works.parent.total["users"] == 5)
            await works.use("users", 2)
            await eventually(lambda: works.parent.total["users"] == 7)
            assert works.clock.now_s - started_s < 3_600
            works.parent.unwanted = set()
            await eventually(lambda: works.parent.total["sessions"] == 42)
            assert works.clock.now_s - started_s >= 3_600
            assert await forwarder.stop() == []
        alarms = [each["event"] for each in logs if each["log_level"] == "error"]
        assert alarms == ["features_refused"]
        assert dict(works.parent.total) == {"sessions": 42, "users": 7}
        assert works.parent.two_faced == []

    at_works(tmp_path, story)
