"""A scene with the LicenseSpring cloud: a store, a cloud and forwarders, all of them processes.

Decided here: how they stand together, and how a story ends: drained without faults, what was
granted, our books and the cloud's are held against one another. Not decided here: what is done to
them (test_cloud_kills.py).
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.core.calls import Reply
from gateway.core.errors import Unavailable
from gateway.core.fingerprint import fingerprint
from gateway.core.keys import public_pem
from gateway.core.model import (
    AccessRequest,
    Attachment,
    Catalogue,
    FloatingLicense,
    Host,
    Line,
    Model,
    Want,
)
from gateway.service.balance import Books, audit, conservation
from gateway.store.asides import Asides
from gateway.store.calls import Job
from gateway.store.keys import PartitionKeys
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox
from tests.faults.cloud_forwarder import GOOD_S, SLEEPS
from tests.faults.store_process import StoreProcess
from tests.system.processes import clean_environ
from tests.upstream.cloud_house import (
    API_KEY,
    HARDWARE,
    KEY,
    LICENCE,
    NAME,
    PRODUCT,
    SHARED_KEY,
    prepare,
    signing_key,
)
from tests.upstream.cloud_process import CloudProcess

PROGRAM = (sys.executable, str(Path(__file__).with_name("cloud_forwarder.py")))
PARTITIONS = 4
INSTANCE = "DEMO"
FEATURES = ("", "pages", "scans", "calls")
LOOK_S = 0.01
UNTIL_S_MAX = 120.0
TRIES_MAX = 60
DRAINS_MAX = 12
CONFIG = """
[redis]
partitions = {partitions}
ack = "local"
[forward]
interval = "1s"
timeout_s = 1
blocked_retry = "2s"
[[upstream]]
name = "{name}"
kind = "licensespring"
url = "{url}"
api_key_file = "api"
shared_key_file = "shared"
hardware_id = "{hardware}"
verify_key_file = "verify.pem"
"""


def line_of(feature: str) -> Line:
    stands_for = FloatingLicense(77, PRODUCT, feature, KEY)
    return Line(
        id=f"L-{feature}",
        feature=feature or "main",
        version="1.0",
        model=Model.METERED,
        count=None,
        capacity=2**53 - 1,
        licensespring=stands_for,
    )


@dataclass
class Scene:
    """A store, a cloud, forwarders, and a client; all but the client are processes."""

    directory: Path
    server: StoreProcess
    store: Store
    cloud: CloudProcess
    granted: Counter[str] = field(default_factory=Counter)
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)  # but those that the cloud plans

    @property
    def options(self) -> list[str]:
        config = str(self.directory / "gateway.toml")
        told = {"config": config, "redis": self.server.url, "data-dir": str(self.directory)}
        return [word for name, value in told.items() for word in (f"--{name}", value)]

    @property
    def outbox(self) -> RedisOutbox:
        return RedisOutbox(self.store.topology, self.store.scripts, PARTITIONS)

    def start(self, *, sleeps: bool = False) -> subprocess.Popen[str]:
        """Start a forwarder; one that `sleeps` suspends itself before its first call that adds."""
        with (self.directory / f"log-{len(self.started)}").open("w") as log:
            process = subprocess.Popen(
                [*PROGRAM, "forward", *self.options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
                env=clean_environ() | ({SLEEPS: "1"} if sleeps else {}),
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        self.faults["SIGKILL"] += 1

    def says(self, number: int, event: str) -> bool:
        """Say whether a forwarder logged this; -1 is the one that was started last."""
        number %= len(self.started)
        return event in (self.directory / f"log-{number}").read_text()

    async def use(self, feature: str, units: int) -> None:
        index = await self.store.catalogues.read(INSTANCE)
        assert index is not None
        want = Want(feature or "main", "1.0", units)
        request = AccessRequest(host=Host("string", "h"), wants=(want,), incremental=True)
        key, meaning = secrets.token_urlsafe(16), fingerprint(request).hex()
        wants, host = index.resolve(request), request.host.canonical
        job = Job(index, wants, key, 3_600_000, meaning, "", host, 1)
        reply = await self._submitted(job)
        if reply.outcome is None:  # the catalogue was pulled meanwhile: nothing was counted
            return await self.use(feature, units)
        self.granted[feature] += sum(grant.units for grant in reply.outcome.grants)
        return None

    async def _submitted(self, job: Job) -> Reply:
        """Submit until it is answered: under its key it counts once."""
        for _ in range(TRIES_MAX):
            with suppress(Unavailable):
                return await self.store.lane.submit(job)
            await asyncio.sleep(LOOK_S)
        raise AssertionError("the store does not answer")

    async def work(self, dice: random.Random) -> None:
        """Consume until cancelled."""
        while True:
            await self.use(dice.choice(FEATURES), dice.randint(1, 9))
            await asyncio.sleep(0.01)

    async def lapse_leases(self) -> None:
        leases = [PartitionKeys(partition).lease for partition in range(PARTITIONS)]
        await self.store.client.delete(*leases)

    async def leased(self) -> bool:
        leases = [PartitionKeys(partition).lease for partition in range(PARTITIONS)]
        return bool(await self.store.client.exists(*leases))

    async def books(self) -> Books:
        """Read our books deep; they are right at every moment."""
        books = await audit(self.store.catalogues, INSTANCE, deep=True)
        assert conservation([books]) == "OK"
        return books

    async def delivered(self) -> bool:
        """Say whether the cloud is known to have all that was granted."""
        return all(entry.acked == entry.forwarded for entry in (await self.books()).lines)

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `forward` with these words to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [*PROGRAM, "forward", *words, *self.options],
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    async def finish(self) -> None:
        """Drain without faults, and hold all records against one another."""
        self.cloud.follow()
        self.end()
        await self.lapse_leases()
        for _ in range(DRAINS_MAX):
            drained = await self.command("--once")
            if drained.returncode == 0:
                break
            await asyncio.sleep(1)
        assert drained.returncode == 0, drained.stderr[-2_000:]
        books = await self.books()
        there = self.cloud.totals(HARDWARE)
        faults = self.faults + self.cloud.faults()
        lost, doubled = (self.granted - there).total(), (there - self.granted).total()
        print(
            f"acknowledged {self.granted.total()}, faults injected {faults.total()}"
            f" {dict(faults)}, lost {lost}, doubled {doubled}"
        )
        asides = Asides(self.store.topology, self.store.scripts, PARTITIONS)
        assert [each.why for each in await asides.batches(INSTANCE, NAME)] == []
        for entry in books.lines:
            feature = entry.id.removeprefix("L-")
            assert (entry.open, entry.sealed, entry.parked, entry.dead) == (0, 0, 0, 0)
            assert entry.acked == entry.forwarded == self.granted[feature] == there[feature]
        assert self.cloud.log == ""
        assert sum(each.kind == "activate" for each in self.cloud.counted()) == 1
        for log in self.directory.glob("log-*"):
            assert "Traceback" not in log.read_text(), log.read_text()[-2_000:]


@asynccontextmanager
async def open_scene(directory: Path) -> AsyncIterator[Scene]:
    place = directory / "cloud"
    features = {name: {"max_consumptions": 10**9} for name in FEATURES if name}
    prepare(place, [{**LICENCE, "max_consumptions": 10**9, "features": features}])
    settings = json.loads((place / "settings.json").read_text())
    (place / "settings.json").write_text(json.dumps({**settings, "good_s": GOOD_S}))
    with ExitStack() as stack:
        server = stack.enter_context(StoreProcess())
        cloud = stack.enter_context(CloudProcess(place))
        (directory / "api").write_text(API_KEY)
        (directory / "shared").write_text(SHARED_KEY)
        (directory / "verify.pem").write_bytes(public_pem(signing_key().public_key()))
        told = {"partitions": PARTITIONS, "name": NAME, "url": cloud.url, "hardware": HARDWARE}
        (directory / "gateway.toml").write_text(CONFIG.format(**told))
        async with open_store(server.url, directory, partitions=PARTITIONS, ack="local") as store:
            lines = tuple(line_of(feature) for feature in FEATURES)
            attached = (Attachment(NAME),)
            await store.catalogues.put(Catalogue(id=INSTANCE, lines=lines, upstreams=attached))
            scene = Scene(directory, server, store, cloud)
            stack.callback(scene.end)
            yield scene


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(int(UNTIL_S_MAX / LOOK_S)):
        found = condition()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"not within {UNTIL_S_MAX} s")


def tell(directory: Path, story: Callable[[Scene], Awaitable[None]], within_s: float = 900) -> None:
    async def run() -> None:
        async with asyncio.timeout(within_s), open_scene(directory) as scene:
            await story(scene)
            await scene.finish()

    asyncio.run(run())
