"""The plant: which servers run while it is measured, over which stores, and what is provisioned.

Decided here: the places (each a process and its store), that one is started when it is first asked
for, and that all of them run until the end, idle ones too. A store is started by its gateway, as in
earnest, with its file brought to the disk every second (`written`) but for the place `local`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from gateway.cli.benchmarks.empty import PLAIN as AS_IT_COMES
from gateway.cli.benchmarks.processes import Server, ServerFailed, empty, serving, started
from gateway.cli.benchmarks.scene import Scene, copy_to, numbered
from gateway.config import Config
from gateway.core.errors import GatewayError, InvalidInput
from gateway.settings import Redis as StoreSettings
from gateway.store.embedded import Embedded
from gateway.store.opening import Store
from gateway.web.servers import GRANIAN, HYPERCORN, check_server
from gateway.wiring_store import open_store

PLAIN: Final = "plain"  # the empty POST, on the server as it comes
EMPTY: Final = "empty"  # the empty POST, behind the gateway's connections
GATEWAY: Final = "gateway"
SECOND: Final = "second"  # a gateway on the other server, over the store of the first
LOCAL: Final = "local"  # each write is on the disk before its answer
MANY: Final = "many"  # 100,000 instances

FEW_INSTANCES: Final = 10
MANY_INSTANCES: Final = 100_000
TEMPLATE: Final = "BENCH-TEMPLATE"


class Missing(GatewayError):
    """What a place needs is not on this machine; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server that runs, the process of its store, and the directory of that."""

    url: str
    pid: int
    store_pid: int | None = None
    data_dir: Path | None = None


@dataclass
class Plant:
    """Servers by place; `server` is what they run on. Use as a context: its end ends them all."""

    scene: Scene
    scratch: Path
    server: str = HYPERCORN
    instances: int = MANY_INSTANCES
    _places: dict[str, Place] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Plant:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def place(self, name: str) -> Place:
        """Give a place, started and provisioned. Raises Missing, ServerFailed."""
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = await self._begin(name)
        return found

    async def _begin(self, name: str) -> Place:
        server = GRANIAN if name == SECOND else self.server
        try:
            check_server(server)
        except InvalidInput as error:
            raise Missing(error.problems[0]) from None
        if name == EMPTY:
            return await self._start(name, empty(self.server))
        if name == PLAIN:
            plain = self.server == HYPERCORN  # any other runs under the gateway only
            return await self._start(name, empty(AS_IT_COMES if plain else self.server))
        data_dir = self.scratch / name
        ack = "written"
        if name == SECOND:
            data_dir = (await self.place(GATEWAY)).data_dir or data_dir
        elif name == LOCAL:
            ack = "local"
        try:
            place = await self._start(name, serving(data_dir, "--server", server), ack=ack)
        except ServerFailed as error:
            if name != SECOND:
                raise
            raise Missing(error.message) from error  # all else can be measured without it
        if name != SECOND:
            async with attached(data_dir) as store:
                await self._provision(name, store)
        return replace(place, store_pid=await store_pid(data_dir), data_dir=data_dir)

    async def _provision(self, name: str, store: Store) -> None:
        catalogues = store.catalogues
        await catalogues.put(self.scene.catalogue())
        copies = {GATEWAY: FEW_INSTANCES, MANY: self.instances}.get(name, 0)
        if copies:
            template = self.scene.catalogue(TEMPLATE, signed=False)
            await catalogues.put(template)
            await copy_to(catalogues, template, numbered(copies))

    async def _start(self, name: str, code: tuple[str, ...], ack: str = "written") -> Place:
        environ = {"GATEWAY_SERVER__DRAIN_S": "0", "GATEWAY_REDIS__ACK": ack}
        server: Server = await self._stack.enter_async_context(
            started(code, environ, self.scratch / f"{name}.log")
        )
        return Place(server.url, server.pid)


@asynccontextmanager
async def attached(data_dir: Path, **settings: Any) -> AsyncIterator[Store]:
    """Open the embedded store of a directory: that of a gateway which runs there, or a new one."""
    config = Config(redis=StoreSettings(**settings), data_dir=data_dir)
    async with open_store(config) as store:
        yield store


async def store_pid(data_dir: Path) -> int:
    """Give the process of the store that answers in a directory."""
    with reached(data_dir) as path:
        async with Redis(unix_socket_path=path) as client:
            info: Any = await client.info("server")
    return int(info["process_id"])


@contextmanager
def reached(data_dir: Path) -> Iterator[str]:
    """Give the path of the socket of the embedded store that runs in a directory."""
    embedded = Embedded(data_dir)
    try:
        yield embedded.ensure()
    finally:
        embedded.close()
