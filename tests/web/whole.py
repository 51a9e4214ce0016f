"""A whole gateway behind our own serving, in the test's loop and in real time.

Decided here: nothing; the gateway is wiring's, the serving is servers.py's, and what a test sees of
both is what it sees of any other gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from redis.asyncio import Redis

from gateway.config import load_config
from gateway.store.catalogues import Catalogues
from gateway.store.scripts import Scripts
from gateway.store.topology import OneServer
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import open_gateway
from tests.vectors import patience
from tests.vectors.served import Served
from tests.web.servers import Standing, standing


@asynccontextmanager
async def gateway_standing(
    data_dir: Path, *, http1: bool = True, http2: bool = False, **settings: str
) -> AsyncIterator[tuple[Standing, Served]]:
    """Serve a whole gateway; its store can be looked at, and written as another process would."""
    environ = patience.SETTINGS | {f"GATEWAY_{name}": value for name, value in settings.items()}
    config = load_config(None, environ, {"data_dir": data_dir})
    with patience.patience():
        async with (
            open_gateway(config, Lifecycle(), forward=False) as app,
            standing(app, **settings) as server,
            httpx.AsyncClient(
                base_url=server.url,
                timeout=60,
                verify=server.trusting() or True,
                http1=http1,
                http2=http2,
            ) as http,
            Redis(unix_socket_path=str(data_dir / "valkey.sock")) as store,
        ):
            catalogues = Catalogues(OneServer(store), Scripts(None), config.redis.partitions)
            # The runner is of no use here: the loop runs already.
            yield server, Served(asyncio.Runner(), server.url, http, store, catalogues)
