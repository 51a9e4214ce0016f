"""What the store keeps: bytes for an idempotency id, an idle line, a host that holds something.

Decided here: that a figure is what the whole store's memory grows by, over thousands of each, in
a store of its own that nobody else asks, so that the store's own tables are in it. An idle line is
one of an instance with thousands, each of which was used once: what that leaves for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from gateway.cli.benchmarks.bare import asking, job
from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.plant import attached
from gateway.cli.benchmarks.scene import CaseFailed, metered
from gateway.core.calls import Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Catalogue, Line, Model
from gateway.store.calls import Job
from gateway.store.opening import Store

IDS: Final = 50_000
LINES: Final = 5_000
HOSTS: Final = 50_000
AT_ONCE: Final = 256
GONE_S_MAX: Final = 60.0
POLL_S: Final = 0.1
SHORT_MS: Final = 1  # for ids that are not what is measured


async def probe(
    bench: Bench, add: Callable[[str, float], None], tell: Callable[[str], None]
) -> None:
    """Fill a store, kind by kind."""
    async with attached(bench.plant.scratch / "storage") as store:
        tell(f"{LINES:,} lines")
        for each in ("warm", "lines"):  # the first one brings scripts and buffers
            count = 10 if each == "warm" else LINES
            add_to = add if each == "lines" else _nowhere
            add_to("line", await _lines(store, each, count))
        tell(f"{HOSTS:,} hosts")
        add("host", await _hosts(store))
        tell(f"{IDS:,} ids")
        add("id", await _ids(store))


async def apply_all(store: Store, jobs: Iterable[Job]) -> None:
    """Have jobs applied, many at once. Raises CaseFailed."""
    left = iter(jobs)
    while some := list(islice(left, AT_ONCE)):
        replies = await asyncio.gather(*store.lane.submit_all(some))
        if any(reply.verdict is not Verdict.DONE for reply in replies):
            raise CaseFailed("The store did not apply what was sent")


def _nowhere(figure: str, number: float) -> None:
    """Forget a figure."""


async def _ids(store: Store) -> float:
    catalogue = Catalogue(id="IDS", lines=(metered("L1", "sessions"), metered("L2", "users")))
    index = await _put(store, catalogue)
    await apply_all(store, [job(index, ttl_ms=SHORT_MS)])
    before = await _settled(store)
    await apply_all(store, (job(index) for _ in range(IDS)))
    return (await _used_bytes(store) - before) / IDS


async def _lines(store: Store, instance: str, count: int) -> float:
    lines = tuple(metered(f"LINE-{at:05d}", f"feature-{at:05d}") for at in range(count))
    before = await _settled(store)
    index = await _put(store, Catalogue(id=instance, lines=lines))
    await apply_all(store, (_asked(index, line, f"h{at}") for at, line in enumerate(lines)))
    return (await _settled(store) - before) / count


async def _hosts(store: Store) -> float:
    line = metered("SEATS", "editor", Model.CONCURRENT)
    index = await _put(store, Catalogue(id="HOSTS", lines=(line,)))
    await apply_all(store, [_asked(index, line, "first")])
    before = await _settled(store)
    names = (f"host-{number:06d}.example.net" for number in range(HOSTS))
    await apply_all(store, (_asked(index, line, name) for name in names))
    return (await _settled(store) - before) / HOSTS


def _asked(index: CatalogueIndex, line: Line, host: str) -> Job:
    return job(index, asking(host, line.feature), SHORT_MS)


async def _put(store: Store, catalogue: Catalogue) -> CatalogueIndex:
    await store.catalogues.put(catalogue)
    index = await store.catalogues.read(catalogue.id)
    if index is None:
        raise CaseFailed(f"The instance {catalogue.id} is gone")
    return index


async def _settled(store: Store) -> int:
    """Wait until the ids that were only to be short have gone, and give what is used."""
    for _ in range(int(GONE_S_MAX / POLL_S)):
        keyspace: Any = await store.client.info("keyspace")
        if not keyspace.get("db0", {}).get("expires"):
            return await _used_bytes(store)
        await asyncio.sleep(POLL_S)
    raise CaseFailed("Ids that have lapsed are still in the store")


async def _used_bytes(store: Store) -> int:
    info: Any = await store.client.info("memory")
    return int(info["used_memory"])
