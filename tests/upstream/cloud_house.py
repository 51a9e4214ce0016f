"""What tests of the cloud stand on: a real store, our fake cloud beside it, one jumping clock."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.core.decisions import Aside
from gateway.core.elsewhere import Known
from gateway.core.fingerprint import fingerprint
from gateway.core.keys import PrivateKey, generate, private_pem
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
from gateway.core.ports import Outbox, Route
from gateway.service.balance import audit, conservation
from gateway.store.asides import Asides
from gateway.store.calls import Job
from gateway.store.keys import PartitionKeys
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox
from gateway.store.rewriting import rewrite
from gateway.store.syncs import Syncs
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.licensespring import LicensespringUpstream, route
from gateway.upstream.licensespring_calls import Calls
from gateway.upstream.licensespring_cloud import Cloud
from gateway.upstream.licensespring_sync import Syncing
from gateway.upstream.sender import open_http
from tests.upstream.cloud_books import Counted, write_licences
from tests.upstream.cloud_server import CloudServer, Plan
from tests.upstream.works import BEGIN_MS, PRELUDE, Clock
from tests.vectors.patience import PATIENT_S, patience

API_KEY, SHARED_KEY, HARDWARE = "test-api-key", "test-shared-key", "gateway-1"
KEY, PRODUCT, NAME, INSTANCE = "KEY-1", "PROD", "cloud", "DEMO"
LICENCE: Mapping[str, Any] = {
    "id": 77,
    "product": PRODUCT,
    "key": KEY,
    "max_consumptions": 1_000,
    "features": {"pages": {"max_consumptions": 500}},
}


@cache
def signing_key() -> PrivateKey:
    """The fake cloud's key; made once, since that takes long."""
    return generate("RS256")


def line(line_id: str, feature: str, code: str = "", **changes: Any) -> Line:
    """A metered line that stands for the licence, or for a feature of it."""
    stands_for = FloatingLicense(77, PRODUCT, code, KEY)
    told = {"model": Model.METERED, "count": 1_000, "capacity": 1_000, "undo_ms": 3_600_000}
    told |= {"id": line_id, "feature": feature, "version": "1.0", "licensespring": stands_for}
    return Line(**(told | changes))


LINES = (line("L1", "main", number=1), line("L2", "pages", "pages", number=2))


