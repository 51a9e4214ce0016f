"""A store with one instance, lanes over it, and a proxy that can spoil what the store answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.core.calls import INCREMENTAL, Reply
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.model import UNITS_MAX, AccessRequest, Catalogue, Host, Line, Model, Want
from gateway.store.calls import Job
from gateway.store.lanes import Lane
from gateway.store.opening import Store, open_store
from gateway.store.server import open_client
from gateway.store.topology import OneServer
from tests.stores.homes import PATIENT_S

TTL_MS = 600_000
PATIENT: dict[str, Any] = {"deadline_s": PATIENT_S}
NAMES = count(1)


def _line(line_id: str, feature: str, units: int, model: Model = Model.METERED) -> Line:
    return Line(
        id=line_id, feature=feature, version="1.0", model=model, count=units, capacity=units
    )


LINES = (
    _line("CALLS", "calls", UNITS_MAX),
    _line("FEW", "few", 10),
    _line("SEATS", "seats", 10, Model.CONCURRENT),
    *(_line(f"WIDE-{number:02d}", "wide", 0) for number in range(60)),
)


class Proxy:
    """Stands between a lane and the store's socket; may hold back what the store answers."""

    def __init__(self, upstream: str, path: Path) -> None:
        self.upstream, self.path = upstream, path
        self.black_hole = False  # what the store answers is thrown away
        self.held_back = asyncio.Event()  # set when it was
        self.cut = False  # the connection is reset instead of answering
        self.open = asyncio.Event()
        self.open.set()  # cleared: answers wait
        self.calls = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_unix_connection(self.upstream)
        asking = asyncio.create_task(self._pass_on(reader, to_store))
        try:
            while answer := await from_store.read(65_536):
                await self.open.wait()
                if self.cut:
                    self.cut = False
                    self.held_back.set()
                    break
                if self.black_hole:
                    self.held_back.set()
                    continue
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            for each in (writer, to_store):
                each.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(65_536):
            self.calls += asked.count(b"EVALSHA")
            writer.write(asked)
        writer.close()  # the store closes its side too, and so the whole connection ends


class Bench:
    """A store with one instance, and lanes over it."""

    def __init__(self, store: Store, index: CatalogueIndex, data_dir: Path) -> None:
        self.store, self.index, self.data_dir = store, index, data_dir

    @property
    def socket(self) -> str:
        return str(self.data_dir / "valkey.sock")

    def job(
        self,
        units: int = 1,
        feature: str = "calls",
        name: str | None = None,
        host: str = "h1",
        flags: int = INCREMENTAL,
        index: CatalogueIndex | None = None,
    ) -> Job:
        index = index or self.index
        request = AccessRequest(host=Host("string", host), wants=(Want(feature, "0", units),))
        name = name or f"own-{next(NAMES)}"
        wants = index.resolve(request)
        return Job(index, wants, name, TTL_MS, f"{feature}{units}", "", host, flags)

    async def field(self, name: str) -> int:
        keys = self.store.catalogues.keys(self.index.catalogue.id)
        return int(await self.store.client.hget(keys.ledger, name) or 0)

    @asynccontextmanager
    async def through_proxy(self, **more: Any) -> AsyncIterator[tuple[Proxy, Lane]]:
        proxy = Proxy(self.socket, self.data_dir / "proxy.sock")
        topology = OneServer(open_client(f"unix://{proxy.path}"))
        async with proxy.running():
            own = (self.store.scripts.apply, topology, self.store.partitions)
            lane = Lane(*own, **(PATIENT | more))
            try:
                yield proxy, lane
            finally:
                proxy.open.set()
                await lane.close()
                await topology.aclose()


Scene = Callable[[Bench], Coroutine[Any, Any, None]]


def play(tmp_path: Path, scene: Scene, **more: Any) -> None:
    async def whole() -> None:
        async with open_store("embedded", tmp_path, partitions=4, **(PATIENT | more)) as store:
            await store.catalogues.put(Catalogue(id="DEMO", lines=LINES))
            index = await store.catalogues.read("DEMO")
            assert index is not None
            await scene(Bench(store, index, tmp_path))

    asyncio.run(whole())


async def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.002)


def units_of(reply: Reply) -> int:
    assert reply.outcome is not None
    return sum(grant.units for grant in reply.outcome.grants)


async def refusal(waiting: Awaitable[Reply]) -> str:
    with pytest.raises(Unavailable) as refused:
        await waiting
    return refused.value.outcome
