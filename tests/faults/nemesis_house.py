"""The house of a nemesis: three gateways behind HAProxy, forwarders, two upstreams, one store.

Decided here: how they stand together, what they are provisioned with, who asks for what, and how
the books are read at any moment. One gateway has two workers, another one a clock of its own; in
each of them a forwarder is inside, two more are processes. Not decided here: what is done to them
(nemesis_plant.py, nemesis_stores.py), what must agree (nemesis_books.py).
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.keys import generate, private_pem, public_pem
from gateway.service.balance import audit, conservation
from gateway.store.asides import Asides
from gateway.store.chain import make_chain
from gateway.store.keys import InstanceKeys
from gateway.store.opening import Store as Opened
from gateway.store.opening import open_store
from tests.faults.checker import Pair
from tests.faults.fleet_clock import StepClock
from tests.faults.fleet_replica import Replica
from tests.faults.fleet_requests import PAYLOAD_KEY, PAYLOAD_KID, TOKEN_KEY, TOKEN_KID
from tests.faults.nemesis_clients import (
    SPARE_KEY,
    SPARE_KID,
    Batches,
    Changed,
    Client,
    Consumers,
    Sitters,
    Spares,
)
from tests.faults.nemesis_floating import CAPACITY as FLOATING_CAPACITY
from tests.faults.nemesis_floating import LINES as FLOATING_LINES
from tests.faults.nemesis_floating import PAGES, UNITS, Floaters
from tests.faults.nemesis_processes import Crew, Forwarder
from tests.faults.nemesis_stores import PARTITIONS, Store
from tests.faults.sites import KEY_FILES, KINDS, HttpSite, Site
from tests.licensespring.signatures import read_chain
from tests.stores.byte_proxy import ByteProxy
from tests.stores.haproxy import HAProxy
from tests.stores.programs import start_all
from tests.system.processes import COMMAND, clean_environ

GATEWAYS = tuple(f"gateway-{number}" for number in range(3))
MANY_WORKERS, OWN_CLOCK = GATEWAYS[1], GATEWAYS[2]
FORWARDERS = tuple(f"forwarder-{number}" for number in range(2))
UPSTREAMS = ("ours", "cloudevents")  # kinds: a gateway of ours above, and one that takes events
# In a cluster on different nodes, as it stands at the beginning.
CONSUMED, BATCHED, SEATED, FLOATING, CHANGED = INSTANCES = (
    "CONSUMED", "BATCHED", "SEATS", "FLOATING", "CHANGED",
)  # fmt: skip
PLENTY = 10**9
TIGHT = 400  # units of a line that is used up in the course of a run
SEATS = 4
CHANGES = (5_000, 50_000)  # units of the line whose capacity is changed
DEADLINE_MS = 1_000
COMMAND_S_MAX = 180.0
SETTINGS = """
[redis]
url = "{{url}}"
partitions = {partitions}
ack = "{ack}"
ack_replicas = {replicas}
deadline_ms = {deadline_ms}
[forward]
interval = "1s"
timeout_s = 1
blocked_retry = "2s"
[signing]
key_file = "{directory}/signing.pem"
[licensespring]
instance = "{floating}"
key_file = "{directory}/floating.pem"
chain_file = "{directory}/chain.pem"
"""
LINE = """
[[instance.line]]
id = "{name}"
feature = "{name}"
version = "1.0"
model = "{model}"
count = {count}
{more}
"""


@dataclass
class House:
    """Everything of a run. `found` is what was amiss so far, in sentences."""

    directory: Path
    at: Store
    store: Opened
    sites: Sequence[HttpSite]
    wires: Sequence[ByteProxy]  # to the upstreams, in their order
    gateways: Sequence[Replica]
    forwarders: Sequence[Forwarder]
    balancer: HAProxy
    clock: StepClock
    loads: Sequence[Client]
    found: list[str] = field(default_factory=list)
    decided: int = 0
    capacity: dict[Pair, int] = field(default_factory=dict)  # the highest there has been, by line

    @property
    def http(self) -> Sequence[HttpSite]:
        return self.sites

    @property
    def spools(self) -> tuple[()]:
        return ()

    @property
    def records(self) -> Path:
        return self.directory / "records"

    @property
    def shelf(self) -> Asides:
        """What is set aside, as read and decided about in this process."""
        return Asides(self.store.topology, self.store.scripts, PARTITIONS, self.store.strength.wait)

    @property
    def oddities(self) -> list[str]:
        """What clients were told that cannot be true."""
        return [oddity for load in self.loads for oddity in load.oddities]

    @property
    def seats(self) -> dict[Pair, int]:
        """The capacity of lines that are held."""
        floating = {name: count for name, count in FLOATING_CAPACITY.items() if count < TIGHT}
        told = {(FLOATING, name): count for name, count in floating.items()}
        return told | {(SEATED, "seats"): SEATS}

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, past what is done to wires."""
        told = ["--config", str(self.directory / "gateway.toml")]
        return await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, *words, *told, "--data-dir", str(self.directory)],
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

    def lapse_leases(self) -> None:
        """Do what time does to the leases of processes that were killed, or that sleep."""
        for instance in INSTANCES:
            lease = InstanceKeys(instance, PARTITIONS).lease
            self.at.server_of(lease).try_ask("DEL", lease)

    def changed_toml(self, count: int) -> str:
        """Give the instance whose capacity changes, with this capacity."""
        self.capacity[CHANGED, "changed"] = max(count, self.capacity.get((CHANGED, "changed"), 0))
        return _instance(CHANGED, {"changed": ("metered", count, "")}, upstreams=self.sites)


