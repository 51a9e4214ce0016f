"""Kills, suspensions and silence at chosen moments: of seal, send, settle, a lease, a store.

GATEWAY_KILLS says how many kill -9 there are over all kinds (200 is the full number),
GATEWAY_FAULT_SEED repeats their moments. After each story everything is drained, looked up and
judged (ending.py).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.errors import Unavailable
from gateway.core.usage import Batch
from gateway.store.outbox import RedisOutbox
from tests.faults.ending import finish
from tests.faults.plan import Plan
from tests.faults.scene import (
    INSTANCES,
    LOOK_S,
    PARTITIONS,
    UNTIL_S_MAX,
    Running,
    Scene,
    name_of,
    open_scene,
    until,
)
from tests.faults.sites import HttpSite

KILLED = ("ours", "foreign", "cloudevents")
KILLS = int(os.environ.get("GATEWAY_KILLS", "9"))
MIX = {"": 4, "late": 3, "drip": 1, "drip applied": 1, "hang applied": 1}
# Before it has a lease a forwarder does nothing. Then a kill falls into a send that lasts, or
# anywhere into seal, send and settle, which take some milliseconds each.
AIMS = [(Plan(mix=MIX, late_s=0.3, drip_s=0.002), 0.6), (Plan(), 0.08)]
LATE_S = 6.0  # in which something is done while an answer is on its way
LONG_S = 60.0  # a time-out that ends nothing here
READS_MAX = 20
ME = INSTANCES[0]
USED = name_of(ME, "sessions")

pytestmark = pytest.mark.faults
Story = Callable[[Scene, HttpSite], Awaitable[None]]


def tell(
    directory: Path, kinds: Sequence[str], story: Story, *, timeout_s: float = 1.0, seed: int = 0
) -> None:
    """Run a story about the first of some upstreams to its end, and judge it."""

    async def run() -> list[str]:
        async with open_scene(directory, kinds, seed, timeout_s=timeout_s) as scene:
            await story(scene, scene.http[0])
            return scene.found or await finish(scene)

    assert asyncio.run(run()) == []


async def sealed(scene: Scene, instance: str = ME) -> Batch | None:
    """Give what is sealed of an instance for the first upstream."""
    outbox = RedisOutbox(scene.store.topology, scene.store.scripts, PARTITIONS)
    for _ in range(READS_MAX):  # a connection may be left from a store that was killed
        with suppress(Unavailable):
            return await outbox.sealed(instance, scene.sites[0].name)
        await asyncio.sleep(LOOK_S)
    raise AssertionError("the store does not answer")


def says(running: Running, event: str) -> bool:
    return event in running.log.read_text()


@pytest.mark.parametrize("kind", KILLED)
def test_a_kill_at_any_moment_of_seal_send_and_settle_loses_and_doubles_nothing(
    kind: str, tmp_path: Path
) -> None:
    seed = int(os.environ.get("GATEWAY_FAULT_SEED") or secrets.randbelow(2**32))
    print(f"GATEWAY_FAULT_SEED={seed}")
    dice = random.Random(f"kills {seed}")  # noqa: S311 (to be repeatable)
    fell: Counter[str] = Counter()

    async def story(scene: Scene, site: HttpSite) -> None:
        working = asyncio.create_task(scene.load.run())
        for number in range(-(-KILLS // len(KILLED))):
            plan, span_s = dice.choice(AIMS)
            site.upstream.follow(replace(plan, seed=number))
            running = scene.start_forwarder(0 if scene.forwarders else None)
            await first_lease(scene, running)
            await asyncio.sleep(dice.uniform(0, span_s))
            scene.kill_forwarder(0)
            fell[await moment(scene, site)] += 1
            await scene.lapse_leases()
            await scene.judge()
        working.cancel()

    tell(tmp_path, [kind], story, seed=seed)
    print(dict(fell))


async def first_lease(scene: Scene, running: Running) -> None:
    """Wait until a forwarder, the only one, begins to work."""
    for _ in range(int(UNTIL_S_MAX / LOOK_S)):
        if await scene.leased():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(running.tail)


async def lease_passed(scene: Scene) -> None:
    """Wait until the lease of one that sleeps has run out."""
    for _ in range(int(UNTIL_S_MAX / LOOK_S)):
        if not await scene.leased():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError("a lease does not run out")


async def moment(scene: Scene, site: HttpSite) -> str:
    """Say when a kill fell, by what is left of the batches that were under way."""
    found = [await sealed(scene, instance) for instance in INSTANCES]
    begun = [batch for batch in found if batch and batch.attempts]
    if any(site.upstream.arrived(batch.id) for batch in begun):
        return "arrived, not settled"
    if begun:
        return "begun, not arrived"
    return "sealed, not begun" if any(found) else "between batches"


@pytest.mark.parametrize(
    ("passes", "kind"),
    [("time", "ours"), *(("the lease", kind) for kind in ("ours", "foreign", "cloudevents"))],
)
def test_who_sleeps_past_the_lease_settles_nothing_that_is_another_s(
    passes: str, kind: str, tmp_path: Path
) -> None:
    """The sleeper's answer comes when the batch was settled and another one is under way."""

    async def story(scene: Scene, site: HttpSite) -> None:
        late = Plan(script=["late"], late_s=LATE_S)
        site.upstream.follow(late)
        sleeper = scene.start_forwarder()
        await scene.load.use(ME, USED, 5)
        await until(lambda: site.upstream.accepted())
        batch = await sealed(scene)
        sleeper.process.send_signal(signal.SIGSTOP)
        await scene.load.use(ME, USED, 7)
        if passes == "time":
            await lease_passed(scene)
        else:
            await scene.lapse_leases()
        waker = scene.start_forwarder()
        ended = "batch_parked" if kind == "foreign" else "batch_settled"
        await until(lambda: says(waker, ended))
        # The next one is on its way while the sleeper wakes.
        site.upstream.follow(Plan(script=["late", "late"], late_s=LATE_S))
        await scene.load.use(ME, USED, 9)
        await until(lambda: site.upstream.handled()[-1].plan == 2)
        during = await sealed(scene)
        sleeper.process.send_signal(signal.SIGCONT)
        await until(lambda: says(sleeper, "settle_refused"))
        assert batch is not None
        assert during is not None
        assert batch.id != during.id
        after = await sealed(scene)
        assert after is None or after.id == during.id
        await scene.judge()

    tell(tmp_path, [kind], story, timeout_s=LONG_S)


