"""Whatever the upstream does and wherever the forwarder dies: every unit arrives, each id once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.ports import Outbox
from gateway.store.outbox import RedisOutbox
from tests.upstream.works import Works, at_works, eventually
from tests.vectors.patience import PATIENT_S

pytestmark = pytest.mark.slow

CURABLE = [
    "500",
    "500 applied",
    "502 applied",
    "503 not applied",
    "503 unknown",
    "429",
    "hang",
    "hang applied",
    "close",
    "drop applied",
    "half applied",
    "garbage",
    "garbage applied",
    "huge applied",
]
# A step of the forwarder, and the fault upstream that leads to it.
STEPS = [
    ("sealed", ""),
    ("open_rows", ""),
    ("seal", ""),
    ("begin_attempt", ""),
    ("clear_attempt", "429"),
    ("settle", ""),
    ("settle", "drop applied"),
    ("clean", ""),
]


async def assert_all_arrived(works: Works, total: dict[str, int]) -> None:
    assert dict(works.parent.total) == total
    assert works.parent.two_faced == []
    assert await works.ledger() == {"forwarded": sum(total.values())}
    assert await works.outbox().dirty() == {}


@pytest.mark.parametrize("fault", CURABLE)
def test_a_fault_upstream_is_ridden_out_under_one_id(tmp_path: Path, fault: str) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = [fault]
        assert await works.forwarder().drain() == []
        await assert_all_arrived(works, {"sessions": 42})
        assert len(set(works.parent.posts)) == 1

    at_works(tmp_path, story, timeout_s=0.5 if fault.startswith("hang") else PATIENT_S)


def test_a_bad_night_ends_with_every_unit_upstream_once(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        instances = [f"I{n}" for n in range(6)]
        for instance in instances:
            await works.provision(instance)
        works.parent.faults = CURABLE * 3
        used = 0
        for turn in range(4):
            for at, instance in enumerate(instances):
                await works.use("sessions", 10 * turn + at + 1, instance=instance)
                used += 10 * turn + at + 1
            await works.forwarder().drain()
        works.parent.faults = []
        assert await works.forwarder().drain() == []
        assert dict(works.parent.total) == {"sessions": used}
        assert works.parent.two_faced == []
        for instance in instances:
            assert set(await works.ledger(instance)) == {"forwarded"}

    at_works(tmp_path, story, timeout_s=0.5)


class Killed(BaseException):
    """The process is gone: nothing after it runs, not even what tidies up."""


class DyingOutbox:
    """A process's way to the store, that ends before or after one step."""

    def __init__(self, outbox: RedisOutbox, step: str, *, after: bool) -> None:
        self.outbox, self.step, self.after = outbox, step, after
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            if self.dead:
                raise Killed
            if name != self.step:
                return await getattr(self.outbox, name)(*args)
            self.dead = True
            if self.after:
                await getattr(self.outbox, name)(*args)
            raise Killed

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("step", "fault"), STEPS)
def test_killed_at_any_step_it_goes_on_under_the_same_id_in_the_same_bytes(
    tmp_path: Path, step: str, after: bool, fault: str
) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = [fault] if fault else []
        dying: Any = DyingOutbox(works.outbox(), step, after=after)
        outbox: Outbox = dying
        with pytest.raises(Killed):
            await works.forwarder(outbox=outbox).drain()
        sealed = await works.outbox().sealed("DEMO", "parent")
        await works.ledger()  # the equation, also here
        if sealed is not None:
            await works.use("sessions", 8)  # usage after the seal goes in a batch of its own
        await works.lapse_leases()
        assert await works.forwarder().drain() == []
        await assert_all_arrived(works, {"sessions": 50 if sealed else 42})
        if sealed is not None:
            assert works.parent.applied[sealed.id] == sealed.body
            assert json.loads(sealed.body)["features"][0]["count"] == 42

    at_works(tmp_path, story)


def test_a_zombie_s_late_settle_is_refused_and_the_new_owner_s_counts(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        await works.provision()
        await works.use("sessions", 42)
        works.parent.faults = ["wait"]
        zombie = asyncio.create_task(works.forwarder().drain())
        await eventually(lambda: bool(works.parent.posts))
        await works.lapse_leases()
        assert await works.forwarder().drain() == []
        await works.use("sessions", 8)
        before = await works.ledger()
        with capture_logs() as logs:
            works.parent.resume.set()
            await zombie
        assert logs[0]["event"] == "settle_refused"
        # The second batch it may have sent itself, under a lease of its own.
        assert before == {"forwarded": 42, "open": 8}
        await assert_all_arrived(works, {"sessions": 50})
        assert len(set(works.parent.posts)) == 2

    at_works(tmp_path, story)


def test_two_forwarders_share_the_work_and_nothing_goes_twice(tmp_path: Path) -> None:
    async def story(works: Works) -> None:
        instances = [f"I{n}" for n in range(12)]
        for instance in instances:
            await works.provision(instance)

        async def client() -> None:
            for turn in range(5):
                for instance in instances:
                    await works.use("users", turn + 1, instance=instance)

        forwarders = [works.forwarder() for _ in range(3)]
        await asyncio.gather(client(), *(each.drain() for each in forwarders))
        assert await works.forwarder().drain() == []
        assert dict(works.parent.total) == {"users": 12 * 15}
        # Nothing was in doubt, so nothing was sent twice either.
        assert len(works.parent.ids) == len(set(works.parent.ids))

    at_works(tmp_path, story)
