"""A connection that is reset while it lies idle is a lost one, under the event loop that serves."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.store.opening import make_topology
from gateway.store.topology import Topology
from tests.faults.scene import until
from tests.stores.byte_proxy import ByteProxy
from tests.stores.servers import Server


@pytest.mark.parametrize("pooled", [True, False], ids=["of the pool", "of a lane"])
def test_a_reset_of_an_idle_connection_is_a_lost_connection(tmp_path: Path, pooled: bool) -> None:
    async def ask(topology: Topology, proxy: ByteProxy) -> None:
        connection = topology.connection_to("")
        await connection.connect()

        async def once() -> None:
            if pooled:
                await topology.client_of("any").time()
                return
            await connection.send_command("TIME")
            await connection.read_response()

        await once()
        proxy.reset()
        await until(lambda: connection._writer.transport.is_closing())  # and the pool's as well
        with pytest.raises(StoreConnectionError):
            await once()
        await once()  # by another one
        await connection.disconnect()
        await topology.aclose()

    with Server(tmp_path / "store") as server, ByteProxy(server.address) as proxy:
        uvloop.run(ask(make_topology(proxy.url), proxy))
