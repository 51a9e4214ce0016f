"""What each `ack` level costs: requests through the lane, one at a time and many at once.

Figures are printed, nothing is judged: they are this machine's and its disk's. Each level has a
store of its own, all of one kind, and they are measured in turn, so that what else goes on here
slows all alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest

from gateway.core.calls import Verdict
from gateway.core.model import Catalogue
from gateway.store.opening import open_store
from tests.store.lane_bench import LINES, Bench
from tests.stores.programs import start_all
from tests.stores.servers import Server, in_sync
from tests.system.processes import eventually

pytestmark = pytest.mark.bench

ROUNDS = 5
ROUND_S = 0.35
CALLERS = (1, 64)


@dataclass
class Level:
    """A level over a primary of its own.

    `figures` are requests per second and median latency in ms of each round, by callers.
    """

    ack: str
    replicas: int = 0
    figures: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.ack} {self.replicas}" if self.replicas else self.ack

    def servers(self, directory: Path) -> list[Server]:
        """Set up a primary and its replicas as the level needs them."""
        on_disk = self.ack in ("local", "replica_fsync")
        settings = {
            "appendonly": "no" if self.ack == "memory" else "yes",
            "appendfsync": "always" if on_disk else "everysec",
        }
        primary = Server(directory / "primary", **settings)
        follows = {"replicaof": f"127.0.0.1 {primary.port}"}
        numbers = range(self.replicas)
        return [primary, *(Server(directory / f"{n}", **settings, **follows) for n in numbers)]

    def told(self, callers: int, base: Level) -> str:
        """Give the medians of the rounds; the ratio is that of rounds side by side."""
        per_s, latency_ms = zip(*self.figures[callers], strict=True)
        base_per_s = (each for each, _ in base.figures[callers])
        ratio = median(mine / its for mine, its in zip(per_s, base_per_s, strict=True))
        return f"{median(per_s):,.0f}/s ({ratio:.2f}), {median(latency_ms):.2f} ms"


LEVELS = (
    Level("memory"),
    Level("written"),
    Level("local"),
    Level("replica", 1),
    Level("replica", 2),
    Level("replica_fsync", 1),
    Level("replica_fsync", 2),
)


def test_what_each_level_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = [Level(each.ack, each.replicas) for each in LEVELS]
    groups = [each.servers(tmp_path / each.name.replace(" ", "-")) for each in levels]

    async def measure() -> None:
        async with AsyncExitStack() as stack:
            benches = [
                await stack.enter_async_context(_opened(level, servers[0], tmp_path))
                for level, servers in zip(levels, groups, strict=True)
            ]
            for turn in range(1 + ROUNDS):
                for level, bench in zip(levels, benches, strict=True):
                    for callers in CALLERS:
                        figures = await _round(bench, callers)
                        if turn:  # the first one warms up
                            level.figures.setdefault(callers, []).append(figures)

    with ExitStack() as stack:
        start_all([server for servers in groups for server in servers], stack)
        for primary, *replicas in groups:
            eventually(lambda p=primary, r=replicas: in_sync(p, r) == len(r), 20)  # type: ignore[misc]
        asyncio.run(measure())
    with capsys.disabled():
        print("\n" + "\n".join(_table(levels)))


@asynccontextmanager
async def _opened(level: Level, primary: Server, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_store(
        primary.url, tmp_path, partitions=4, ack=level.ack, ack_replicas=level.replicas or 1
    ) as store:
        assert store.strength.weak == ()
        await store.catalogues.put(Catalogue(id="DEMO", lines=LINES))
        index = await store.catalogues.read("DEMO")
        assert index is not None
        yield Bench(store, index, tmp_path)


async def _round(bench: Bench, callers: int) -> tuple[float, float]:
    """Have so many callers count one unit after the other; give requests per s, median ms."""
    latencies_s: list[float] = []
    began_s = time.perf_counter()
    end_s = began_s + ROUND_S

    async def call() -> None:
        while (at_s := time.perf_counter()) < end_s:
            reply = await bench.store.lane.submit(bench.job())
            latencies_s.append(time.perf_counter() - at_s)
            assert reply.verdict is Verdict.DONE

    await asyncio.gather(*(call() for _ in range(callers)))
    took_s = time.perf_counter() - began_s
    return len(latencies_s) / took_s, median(latencies_s) * 1000


def _table(levels: list[Level]) -> list[str]:
    base = next(level for level in levels if level.ack == "written")
    rows = [["ack", *(f"{n} caller{'s' * (n > 1)}" for n in CALLERS)]]
    rows += [[level.name, *(level.told(n, base) for n in CALLERS)] for level in levels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [" | ".join(map(str.ljust, row, widths)) for row in rows]
