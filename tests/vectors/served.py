"""A whole gateway in the test's own event loop: embedded store, a clock that tests set, real HTTP.

The loop runs only while a test awaits something in `Served.run`. Whoever opens it closes it: server
first, then the store, which ends with it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config as Hypercorn
from redis.asyncio import Redis

from gateway.config import load_config
from gateway.store.catalogues import Catalogues
from gateway.store.scripts import Scripts
from gateway.store.topology import OneServer
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import open_gateway
from tests.passwords import cheap_passwords
from tests.vectors import patience

CLOCK: Final = "gw:clock"
PRELUDE: Final = (Path(__file__).parents[1] / "model" / "clock.lua").read_text("utf-8")

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: reading whom takes long
KEPT_S: Final = 120.0  # a connection that is idle

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A gateway that answers at `url`. `catalogues` writes as another process would: the gateway
    is not told.
    """

    runner: asyncio.Runner
    url: str
    http: httpx.AsyncClient
    store: Any  # a client of the store; its types cannot tell bytes from text
    catalogues: Catalogues

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(story)

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, url.port or 0

    async def set_clock(self, at_ms: int) -> None:
        await self.store.set(CLOCK, at_ms)

    async def keys(self) -> set[str]:
        """Give all keys but those that are written for a millisecond, to try the store out."""
        found = {key.decode() for key in await self.store.keys("*")}
        return {key for key in found if not key.endswith(":pulse")}


@contextmanager
def serving(data_dir: Path, *, prelude: str | None = PRELUDE, **settings: str) -> Iterator[Served]:
    """Open a gateway, with cheap passwords; `settings` are variables without their prefix."""
    environ = patience.SETTINGS | {f"GATEWAY_{name}": value for name, value in settings.items()}
    with asyncio.Runner() as runner, patience.patience(), cheap_passwords():
        stack = AsyncExitStack()
        try:
            opened = _open(runner, data_dir, prelude, environ)
            yield runner.run(stack.enter_async_context(opened))
        finally:
            runner.run(stack.aclose())


@asynccontextmanager
async def _open(
    runner: asyncio.Runner, data_dir: Path, prelude: str | None, environ: dict[str, str]
) -> Any:
    config = load_config(None, environ, {"data_dir": data_dir})
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(
            open_gateway(config, Lifecycle(), forward=False, prelude=prelude)
        )
        url = await stack.enter_async_context(_listening(app))
        url_of_store = config.redis.url
        if url_of_store == "embedded":
            url_of_store = f"unix://{data_dir / 'valkey.sock'}"
        store = Redis.from_url(url_of_store)
        stack.push_async_callback(store.aclose)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=20, verify=NO_TLS)
        )
        catalogues = Catalogues(OneServer(store), Scripts(prelude), config.redis.partitions)
        yield Served(runner, url, http, store, catalogues)


@asynccontextmanager
async def _listening(app: Any) -> Any:
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()[:2]
    settings = Hypercorn()
    settings.bind = [f"fd://{listener.detach()}"]
    settings.graceful_timeout = 1
    settings.keep_alive_timeout = KEPT_S
    settings.keep_alive_max_requests = 2**62
    settings.errorlog = None  # a logger of its own outlives it, at its own level
    stop = asyncio.Event()
    server = asyncio.create_task(serve(app, settings, shutdown_trigger=stop.wait))
    try:
        yield f"http://{host}:{port}"
    finally:
        stop.set()
        await server
