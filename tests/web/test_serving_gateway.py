"""Access requests over what a gateway speaks: cleartext and TLS, HTTP/1 and HTTP/2; and a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.served_by import spoken
from tests.web.doors import Door
from tests.web.servers import Standing, run, self_signed
from tests.web.whole import gateway_standing


@pytest.mark.slow
@pytest.mark.usefixtures("served_by")
@spoken
@pytest.mark.parametrize("tls", [False, True])
def test_access_requests_are_served_and_those_under_way_at_a_stop_too(
    tmp_path: Path, http2: bool, tls: bool
) -> None:
    """HTTP/2 by ALPN under TLS, and by prior knowledge in the clear."""
    settings = {"SERVER__DRAIN_S": "30"}
    if tls:
        certificate, key = self_signed(tmp_path)
        settings |= {"SERVER__TLS_CERT": str(certificate), "SERVER__TLS_KEY": str(key)}

    async def story() -> None:
        async with gateway_standing(
            tmp_path / "data", http1=tls or not http2, http2=http2, **settings
        ) as (server, served):
            door = Door(served)
            await door.put()
            for _ in range(3):
                answer = await door.knock()
                assert answer.status_code == 200
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            await served.store.client_pause(60_000, all=False)
            under_way = asyncio.create_task(door.knock())
            await _begun(server)
            server.stop.asked.set()
            server.stop.hurried.set()
            await served.store.client_unpause()
            assert (await under_way).status_code == 200
            await asyncio.wait_for(server.ended, 20)
            assert sum((await door.used()).values()) == 4

    run(story())


async def _begun(server: Standing) -> None:
    """Wait until a request that was sent before has come: another connection was answered since."""
    for _ in range(3):
        reader, writer = await server.connect(server.trusting())
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
