"""What the lookout says of books that do not agree, or cannot be read; the others are seen all the
same, also by who never looked before.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.metrics import MICRO
from gateway.service.lookout import TELL_AGAIN_S
from tests.service.lookouts import AGE, HOUR_S, IMBALANCE, LOOKED, look_at, now_s
from tests.upstream.works import Works, at_works


def test_books_that_do_not_agree_are_told_and_logged_once(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 3)
        lookout = look_at(works)
        await lookout.look()
        assert lookout.meters.value(IMBALANCE) == 0
        ledger = works.store.catalogues.keys("DEMO").ledger
        await works.store.client.hincrby(ledger, "acked|L-sessions", 1)
        with capture_logs() as logs:
            await lookout.look()
            await lookout.look()
        # A unit that nobody has: neither its days nor the way to its upstream know of it.
        assert lookout.meters.value(IMBALANCE) == 2
        assert [each["event"] for each in logs] == ["ledger_imbalance"]
        await works.store.client.hincrby(ledger, "acked|L-sessions", -1)
        await lookout.look()
        assert lookout.meters.value(IMBALANCE) == 0

    at_works(tmp_path, story)


def test_what_is_still_out_of_balance_is_logged_once_more_after_an_hour(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        ledger = works.store.catalogues.keys("DEMO").ledger
        await works.store.client.hincrby(ledger, "acked|L-sessions", 1)
        lookout = look_at(works)
        with capture_logs() as logs:
            for _ in range(3):
                await lookout.look()
                works.clock.now_s += TELL_AGAIN_S / 2
        assert [each["event"] for each in logs] == ["ledger_imbalance"] * 2

    at_works(tmp_path, story)


def test_an_instance_that_cannot_be_read_is_told_and_hides_no_other(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision("BROKEN")
        await works.provision("WHOLE")
        keys = works.store.catalogues.keys("BROKEN")
        await works.store.client.hset(keys.cat, "blob", b"\xc1")
        await works.store.client.hincrby(
            works.store.catalogues.keys("WHOLE").ledger, "acked|L-sessions", 1
        )
        lookout = look_at(works)
        with capture_logs() as logs:
            await lookout.look()
            await lookout.look()
        assert lookout.meters.value(IMBALANCE) == 3
        told = [(each["event"], each["instance"]) for each in logs]
        assert sorted(told) == [("instance_unreadable", "BROKEN"), ("ledger_imbalance", "WHOLE")]

    at_works(tmp_path, story)


def test_a_key_of_another_type_hides_no_other_instance_from_who_starts(tmp_path: Path) -> None:
    """Never looked at, it is the first in turn each time."""

    async def story(works: Works) -> None:
        await works.provision("AAA")
        await works.provision("BBB")
        await works.use("sessions", 3, instance="BBB")
        keys = works.store.catalogues.keys("AAA")
        await works.store.client.delete(keys.ledger)
        await works.store.client.set(keys.ledger, "no ledger")
        lookout = look_at(works)
        lookout.meters.begin()
        works.clock.now_s += 2 * HOUR_S
        with capture_logs() as logs:
            await lookout.look()
        assert lookout.meters.value(IMBALANCE) == 1
        assert lookout.meters.value(AGE, "parent") / MICRO >= HOUR_S
        assert lookout.meters.value(LOOKED) == round(now_s(works)() * MICRO)
        assert [(each["event"], each["instance"]) for each in logs] == [
            ("instance_unreadable", "AAA")
        ]
        await works.store.client.delete(keys.ledger)
        await lookout.look()
        assert lookout.meters.value(IMBALANCE) == 0

    at_works(tmp_path, story)


@pytest.mark.parametrize("field", ["version", "blob"])
def test_an_instance_that_is_half_there_hides_no_other(tmp_path: Path, field: str) -> None:
    async def story(works: Works) -> None:
        await works.provision("AAA")
        await works.provision("BBB")
        await works.store.client.hdel(works.store.catalogues.keys("AAA").cat, field)
        lookout = look_at(works)
        await lookout.look()
        assert lookout.meters.value(LOOKED) == round(now_s(works)() * MICRO)
        # Without its blob it is not there, as while it is being restored.
        assert lookout.meters.value(IMBALANCE) == (field == "version")

    at_works(tmp_path, story)