@dataclass
class House:
    """A store, a cloud, and forwarders between the two."""

    store: Store
    cloud: CloudServer
    client: httpx.AsyncClient
    clock: Clock
    config: LicensespringUpstream
    verify: bool = True
    plans: int = 0
    licences: list[dict[str, Any]] = field(default_factory=lambda: [dict(LICENCE)])

    @property
    def book(self) -> Syncs:
        return Syncs(self.store.topology, self.store.scripts, self.store.partitions)

    def outbox(self) -> RedisOutbox:
        return RedisOutbox(self.store.topology, self.store.scripts, self.store.partitions)

    def now_ms(self) -> int:
        return BEGIN_MS + int(self.clock.now_s * 1_000)

    def calls(self, **changes: Any) -> Calls:
        public = signing_key().public_key()
        assert isinstance(public, RSAPublicKey)
        told: dict[str, Any] = {
            "verify_key": public if self.verify else None,
            "now_ms": self.now_ms,
            "monotonic_s": self.clock.monotonic_s,
            "sleep": self.clock.sleep,
        }
        return Calls(self.config, self.client, API_KEY, SHARED_KEY, **(told | changes))

    def route(self, outbox: Outbox | None = None, **changes: Any) -> Route:
        calls, book = self.calls(**changes), self.book
        catalogues = self.store.catalogues
        syncing = Syncing(
            calls,
            book,
            outbox or self.outbox(),
            catalogues,
            partial(rewrite, catalogues),
            self.clock.monotonic_s,
        )
        sender = Cloud(calls, book)
        return route(self.config, sender, sender, syncing)

    def forwarder(self, *, outbox: Outbox | None = None, **changes: Any) -> Forwarder:
        return Forwarder(
            outbox or self.outbox(),
            self.store.catalogues,
            [self.route(outbox, **changes)],
            monotonic_s=self.clock.monotonic_s,
            now_ms=self.now_ms,
            sleep=self.clock.sleep,
            random=lambda: 0.5,
        )

    async def drain(self) -> list[str]:
        """Forward what is there in a process of its own; give why something is left."""
        return [each.reason for each in await self.forwarder().drain()]

    async def settled(self) -> None:
        """Drain, over the hours that it may take, until nothing is left."""
        for _ in range(20):
            if not await self.forwarder().drain():
                return
            await self.clock.sleep(120)
        raise AssertionError(f"left: {await self.forwarder().leftovers()}")

    def follow(self, **plan: Any) -> None:
        """Let these faults happen from now on: `add`, `check` or `activate`, a list each."""
        self.plans += 1
        known = Plan.__dataclass_fields__
        script = {name: faults for name, faults in plan.items() if name not in known}
        told = {name: value for name, value in plan.items() if name in known}
        new = self.cloud.directory / "plan.json.new"
        new.write_text(json.dumps(asdict(Plan(serial=self.plans, script=script, **told))))
        os.replace(new, self.cloud.directory / "plan.json")

    def say(self, **changes: Any) -> None:
        """Let the cloud's administrator change the licence; `pages` changes its feature."""
        if "pages" in changes:
            features = self.licences[0]["features"]
            changes["features"] = {"pages": {**features["pages"], **changes.pop("pages")}}
        self.licences[0] |= changes
        write_licences(self.cloud.directory, self.licences)

    def others_use(self, units: int, feature: str = "") -> None:
        """Let another server consume of the licence."""
        event = Counted("add", KEY, feature, units, "another", self.now_ms())
        self.cloud.books.count(event)

    def admin_resets(self) -> None:
        self.cloud.books.count(Counted("reset", KEY, at_ms=self.now_ms()))

    def total(self, feature: str = "") -> int:
        """Give the cloud's total as it is now."""
        books = self.cloud.books
        terms = books.terms(self.licences[0], feature)
        return books.total(KEY, feature, terms, self.now_ms())

    def arrived(self, feature: str = "") -> list[int]:
        """Give what we added, call by call."""
        return [
            each.units
            for each in self.cloud.books.counted
            if each.kind == "add" and each.feature == feature and each.hardware_id == HARDWARE
        ]

    def asked(self, name: str) -> int:
        return sum(each[0] == name for each in self.cloud.calls)

    async def provision(self, *lines: Line, instance: str = INSTANCE, upstream: str = NAME) -> None:
        attached = (Attachment(upstream),) if upstream else ()
        before = await self.store.catalogues.read(instance)
        catalogue = before.catalogue if before else Catalogue(id=instance)
        changes = {"lines": lines or LINES, "upstreams": attached}
        await self.store.catalogues.put(msgspec.structs.replace(catalogue, **changes))

    async def line(self, line_id: str = "L1") -> Line:
        index = await self.store.catalogues.read(INSTANCE)
        assert index is not None
        return index.line[line_id]

    async def use(self, feature: str, units: int, *, instance: str = INSTANCE) -> int:
        """Consume, and give what was granted; by a host that may undo it."""
        index = await self.store.catalogues.read(instance)
        assert index is not None
        request = AccessRequest(
            host=Host("string", "h1"), wants=(Want(feature, "1.0", units),), incremental=True
        )
        key, meaning = secrets.token_urlsafe(16), fingerprint(request).hex()
        job = Job(
            index, index.resolve(request), key, 60_000, meaning, "", request.host.canonical, 3
        )
        reply = await self.store.lane.submit(job)
        assert reply.outcome is not None
        return sum(grant.units for grant in reply.outcome.grants)

    async def known(self, line_id: str = "L1") -> Known:
        found = await self.book.known_of(INSTANCE, NAME, line_id)
        assert found is not None
        return found

    async def elsewhere(self, line_id: str = "L1") -> int:
        """Give what is unavailable because of others, summed over the periods still known."""
        fields = await self.store.client.hgetall(self.store.catalogues.keys(INSTANCE).used)
        prefix = f"elsewhere|{line_id}|".encode()
        return sum(int(units) for name, units in fields.items() if name.startswith(prefix))

    async def aside(self) -> list[Aside]:
        asides = Asides(self.store.topology, self.store.scripts, self.store.partitions)
        return await asides.batches(INSTANCE, NAME)

    async def blocked(self) -> dict[str, int]:
        asides = Asides(self.store.topology, self.store.scripts, self.store.partitions)
        found = await asides.blocked(INSTANCE, NAME)
        return {each.line: sum(each.units.values()) for each in found}

    async def sums(self, line_id: str = "L1") -> dict[str, int]:
        """Where a line's units are; every sum of the books is checked on the way."""
        books = await audit(self.store.catalogues, INSTANCE, deep=True)
        assert conservation([books]) == "OK"
        (entry,) = [each for each in books.lines if each.id == line_id]
        words = ("open", "sealed", "forwarded", "parked", "dead")
        return {word: getattr(entry, word) for word in words if getattr(entry, word)}

    async def lapse_leases(self) -> None:
        """What happens to the leases of a process that is killed or suspended for long."""
        keys = [PartitionKeys(partition).lease for partition in range(self.store.partitions)]
        await self.store.client.delete(*keys)


def prepare(directory: Path, licences: list[dict[str, Any]]) -> None:
    """Write what a cloud begins with."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "key.pem").write_bytes(private_pem(signing_key()))
    told = {"api_key": API_KEY, "shared_key": SHARED_KEY, "key_file": str(directory / "key.pem")}
    (directory / "settings.json").write_text(json.dumps(told))
    write_licences(directory, licences)


@asynccontextmanager
async def open_house(directory: Path, *, begin_s: float, timeout_s: float) -> AsyncIterator[House]:
    place = directory / "cloud"
    prepare(place, [dict(LICENCE)])
    cloud = CloudServer(place)
    listening = await asyncio.start_server(cloud.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with (
        open_store(
            "embedded", directory, partitions=4, prelude=PRELUDE, deadline_s=PATIENT_S
        ) as store,
        open_http() as client,
    ):

        async def tell(now_ms: int) -> None:
            (place / "clock").write_text(str(now_ms))
            await store.client.set("gw:clock", now_ms)

        clock = Clock(lambda: cloud.busy > 0, tell, store.client.ping, now_s=begin_s)
        await tell(BEGIN_MS + int(begin_s * 1_000))
        running = asyncio.create_task(clock.run())
        config = LicensespringUpstream(
            name=NAME,
            url=f"http://127.0.0.1:{port}",
            hardware_id=HARDWARE,
            interval_s=3_600,
            timeout_s=timeout_s,
        )
        try:
            yield House(store, cloud, client, clock, config)
        finally:
            clock.ended = True
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            cloud.resume.set()
            listening.close()


def at_house(
    directory: Path,
    story: Callable[[House], Awaitable[None]],
    *,
    begin_s: float = 100_000.0,
    timeout_s: float = PATIENT_S,
) -> None:
    """Run a story, from 2026-01-01 and `begin_s` on, which is in the middle of a period."""

    async def run() -> None:
        async with (
            asyncio.timeout(120),
            open_house(directory, begin_s=begin_s, timeout_s=timeout_s) as house,
        ):
            await story(house)

    with patience():
        asyncio.run(run())
