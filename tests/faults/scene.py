"""A run's scene: a store, instances, upstreams and forwarders, as processes, with clients at work.

Decided here: how they stand together, and how the books are read and judged at any moment. Not
decided here: what is done to them (nemesis.py), how a run ends (ending.py), what must agree
(checker.py). Everything is ended as the scene is left, by its process id.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import RedisError

from gateway.core.errors import Unavailable
from gateway.core.model import UNITS_MAX, Attachment, Catalogue, Line, Model
from gateway.service.balance import audit, conservation
from gateway.store.asides import Asides
from gateway.store.keys import PartitionKeys
from gateway.store.opening import Store, open_store
from tests.faults.checker import Evidence, violations
from tests.faults.load import Load
from tests.faults.sites import KEY_FILES, KINDS, HttpSite, Site, SpoolSite
from tests.faults.store_process import StoreProcess
from tests.system.processes import COMMAND, Processes, clean_environ

PARTITIONS = 4
# What is acknowledged at a weaker level may be lost with the store while its disk is being synced.
ACK = "local"
LEASES = [PartitionKeys(partition).lease for partition in range(PARTITIONS)]
INSTANCES = tuple(f"I{number}" for number in range(6))
FEATURES = ("sessions", "users", "seats", "tokens")
BY_HOST = "I5"
END_S_MAX = 40.0  # it has 8 for a batch under way
UNTIL_S_MAX = 60.0
LOOK_S = 0.005
READS_MAX = 20
LOG_CHARS_MAX = 2_000
NO_STORE = "cannot be reached"
COMMAND_S_MAX = 180.0
SETTINGS = """
[redis]
partitions = {partitions}
ack = "{ack}"
[forward]
interval = "1s"
timeout_s = {timeout_s}
blocked_retry = "2s"
[signing]
key_file = "signing.pem"
"""
AWAY = (Unavailable, RedisError, OSError)  # the store was killed, or is paused


@dataclass
class Running:
    """A `forward` process; `expected`: that it has ended, or will, is known."""

    process: subprocess.Popen[str]
    log: Path
    expected: bool = False

    @property
    def tail(self) -> str:
        return self.log.read_text()[-LOG_CHARS_MAX:]


@dataclass
class Scene:
    """Everything of a run. `found` is what was amiss so far, in sentences."""

    directory: Path
    server: StoreProcess
    store: Store
    sites: Sequence[Site]
    load: Load
    processes: Processes
    config: Path
    forwarders: list[Running] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    ticks: int = 0
    decided: int = 0

    @property
    def options(self) -> list[str]:
        """The options that every command gets."""
        told = {"config": self.config, "redis": self.server.url, "data-dir": self.directory}
        return [word for name, value in told.items() for word in (f"--{name}", str(value))]

    @property
    def shelf(self) -> Asides:
        """What is set aside, as read and decided about in this process."""
        return Asides(self.store.topology, self.store.scripts, PARTITIONS, self.store.strength.wait)

    @property
    def http(self) -> list[HttpSite]:
        return [site for site in self.sites if isinstance(site, HttpSite)]

    @property
    def spools(self) -> list[SpoolSite]:
        return [site for site in self.sites if isinstance(site, SpoolSite)]

    def start_forwarder(self, place: int | None = None) -> Running:
        """Start one, in the place of one that has ended, if named; it is not waited for."""
        running = Running(*self.processes.start("forward", *self.options))
        if place is None:
            self.forwarders.append(running)
        else:
            self.forwarders[place] = running
        return running

    def kill_forwarder(self, place: int) -> None:
        """End one at once; the leases it held stay until they lapse."""
        running = self.forwarders[place]
        self.note_dead()
        running.process.kill()
        running.process.wait()
        running.expected = True

    async def end_forwarder(self, place: int) -> None:
        """Tell one to stop, and see that it does in time."""
        running = self.forwarders[place]
        self.note_dead()
        if running.expected:
            return
        running.expected = True
        running.process.terminate()
        try:
            code = await asyncio.to_thread(running.process.wait, END_S_MAX)
        except subprocess.TimeoutExpired:
            self.found.append(f"a forwarder did not end in {END_S_MAX} s: {running.tail}")
            return
        # Before it has come so far as to listen for signals, it just ends.
        if code not in (0, -signal.SIGTERM) and NO_STORE not in running.tail:
            self.found.append(f"a forwarder ended with {code}: {running.tail}")

    def note_dead(self) -> None:
        """Note forwarders that ended by themselves. One that finds no store for long may."""
        for running in self.forwarders:
            if running.process.poll() is not None and not running.expected:
                running.expected = True
                if NO_STORE not in running.tail:
                    code = running.process.returncode
                    self.found.append(f"a forwarder ended by itself with {code}: {running.tail}")

    async def leased(self) -> bool:
        """Say whether anybody holds a lease; asked again of a store that stalls."""
        for _ in range(READS_MAX):
            with suppress(*AWAY):
                return bool(await self.store.client.exists(*LEASES))
            await asyncio.sleep(LOOK_S)
        raise AssertionError("the store does not answer")

    async def lapse_leases(self) -> None:
        """Do what time does to the leases of a process that was killed, or that sleeps."""
        with suppress(*AWAY):
            await self.store.client.delete(*LEASES)

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, *words, *self.options],
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S_MAX,
        )

    async def asides(self, site: Site) -> dict[str, str]:
        """Give batches set aside for an upstream, with where they stand."""
        found: dict[str, str] = {}
        for instance in INSTANCES:
            batches = await self.shelf.batches(instance, site.name)
            found |= {each.id: str(each.standing) for each in batches}
        return found

    async def books(self) -> dict[str, Any]:
        """Read the books of all instances deep, as `verify --format json --deep` tells them."""
        books = [await audit(self.store.catalogues, name, deep=True) for name in INSTANCES]
        shown = [{"id": each.id, "lines": each.lines} for each in books]
        told: dict[str, Any] = msgspec.to_builtins(
            {"instances": shown, "conservation": conservation(books)}
        )
        return told

    async def evidence(self) -> dict[str, Evidence]:
        return {site.name: site.evidence(await self.asides(site)) for site in self.sites}

    async def judge(self) -> list[str]:
        """Hold the books against journal and upstreams, in the middle of everything."""
        self.note_dead()
        moment = self.load.moment()
        try:
            told = await self.books()
            journal = self.load.journal(moment)
            self.found += violations(told, journal, await self.evidence())
            self.ticks += 1
        except AWAY:  # then nothing can be said now
            pass
        return self.found

    async def judge_drained(self) -> list[str]:
        """Hold everything against everything, once nothing is under way."""
        told = await self.command("verify", "--format", "json", "--deep")
        if told.returncode != 0:
            self.found.append(f"verify exits with {told.returncode}: {told.stderr}")
        books = msgspec.json.decode(told.stdout) if told.stdout else await self.books()
        journal = self.load.journal()
        self.found += violations(books, journal, await self.evidence(), drained=True)
        for spool in self.spools:
            self.found += spool.carrier.complaints
        for log in self.directory.glob("log-*"):
            text = log.read_text()
            if "Traceback" in text:
                self.found.append(f"{log.name}: {text[text.index('Traceback') :][:2_000]}")
        for site in self.http:
            self.found += [f"{site.name}: {site.upstream.log}"] * bool(site.upstream.log)
        return self.found


@asynccontextmanager
async def open_scene(
    directory: Path, kinds: Sequence[str], seed: int, *, timeout_s: float = 1.0
) -> AsyncIterator[Scene]:
    """Set a scene with upstreams of these kinds, all attached to each instance.

    No forwarder runs yet, and nothing is asked for. `timeout_s` is `forward.timeout_s`.
    """
    with ExitStack() as stack:
        server = stack.enter_context(StoreProcess())
        processes = Processes(directory)
        stack.callback(processes.close)
        sites = []
        for kind in kinds:
            site = KINDS[kind](directory, seed)
            stack.callback(site.close)
            sites.append(site)
        for name, pem in KEY_FILES.items():
            (directory / name).write_bytes(pem)
        config = directory / "gateway.toml"
        settings = SETTINGS.format(ack=ACK, partitions=PARTITIONS, timeout_s=timeout_s)
        config.write_text(settings + "".join(site.toml() for site in sites))
        async with open_store(server.url, directory, partitions=PARTITIONS, ack=ACK) as store:
            lines = await _provision(store, [site.name for site in sites])
            load = Load(store, lines, seed)
            yield Scene(directory, server, store, sites, load, processes, config)


def name_of(instance: str, feature: str) -> str:
    """Give a feature's name, as instances have them to themselves."""
    return f"{feature}-{instance}"


async def _provision(store: Store, upstreams: Sequence[str]) -> list[tuple[str, Line]]:
    """Give every instance lines of its own, so that no sum of one hides what another lacks."""
    provisioned = []
    for instance in INSTANCES:
        lines = tuple(_line(instance, feature) for feature in FEATURES)
        attached = tuple(Attachment(name, by_host=instance == BY_HOST) for name in upstreams)
        await store.catalogues.put(Catalogue(id=instance, lines=lines, upstreams=attached))
        provisioned += [(instance, line) for line in lines]
    return provisioned


def _line(instance: str, feature: str) -> Line:
    return Line(
        id=f"{instance}-{feature}",
        feature=name_of(instance, feature),
        version="1.0",
        model=Model.METERED,
        count=None,
        capacity=UNITS_MAX,
        undo_ms=3_600_000,
    )


async def until(condition: Callable[[], object], within_s: float = UNTIL_S_MAX) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    for _ in range(int(within_s / LOOK_S)):
        if condition():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"not within {within_s} s")
