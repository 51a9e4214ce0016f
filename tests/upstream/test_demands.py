"""A person wants what waits to go now: it goes long before its time, and the demand is met.

The intervals here are so long that nothing goes by itself: who waits for it in vain sees a demand
that nobody looked at.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.errors import Unavailable
from gateway.core.syncing import Schedule
from gateway.store.syncs import Syncs
from gateway.upstream import hindrances
from gateway.upstream.forwarder import Forwarder
from tests.upstream.works import Works, at_works, eventually

NEVER_S = 1e9


def syncs(works: Works) -> Syncs:
    store = works.store
    return Syncs(store.topology, store.scripts, store.partitions)


def forwarder(works: Works, book: Syncs) -> Forwarder:
    return works.forwarder(routes=[works.route(interval_s=NEVER_S)], demands=book)


async def begin(works: Works, book: Syncs) -> Forwarder:
    """Start to forward, and wait until the first round is over."""
    began = forwarder(works, book)
    began.start()
    begun_s = works.clock.now_s
    # The clock goes on only when nobody works.
    await eventually(lambda: works.clock.now_s > begun_s + 20)
    return began


def test_what_waits_goes_when_it_is_demanded_and_for_that_instance_alone(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        book = syncs(works)
        for instance in ("DEMO", "OTHER"):
            await works.provision(instance)
        began = await begin(works, book)
        await works.use("sessions", 42)
        await works.use("users", 7, instance="OTHER")
        asked_s = works.clock.now_s
        await eventually(lambda: works.clock.now_s > asked_s + 50)
        assert works.parent.posts == []
        for turn in (1, 2):
            await book.ask("DEMO", "parent")
            await eventually(lambda turn=turn: works.parent.total["sessions"] == 42 * turn)
            await works.use("sessions", 42)
        assert works.parent.total["users"] == 0
        await began.stop()
        schedule = await book.schedule("DEMO", "parent")
        assert (schedule.asked, schedule.answered) == (2, 2)
        assert schedule.begun_ms > 0

    at_works(tmp_path, story)


def test_a_visit_that_nobody_demanded_is_noted_too(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        book = syncs(works)
        await works.provision()
        await works.use("sessions", 42)
        assert (await book.schedule("DEMO", "parent")).begun_ms == 0
        assert await forwarder(works, book).drain() == []
        schedule = await book.schedule("DEMO", "parent")
        assert 0 < schedule.begun_ms <= schedule.now_ms
        assert (schedule.asked, schedule.demanded) == (0, False)

    at_works(tmp_path, story)


def test_an_upstream_that_let_nobody_in_is_tried_at_once_when_a_person_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hindrances, "STOPPED_PROBE_S", NEVER_S)

    async def story(works: Works) -> None:
        book = syncs(works)
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["302"]
        began = await begin(works, book)
        assert len(works.parent.posts) == 1
        assert works.parent.total["sessions"] == 0
        await book.ask("DEMO", "parent")
        await eventually(lambda: works.parent.total["sessions"] == 42)
        await began.stop()
        assert await works.ledger() == {"forwarded": 42}

    at_works(tmp_path, story)


def test_demands_that_cannot_be_read_keep_nothing_from_going(tmp_path: Path) -> None:
    class Unreadable(Syncs):
        async def schedule(self, instance: str, upstream: str) -> Schedule:
            raise Unavailable("damaged", "unknown")

    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        store = works.store
        book = Unreadable(store.topology, store.scripts, store.partitions)
        assert await forwarder(works, book).drain() == []
        assert works.parent.total["sessions"] == 42

    at_works(tmp_path, story)


def test_a_demand_is_met_also_by_a_visit_that_came_to_nothing(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        book = syncs(works)
        await works.provision()
        await book.ask("DEMO", "parent")
        assert await book.demanded("parent") == ["DEMO"]
        began = await begin(works, book)
        assert not (await book.schedule("DEMO", "parent")).demanded
        await began.stop()
        assert works.parent.posts == []
        assert await works.outbox().dirty() == {}

    at_works(tmp_path, story)