@pytest.mark.parametrize("kind", ["ours", "foreign", "cloudevents"])
def test_an_upstream_that_accepts_and_never_answers_has_everything_once(
    kind: str, tmp_path: Path
) -> None:
    """It is asked again under the same id, or where none is remembered, a person is asked."""

    async def story(scene: Scene, site: HttpSite) -> None:
        site.upstream.follow(Plan(mix={"hang applied": 1}))
        scene.start_forwarder()
        for number, instance in enumerate(INSTANCES):
            await scene.load.use(instance, name_of(instance, "users"), number + 1)
        await until(lambda: len(site.upstream.handled()) >= len(INSTANCES))
        await scene.judge()

    tell(tmp_path, [kind], story)


@pytest.mark.parametrize("kind", ["ours", "cloudevents"])
def test_two_answers_with_different_bodies_are_one_grant(kind: str, tmp_path: Path) -> None:
    async def story(scene: Scene, site: HttpSite) -> None:
        site.upstream.follow(Plan(script=["two bodies", "two bodies", "half applied"]))
        running = scene.start_forwarder()
        await scene.load.use(ME, USED, 5)
        await until(lambda: says(running, "batch_settled"))
        handled = site.upstream.handled()
        assert len({each.batch for each in handled}) == 1
        assert sum(each.applied for each in handled) == 1

    tell(tmp_path, [kind], story)


@pytest.mark.parametrize("kind", ["ours", "foreign", "cloudevents"])
def test_a_store_that_is_killed_between_seal_and_send_still_has_the_batch(
    kind: str, tmp_path: Path
) -> None:
    """The upstream sleeps, so that the batch is sealed and its bytes are on their way to nobody."""

    async def story(scene: Scene, site: HttpSite) -> None:
        site.upstream.pause()
        running = scene.start_forwarder()
        await scene.load.use(ME, USED, 5)
        await until(lambda: says(running, "batch_sealed"))
        before = await sealed(scene)
        scene.server.kill()
        scene.server.start()
        after = await sealed(scene)
        assert before is not None
        assert after is not None
        assert (before.id, before.rows, before.body) == (after.id, after.rows, after.body)
        site.upstream.resume()
        await scene.judge()

    tell(tmp_path, [kind], story, timeout_s=LONG_S)
