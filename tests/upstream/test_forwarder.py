"""The loop: what stops a lane, what wakes it, pauses, leases, sweeps, draining and stopping."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import Unavailable
from gateway.store.keys import PartitionKeys
from gateway.store.outbox import RedisOutbox
from gateway.upstream.forwarder import Forwarder, Leftover
from tests.upstream.parent import open_parent
from tests.upstream.works import Works, at_works, eventually


def test_draining_nothing_is_done_at_once(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        assert await works.forwarder().drain() == []
        assert works.parent.posts == []

    at_works(tmp_path, story)


def test_all_lines_of_an_instance_go_in_one_request_and_what_nets_to_zero_in_none(
    tmp_path: Path,
) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        await works.use("users", 7)
        await works.use("users", -2)
        assert await works.forwarder().drain() == []
        assert dict(works.parent.total) == {"sessions": 42, "users": 5}
        assert len(works.parent.posts) == 1
        await works.use("sessions", 3)
        await works.use("sessions", -3)
        await works.use("users", -1)
        assert await works.forwarder().drain() == []
        assert dict(works.parent.total) == {"sessions": 42, "users": 4}
        assert await works.ledger() == {"forwarded": 46}

    at_works(tmp_path, story)


def test_rows_of_several_hours_that_cancel_out_are_settled_unsent(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 3)
        keys = works.store.catalogues.keys("DEMO")
        (field,) = await works.store.client.hkeys(keys.open("parent"))
        earlier = field[:-1] + bytes([field[-1] ^ 1])
        await works.store.client.hset(keys.open("parent"), earlier, -3)
        await works.store.client.hincrby(keys.ledger, "open|L-sessions|parent", -3)
        await works.store.client.hincrby(keys.ledger, "acked|L-sessions", -3)
        assert await works.forwarder().drain() == []
        assert works.parent.posts == []
        assert await works.ledger() == {}
        assert await works.outbox().dirty() == {}

    at_works(tmp_path, story)


def test_each_request_has_one_host_when_the_upstream_is_told_hosts(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision(by_host=True)
        await works.use("sessions", 1, host="a|b")
        await works.use("sessions", 2, host="c")
        assert await works.forwarder().drain() == []
        hosts = {
            request["hostId"]["value"]: request["features"][0]["count"]
            for request in (json.loads(body) for _, body in works.parent.posts)
        }
        assert hosts == {"a|b": 1, "c": 2}

    at_works(tmp_path, story)


def test_a_drain_waits_for_a_lease_held_elsewhere_and_not_for_ever(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        partition = works.store.catalogues.keys("DEMO").partition
        await works.outbox().take_lease(partition, "other:1", 60_000)
        started_s = works.clock.now_s
        (left,) = await works.forwarder().drain(lease_wait_s=20)
        assert left.open_rows == 1
        assert 20 <= works.clock.now_s - started_s < 22
        assert works.parent.posts == []
        draining = asyncio.create_task(works.forwarder().drain(lease_wait_s=2_000))
        await works.outbox().drop_lease(partition, "other:1")
        assert await draining == []

    at_works(tmp_path, story)


def test_an_upstream_without_configuration_is_named_among_what_is_left(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision(upstreams=("parent", "nowhere"))
        await works.use("sessions", 42)
        left = await works.forwarder().drain()
        assert left == [Leftover("DEMO", "nowhere", 1, "", "upstream is not configured")]
        assert await works.ledger() == {"forwarded": 42}

    at_works(tmp_path, story)


def test_the_loop_forwards_at_its_interval_and_follows_the_catalogue(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        forwarder = works.forwarder()
        forwarder.start()
        for turn in range(1, 4):
            await works.use("sessions", 1)
            await eventually(lambda turn=turn: works.parent.total["sessions"] == turn)
        await works.provision("NEW")
        await works.use("users", 7, instance="NEW")
        await eventually(lambda: works.parent.total["users"] == 7)
        assert await forwarder.stop() == []

    at_works(tmp_path, story)


def test_a_lease_is_renewed_while_a_send_waits_and_given_back_after(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        renewed: list[str] = []

        class Watched(RedisOutbox):
            async def keep_lease(self, partition: int, holder: str, ttl_ms: int) -> bool:
                renewed.append(holder)
                return await super().keep_lease(partition, holder, ttl_ms)

        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["wait"]
        store = works.store
        outbox = Watched(store.topology, store.scripts, store.partitions)
        draining = asyncio.create_task(works.forwarder(outbox=outbox).drain())
        await eventually(lambda: len(renewed) >= 5)
        lease = PartitionKeys(store.catalogues.keys("DEMO").partition).lease
        assert await store.client.get(lease) == renewed[0].encode()
        works.parent.resume.set()
        assert await draining == []
        assert len(set(renewed)) == 1
        assert await store.client.get(lease) is None

    at_works(tmp_path, story)


def test_stopping_finishes_what_is_sent_and_claims_nothing_new(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["wait"]
        forwarder = works.forwarder()
        forwarder.start()
        await eventually(lambda: len(works.parent.posts) == 1)
        await works.use("sessions", 8)
        stopping = asyncio.create_task(forwarder.stop())
        await asyncio.sleep(0)
        works.parent.resume.set()
        assert await stopping == [Leftover("DEMO", "parent", 1, "", "")]
        assert await works.ledger() == {"forwarded": 42, "open": 8}
        partition = works.store.catalogues.keys("DEMO").partition
        assert await works.outbox().take_lease(partition, "next:1", 1_000)

    at_works(tmp_path, story)


def test_stopping_is_bounded_and_what_was_abandoned_goes_on_under_its_id(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["hang applied"]
        forwarder = works.forwarder()
        forwarder.start()
        await eventually(lambda: len(works.parent.posts) == 1)
        (left,) = await forwarder.stop(grace_s=0.05)
        assert left.sealed == works.parent.ids[0]
        assert await works.forwarder().drain() == []
        assert dict(works.parent.total) == {"sessions": 42}
        assert len(set(works.parent.posts)) == 1

    at_works(tmp_path, story)


def test_lapses_that_are_due_are_swept_once_a_second_by_the_holder_only(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        swept: list[tuple[float, str]] = []

        async def sweep(instance: str) -> None:
            if instance == "BROKEN":
                raise Unavailable("not now", "not_applied")
            swept.append((works.clock.now_s, instance))

        def forwarder() -> Forwarder:
            return works.forwarder(sweep=sweep, now_ms=lambda: 5_000)

        keys = works.store.catalogues.keys("DEMO")
        await works.store.client.zadd(keys.due, {"BROKEN": 1, "DEMO": 5_000})
        await works.outbox().take_lease(keys.partition, "other:1", 60_000)
        first = forwarder()
        first.start()
        begun_s = works.clock.now_s
        await eventually(lambda: works.clock.now_s > begun_s + 5)
        assert swept == []
        await works.outbox().drop_lease(keys.partition, "other:1")
        await eventually(lambda: len(swept) >= 3)
        await first.stop()
        moments = [at_s for at_s, _ in swept]
        assert {instance for _, instance in swept} == {"DEMO"}
        assert all(later - sooner >= 1 for sooner, later in pairwise(moments))

    at_works(tmp_path, story)


def test_a_log_says_what_happened_to_which_batch_and_nothing_secret(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 424_242)
        works.parent.faults = ["garbage", "429", "drop applied"]
        with capture_logs() as logs:
            assert await works.forwarder().drain() == []
        (batch,) = set(works.parent.ids)
        events = [each["event"] for each in logs if each.get("batch") == batch]
        assert events == [
            "batch_sealed",
            "batch_unknown",
            "batch_not_applied",
            "batch_unknown",
            "batch_settled",
        ]
        text = repr(logs)
        assert "hostId" not in text
        assert not any(token in text for token in works.parent.tokens)

    at_works(tmp_path, story)


@pytest.mark.slow  # a thousand looks
def test_a_batch_that_is_full_goes_before_its_time_and_others_keep_theirs(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        for instance in ("DEMO", "OTHER"):
            await works.provision(instance, by_host=True)
        forwarder = works.forwarder(routes=[works.route(rows_max=5, interval_s=12_000)])
        forwarder.start()
        await works.use("sessions", 1)
        await eventually(lambda: works.parent.total["sessions"] == 1)
        started_s = works.clock.now_s
        await works.use("users", 1, instance="OTHER", host="patient")
        for number in range(5):
            await works.use("sessions", 1, host=f"h{number}")
        await eventually(lambda: works.parent.total["sessions"] == 6)
        assert works.clock.now_s - started_s < 6_000
        assert works.parent.total["users"] == 0
        await eventually(lambda: works.parent.total["users"] == 1)
        assert works.clock.now_s - started_s > 6_000
        assert await forwarder.stop() == []

    at_works(tmp_path, story)


def test_each_upstream_has_an_outbox_and_a_state_of_its_own(tmp_path: Path) -> None:
    """One that lets nobody in holds up its own usage and nothing else."""

    async def story(works: Works) -> None:
        async with open_parent() as second:
            routes = [works.route(), works.route(name="second", sender=works.sender_to(second))]
            await works.provision(upstreams=("parent", "second"))
            await works.use("sessions", 42)
            works.parent.faults = ["403"] * 3
            forwarder = works.forwarder(routes=routes)
            forwarder.start()
            await eventually(lambda: second.total["sessions"] == 42)
            await works.use("sessions", 1)
            await eventually(lambda: second.total["sessions"] == 43)
            assert works.parent.total["sessions"] == 0
            await eventually(lambda: works.parent.total["sessions"] == 43)
            assert await forwarder.stop() == []
            assert await works.ledger() == {"forwarded": 43}

    at_works(tmp_path, story)