@asynccontextmanager
async def open_house(
    directory: Path, at: Store, seed: int, program: Sequence[str] = COMMAND
) -> AsyncIterator[House]:
    """Build a house over a store that runs; everybody is ready, and nothing was asked for yet.

    `program` is what runs the gateways.
    """
    async with AsyncExitStack() as work:
        stack = work.enter_context(ExitStack())
        sites, wires, tables = _upstreams(directory, seed, stack)
        _write_keys(directory)
        shared = SETTINGS.format(
            partitions=PARTITIONS,
            ack=at.ack,
            replicas=at.replicas,
            deadline_ms=DEADLINE_MS,
            directory=directory,
            floating=FLOATING,
        )
        settings = shared + "".join(tables)
        (directory / "gateway.toml").write_text(settings.format(url=at.own_url))
        clock = StepClock(directory / "clock")
        own = {MANY_WORKERS: {"GATEWAY_SERVER__WORKERS": "2"}, OWN_CLOCK: clock.environ}
        gateways = [
            (Crew if name == MANY_WORKERS else Replica)(
                directory / name, _named(settings, at, name), program, own.get(name, {})
            )
            for name in GATEWAYS
        ]
        forwarders = [
            Forwarder(directory / name, _named(settings, at, name)) for name in FORWARDERS
        ]
        balancer = stack.enter_context(HAProxy([each.address for each in gateways]))
        opened = {"partitions": PARTITIONS, "ack": at.ack, "ack_replicas": at.replicas}
        store = await work.enter_async_context(open_store(at.own_url, directory, **opened))
        (directory / "records").mkdir()
        loads = _loads(directory, gateways, balancer, seed)
        for load in loads:
            await work.enter_async_context(load)
        everybody = (gateways, forwarders, balancer, clock, loads)
        house = House(directory, at, store, sites, wires, *everybody)
        await _provision(house)
        start_all([*gateways, *forwarders], stack)
        await asyncio.to_thread(balancer.wait_up)
        yield house


def _upstreams(
    directory: Path, seed: int, stack: ExitStack
) -> tuple[list[HttpSite], list[ByteProxy], list[str]]:
    """Start the upstreams, each behind a wire; give their tables of the configuration too."""
    sites, wires, tables = [], [], []
    for kind in UPSTREAMS:
        site = KINDS[kind](directory, seed)
        assert isinstance(site, HttpSite)
        stack.callback(site.close)
        wire = stack.enter_context(ByteProxy(f"127.0.0.1:{site.upstream.port}"))
        table = site.toml().replace(f":{site.upstream.port}/", f":{wire.port}/")
        tables.append(table.replace('"client.pem"', f'"{directory}/client.pem"'))
        sites.append(site)
        wires.append(wire)
    return sites, wires, tables


