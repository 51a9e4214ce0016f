"""The end of every run: a faultless drain, a person who decides, and the last judgement.

Decided here: in which order a run comes to rest. Whoever could still send is ended before anybody
looks at an upstream for what is parked: only then has what arrived arrived. Not decided here: what
must agree then (checker.py).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.core.ports import Standing
from gateway.service.asides import Desk
from gateway.service.decisions import Action
from gateway.store.asides import Asides
from gateway.store.opening import Store
from tests.faults.checker import violations
from tests.faults.plan import Plan
from tests.faults.scene import Scene
from tests.faults.sites import HttpSite, Site, SpoolSite

DRAINS_MAX = 6
COMMANDS_MAX = 3  # decisions taken by a command; a process for each of them would take long
REASON = "looked it up"
NO_ANSWER = "no usable answer"  # of a store on a machine that stalls: whoever asked asks again


class Stage(Protocol):
    """What has to come to rest: upstreams, a store, commands. `found` is what was amiss so far."""

    store: Store
    found: list[str]
    decided: int

    @property
    def http(self) -> Sequence[HttpSite]: ...

    @property
    def spools(self) -> Sequence[SpoolSite]: ...

    @property
    def shelf(self) -> Asides: ...

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""

    async def asides(self, site: Site) -> dict[str, str]:
        """Give batches set aside for an upstream, with where they stand."""


async def finish(scene: Scene) -> list[str]:
    """Bring a run to its end, once nothing is done to anybody any more; give all that is amiss."""
    for site in scene.http:
        site.upstream.follow(Plan())
    await scene.load.finish()
    for place in range(len(scene.forwarders)):
        await scene.end_forwarder(place)
    await scene.lapse_leases()  # of those that were killed
    await drain(scene)
    await settle_receipts(scene)
    if await decide(scene):
        await drain(scene)
        await settle_receipts(scene)
    return await judge_drained(scene)


async def drain(scene: Stage) -> None:
    """Forward until nothing is left."""
    told = []
    for _ in range(DRAINS_MAX):
        ended = await scene.command("forward", "--once")
        if ended.returncode == 0:
            return
        told.append(ended.stderr[-1_000:])
    scene.found += ["forward --once leaves something", *told]


async def settle_receipts(scene: Stage) -> None:
    """Let the carrier take over every file, and settle them all."""
    for spool in scene.spools:
        spool.visit(everything=True)
        receipt = spool.carrier.receipt(everything=True)
        if receipt is not None:
            ended = await scene.command("forward", "--receipt", str(receipt))
            if ended.returncode != 0:
                scene.found.append(f"the last receipt: {ended.stdout}{ended.stderr}")


async def decide(scene: Stage) -> int:
    """Look for every parked batch at its upstream and say what was found; give how many."""
    decided = 0
    for site in scene.http:
        for batch, standing in sorted((await scene.asides(site)).items()):
            if standing == Standing.PARKED:
                arrived = site.upstream.arrived(batch)
                action = Action.APPLIED if arrived else Action.NOT_APPLIED
                await _reconcile(scene, site, batch, action, by_command=decided < COMMANDS_MAX)
                decided += 1
    scene.decided += decided
    return decided


async def judge_drained(scene: Scene) -> list[str]:
    """Hold everything against everything, once nothing is under way."""
    told = await scene.command("verify", "--format", "json", "--deep")
    if told.returncode != 0:
        scene.found.append(f"verify exits with {told.returncode}: {told.stderr}")
    books = msgspec.json.decode(told.stdout) if told.stdout else await scene.books()
    evidence = await scene.evidence()
    scene.found += violations(books, scene.load.journal(), evidence, drained=True)
    for spool in scene.spools:
        scene.found += spool.carrier.complaints
        scene.found += [f"number {each} never was there" for each in spool.carrier.missing()]
    for log in scene.directory.glob("log-*"):
        _, traceback, tail = log.read_text().partition("Traceback")
        scene.found += [f"{log.name}: {traceback}{tail[:2_000]}"] * bool(traceback)
    for site in scene.http:
        scene.found += [f"{site.name}: {site.upstream.log}"] * bool(site.upstream.log)
    return scene.found


async def _reconcile(
    scene: Stage, site: HttpSite, batch: str, action: Action, *, by_command: bool
) -> None:
    if by_command:
        _, word = action.split(" ")
        said = ("forward", "reconcile", batch, word, "--reason", REASON)
        ended = await scene.command(*said)
        if NO_ANSWER in ended.stderr:  # it may have been done: the books tell in the end
            await scene.command(*said)
        elif ended.returncode != 0:
            scene.found.append(f"{action} of {batch}: {ended.stderr}")
        return
    desk = Desk(scene.shelf, scene.store.catalogues, {site.name: site.kind})
    await desk.decide(await desk.find(batch), action, "tester", REASON)
