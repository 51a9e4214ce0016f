"""Large bodies at the door of batches: what anybody sends, all of them may hold only so much.

Source: SEMANTICS 2 and 10.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from gateway.core.errors import RequestTimeout, TooLarge, Unavailable
from gateway.web.bodies import SMALL_BYTES_MAX, ClientGone, LargeBodies, Limits
from tests.vectors.served import serving
from tests.web.doors import Door, at, eventually

BATCH = "access_requests"


async def post(door: Door, body: bytes) -> httpx.Response:
    return await door.knock(body, {"Content-Type": "application/x-ndjson"}, endpoint=BATCH)


def test_large_bodies_share_what_they_may_hold(tmp_path: Path) -> None:
    large = LargeBodies(bytes_max=100_000)

    async def story(door: Door) -> None:
        async def full() -> bool:
            return large.left == 0

        _, writer = await asyncio.open_connection(*door.served.address)
        writer.write(_head(door) + b" " * (SMALL_BYTES_MAX + 100_000))
        await eventually(full)
        for size in (SMALL_BYTES_MAX + 1, 1_000_000):
            refused = await post(door, b" " * size)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["key"] == "gateway.unavailable"
            assert refused.json()["arguments"] == ["not_applied"]
        assert (await post(door, b" " * SMALL_BYTES_MAX)).status_code == 200  # others go on
        assert (await door.knock()).status_code == 200
        writer.transport.abort()

        async def given_back() -> bool:
            return large.left == 100_000

        await eventually(given_back)
        assert (await post(door, b" " * 160_000)).status_code == 200
        assert large.left == 100_000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.wiring.LargeBodies", lambda: large)
        with serving(tmp_path, prelude=None) as served:
            at(served, story)


@pytest.mark.parametrize(
    ("sizes", "then", "error"),
    [
        ([100_000, 20_000], None, TooLarge),
        ([100_000], {"type": "http.disconnect"}, ClientGone),
        ([100_000], None, RequestTimeout),
        ([100_000, 30_000, 30_000], {"type": "http.request"}, Unavailable),
    ],
)
def test_what_a_large_body_held_is_given_back(
    sizes: list[int], then: Message | None, error: type[Exception]
) -> None:
    async def story() -> None:
        large, coming, least = LargeBodies(bytes_max=60_000), iter(sizes), 60_000

        async def receive() -> Message:
            nonlocal least
            least = min(least, large.left)
            for size in coming:
                return {"type": "http.request", "body": b"x" * size, "more_body": True}
            return then or await asyncio.get_running_loop().create_future()

        with pytest.raises(error):
            await large.read(receive, 0, Limits(110_000, body_timeout_s=0.05))
        assert (least, large.left) == (60_000 - (100_000 - SMALL_BYTES_MAX), 60_000)
        assert not list(coming)  # what was refused is let in

    asyncio.run(story())


def _head(door: Door) -> bytes:
    said = (f"POST {door.path(BATCH)} HTTP/1.1", "Host: x", "Content-Length: 200000")
    return "\r\n".join(said).encode() + b"\r\n\r\n"