def _loads(
    directory: Path, gateways: Sequence[Replica], balancer: HAProxy, seed: int
) -> list[Client]:
    """Give the clients: most of what they send goes by the balancer, retries past it."""
    urls = [balancer.url, gateways[0].url, balancer.url, gateways[1].url, gateways[2].url]
    records = directory / "records"
    leaf = read_chain((directory / "chain.pem").read_text())[0].key

    def of(name: str, instance: str, *lines: str) -> tuple[Any, ...]:
        return name, records, urls, instance, lines, seed

    return [
        Consumers(*of("consumer", CONSUMED, "much", "more", "tight"), finite=["tight"]),
        Spares(*of("spare", CONSUMED, "much", "more")),
        Batches(*of("batch", BATCHED, "batched", "heaped")),
        Sitters(*of("sitter", SEATED, "seats")),
        Changed(*of("changed", CHANGED, "changed")),
        *(
            Floaters(*of(f"floater{each}", FLOATING, UNITS, PAGES), version=each, leaf=leaf)
            for each in (1, 2)
        ),
    ]


def _named(settings: str, at: Store, name: str) -> str:
    """Give the settings of a process that says on its connections to the store who it is."""
    return settings.format(url=f"{at.url}?client_name={name}")


async def _provision(house: House) -> None:
    undo = 'undo_interval = "1h"'
    consumed = {"much": ("metered", PLENTY, undo), "more": ("metered", PLENTY, undo)}
    consumed |= {"tight": ("metered", TIGHT, "")}
    batched = {"batched": ("metered", PLENTY, undo), "heaped": ("metered", PLENTY, "")}
    seats = {"seats": ("concurrent", SEATS, 'borrow_interval = "1h"')}
    text = "".join(
        [
            _instance(CONSUMED, consumed, upstreams=house.sites),
            _instance(BATCHED, batched, upstreams=house.sites),
            _instance(SEATED, seats),
            _instance(FLOATING, {}, upstreams=house.sites) + FLOATING_LINES,
            house.changed_toml(CHANGES[0]),
        ]
    )
    house.capacity[CONSUMED, "tight"] = TIGHT
    (house.directory / "house.toml").write_text(text)
    ended = await house.command("apply", str(house.directory / "house.toml"))
    assert ended.returncode == 0, ended.stderr
    ended = await house.command(*add_spare(house))
    assert ended.returncode == 0, ended.stderr


def add_spare(house: House) -> Sequence[str]:
    """Give the words that add the key which is revoked now and then."""
    file = house.directory / f"{SPARE_KID}.pem"
    return "keys", "add", CONSUMED, "--public", str(file), "--kid", SPARE_KID


def _instance(
    id_: str, lines: Mapping[str, tuple[str, int, str]], upstreams: Sequence[HttpSite] = ()
) -> str:
    keys = "".join(
        f'[[instance.key]]\nkid = "{kid}"\nalg = "{alg}"\npublic_file = "{kid}.pem"\n'
        for kid, alg in ((TOKEN_KID, "RS256"), (PAYLOAD_KID, "EdDSA"))
    )
    attached = "".join(f'[[instance.upstream]]\nname = "{each.name}"\n' for each in upstreams)
    told = "".join(
        LINE.format(name=name, model=model, count=count, more=more)
        for name, (model, count, more) in lines.items()
    )
    return f'[[instance]]\nid = "{id_}"\n{attached}{keys}{told}'


def _write_keys(directory: Path) -> None:
    for name, pem in KEY_FILES.items():
        (directory / name).write_bytes(pem)
    keys = {TOKEN_KID: TOKEN_KEY, PAYLOAD_KID: PAYLOAD_KEY, SPARE_KID: SPARE_KEY}
    for kid, key in keys.items():
        (directory / f"{kid}.pem").write_bytes(public_pem(key.public_key()))
    floating: Any = generate("RS256")
    (directory / "floating.pem").write_bytes(private_pem(floating))
    (directory / "chain.pem").write_bytes(make_chain(floating, datetime.now(UTC)))
