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
    ("parts", "error"),
    [
        ([b"x" * 150_000, b"x" * 150_000], TooLarge),
        ([b"x" * 150_000, None], ClientGone),
        ([b"x" * 150_000], RequestTimeout),
        ([b"x" * 150_000, b"x" * 20_000, b"x" * 20_000], Unavailable),
    ],
)
def test_what_a_large_body_held_is_given_back(
    parts: list[bytes | None], error: type[Exception]
) -> None:
    async def story() -> None:
        large, coming = LargeBodies(bytes_max=100_000), iter(parts)

        async def receive() -> Message:
            for part in coming:
                if part is None:
                    return {"type": "http.disconnect"}
                return {"type": "http.request", "body": part, "more_body": True}
            if error is Unavailable:  # the rest is let in
                return {"type": "http.request", "body": b"", "more_body": False}
            assert large.left == 100_000 - (150_000 - SMALL_BYTES_MAX)
            return await asyncio.get_running_loop().create_future()

        limits = Limits(160_000 if error is TooLarge else 1_000_000, 0.05)
        large.left += 200_000 if error is TooLarge else 0
        left = large.left
        with pytest.raises(error):
            await large.read(receive, 0, limits)
        assert large.left == left
        assert next(coming, None) is None

    asyncio.run(story())


def _head(door: Door) -> bytes:
    said = (f"POST {door.path(BATCH)} HTTP/1.1", "Host: x", "Content-Length: 200000")
    return "\r\n".join(said).encode() + b"\r\n\r\n"
