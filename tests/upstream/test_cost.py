"""What forwarding costs: rows by line and hour, however many requests came. Figures are printed.

`GATEWAY_COST_REQUESTS` sets how many access requests are made, over 100 lines and a simulated week
in which the upstream is away; 1,000,000 takes about two minutes.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.upstream.works import BEGIN_MS, Works, open_works

REQUESTS = int(os.environ.get("GATEWAY_COST_REQUESTS", "20000"))
LINES, HOURS = 100, 168
AT_ONCE = 256
HOUR_S = 3_600


@pytest.mark.slow
def test_a_week_without_upstream_costs_rows_by_line_and_hour_and_not_by_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(works: Works) -> None:
        features = tuple(f"f{number}" for number in range(LINES))
        await works.provision(features=features)
        open_key = works.store.catalogues.keys("DEMO").open("parent")

        async def weigh() -> tuple[int, int]:
            client = works.store.client
            return await client.hlen(open_key), await client.memory_usage(open_key, samples=0)

        async def use(requests: int, first: int) -> None:
            """Make requests that touch every line in every hour of the week, evenly."""
            for hour in range(HOURS):
                await works.clock.tell(BEGIN_MS + (2 + hour) * HOUR_S * 1000)
                share = range(requests * hour // HOURS, requests * (hour + 1) // HOURS)
                for start in range(share.start, share.stop, AT_ONCE):
                    numbers = range(start, min(start + AT_ONCE, share.stop))
                    uses = (works.use(features[(first + n) % LINES], 1) for n in numbers)
                    await asyncio.gather(*uses)

        told = []
        few = LINES * HOURS
        for requests in (few, max(REQUESTS - few, few)):
            await works.clock.tell(BEGIN_MS)
            await use(requests, 0)
            rows, store_bytes = await weigh()
            told.append(f"{requests:,} more requests: {rows:,} open rows, {store_bytes:,} bytes")
            assert rows <= LINES * HOURS
            if requests == few:
                weight = store_bytes
        # The same hours again, so the same rows; a number may be a digit longer.
        assert store_bytes <= weight * 1.5
        assert await works.forwarder().drain() == []
        total = few + max(REQUESTS - few, few)
        assert works.parent.total.total() == total
        sent = sum(len(body) for _, body in works.parent.posts)
        posts = len(works.parent.posts)
        told.append(f"forwarded {total:,} units in {posts:,} requests, {sent:,} bytes of bodies")
        assert posts <= rows
        with capsys.disabled():
            print("\n" + "\n".join(told))

    async def run() -> None:
        async with open_works(tmp_path, dedupe_ms=86_400_000, timeout_s=5) as works:
            await story(works)

    asyncio.run(run())
