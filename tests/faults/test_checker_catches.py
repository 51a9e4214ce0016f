"""Broken forwarding is caught by the same checker in the same kind of run.

Each mutation is one way to lose or to double, in the store's script or in what is sent. It is run
in this process over a real store and a real upstream; the same stories unbroken find nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.config import load_config
from gateway.core.ports import Answer, Sender, Verdict
from gateway.core.usage import Batch
from gateway.store import scripts
from gateway.upstream.forwarder import Forwarder
from gateway.wiring import open_forwarder
from tests.faults.checker import violations
from tests.faults.plan import Plan
from tests.faults.scene import INSTANCES, LEASES, Scene, name_of, open_scene, until
from tests.faults.sites import HttpSite

READ_LUA = scripts.read_lua
DRAIN_S_MAX = 10.0
DOUBTFUL = ("500", "500 applied", "close", "close applied", "garbage", "garbage applied")
SCRIPT = [name for doubtful in DOUBTFUL for name in (doubtful, "")]
USED = name_of(INSTANCES[0], "sessions")

pytestmark = pytest.mark.faults
Wrap = Callable[[Sender], Sender]
Story = Callable[[Scene, HttpSite, Wrap], Awaitable[None]]


@dataclass(frozen=True)
class Mutation:
    """Text of settle.lua and what stands in its place, each found once; or another sender."""

    settle: Sequence[tuple[str, str]] = ()
    wrap: Wrap = lambda sender: sender


@dataclass
class OtherId:
    """Broken: what may have arrived goes again under another id."""

    sender: Sender

    async def send(self, batch: Batch) -> Verdict:
        if batch.first_sent_ms is not None:
            batch = replace_id(batch)
        return await self.sender.send(batch)


@dataclass
class Optimist:
    """Broken: no news is good news."""

    sender: Sender

    async def send(self, batch: Batch) -> Verdict:
        verdict = await self.sender.send(batch)
        return Verdict(Answer.GRANTED) if verdict.answer is Answer.UNKNOWN else verdict


UNBROKEN = Mutation()
BOOKED = "rebook_rows(KEYS[3], rows, ARGV[2], 'sealed', 'forwarded')\n"
ANY_BATCH = "local id = redis.call('HGET', KEYS[2], 'id')\nlocal rows = id and rows_of(KEYS[2], id)"
AT_RANDOM = {
    "does not end the batch": Mutation([("finish(KEYS[2])\n", "")]),
    "books units twice": Mutation([(BOOKED, 2 * BOOKED)]),
    "sends the unknown under another id": Mutation(wrap=OtherId),
    "takes the unknown for a grant": Mutation(wrap=Optimist),
}
BLIND = Mutation(
    [
        ("if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end\n", ""),
        ("local rows = rows_of(KEYS[2], ARGV[3])", ANY_BATCH),
    ]
)


@pytest.mark.parametrize("mutation", AT_RANDOM.values(), ids=AT_RANDOM)
def test_a_forwarder_is_caught_that(
    mutation: Mutation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_with(mutation, uncertain_answers, tmp_path, monkeypatch) != []


def test_a_settle_is_caught_that_looks_at_neither_lease_nor_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = found_with(BLIND, a_zombie, tmp_path, monkeypatch)
    assert any("7 lost" in each for each in found), found


@pytest.mark.parametrize("story", ["uncertain_answers", "a_zombie"])
def test_nothing_is_found_where_nothing_is_broken(
    story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_with(UNBROKEN, globals()[story], tmp_path, monkeypatch) == []


async def uncertain_answers(scene: Scene, site: HttpSite, wrap: Wrap) -> None:
    """Half of what is sent has no answer that could be believed; half of that was counted."""
    site.upstream.follow(Plan(script=SCRIPT))
    async with forwarding(scene, wrap) as forwarder:
        forwarder.start()
        for _ in range(100):
            scene.load.begin()
        await scene.load.finish()
        await until(lambda: len(site.upstream.handled()) >= len(INSTANCES))
        await scene.judge()


async def a_zombie(scene: Scene, site: HttpSite, wrap: Wrap) -> None:
    """A settle comes late: its batch was settled by another, who now has the next one under way."""
    site.upstream.follow(Plan(script=["late", "", *["500"] * 20], late_s=0.8))
    await scene.load.use(INSTANCES[0], USED, 5)
    async with forwarding(scene, wrap) as sleeper:
        sleeper.start()
        await until(lambda: site.upstream.accepted())
        await scene.store.client.delete(*LEASES)
        await scene.load.use(INSTANCES[0], USED, 7)
        async with forwarding(scene, wrap) as waker:
            waker.start()
            await until(lambda: "500" in [each.fault for each in site.upstream.handled()])
            await sleeper.stop()  # once its answer has come


def found_with(
    mutation: Mutation, story: Story, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Run a story with something broken, drain, and give what the checker finds."""

    def read_lua(name: str) -> str:
        text = READ_LUA(name)
        for old, new in mutation.settle if name == "settle" else ():
            assert text.count(old) == 1, f"settle.lua has changed: {old!r}"
            text = text.replace(old, new)
        return text

    monkeypatch.setattr(scripts, "read_lua", read_lua)

    async def run() -> list[str]:
        async with open_scene(directory, ["ours"], seed=7) as scene:
            (site,) = scene.http
            await story(scene, site, mutation.wrap)
            if scene.found:
                return scene.found
            site.upstream.follow(Plan())
            with suppress(TimeoutError):  # what never ends is not drained either
                async with forwarding(scene, mutation.wrap) as forwarder:
                    async with asyncio.timeout(DRAIN_S_MAX):
                        await forwarder.drain()
            books, evidence = await scene.books(), await scene.evidence()
            return violations(books, scene.load.journal(), evidence, drained=True)

    found = asyncio.run(run())
    print(*found, sep="\n")
    return found


@asynccontextmanager
async def forwarding(scene: Scene, wrap: Wrap) -> AsyncIterator[Forwarder]:
    """Give a forwarder in this process, configured as the others are."""
    config = load_config(scene.config, {}, {"redis.url": scene.server.url})
    async with open_forwarder(config, scene.store) as forwarder:
        forwarder.routes = [replace(route, sender=wrap(route.sender)) for route in forwarder.routes]
        yield forwarder


def replace_id(batch: Batch) -> Batch:
    return Batch(uuid4().hex, batch.upstream, batch.instance, batch.rows, batch.body)
