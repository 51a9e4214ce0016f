"""What forwarding costs, whatever number of requests came in the hour.

Decided here: that what is compared is the processor time, ours and the store's, of sealing and
sending what a thousand requests left, and what a hundred thousand did, to the same lines: usage
waits as a sum per line and hour. The upstream is a spool directory, so that nobody's work but the
forwarder's is in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway.cli.benchmarks.bare import asking, job
from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.scene import CaseFailed, metered
from gateway.cli.benchmarks.storage import SHORT_MS, apply_all
from gateway.config import Config
from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Attachment, Catalogue
from gateway.settings import SpoolUpstream
from gateway.store.calls import Job
from gateway.store.opening import Store
from gateway.upstream.forwarder import Forwarder
from gateway.wiring import open_forwarder
from gateway.wiring_store import open_store

FEW: Final = 1_000
MANY: Final = 100_000
ROUNDS: Final = 3
FEATURES: Final = 200  # two of them in each request
INSTANCE: Final = "FORWARDING"
UPSTREAM: Final = "spool"


async def probe(
    bench: Bench, add: Callable[[str, float], None], tell: Callable[[str], None]
) -> None:
    """Forward, in turn, what few and what many requests left."""
    scratch = bench.plant.scratch
    upstream = SpoolUpstream(name=UPSTREAM, dir=str(scratch / "spool"))
    config = Config(upstreams=(upstream,), data_dir=scratch / "forwarding")
    async with open_store(config) as store, open_forwarder(config, store) as forwarder:
        lines = tuple(metered(f"LINE-{at:03d}", f"feature-{at:03d}") for at in range(FEATURES))
        await store.catalogues.put(
            Catalogue(id=INSTANCE, lines=lines, upstreams=(Attachment(UPSTREAM),))
        )
        index = await store.catalogues.read(INSTANCE)
        if index is None:
            raise CaseFailed(f"The instance {INSTANCE} is gone")
        await _forward(store, forwarder, index, FEW)  # the first time, scripts are loaded
        for number in range(ROUNDS):
            tell(f"round {number + 1} of {ROUNDS}")
            few_s = await _forward(store, forwarder, index, FEW)
            many_s = await _forward(store, forwarder, index, MANY)
            add("few_ms", few_s * 1000)
            add("many_ms", many_s * 1000)
            add("ratio", many_s / few_s)


async def _forward(
    store: Store, forwarder: Forwarder, index: CatalogueIndex, requests: int
) -> float:
    """Have so many requests counted, and give the processor time that forwarding them took."""
    await apply_all(store, _jobs(index, requests))
    own_s, store_s = time.process_time(), await _store_s(store)
    left = await forwarder.drain()
    spent_s = time.process_time() - own_s + await _store_s(store) - store_s
    if left:
        raise CaseFailed(f"Usage was not forwarded: {left[0].reason}")
    return spent_s


def _jobs(index: CatalogueIndex, count: int) -> Iterator[Job]:
    for number in range(count):
        first = 2 * number % FEATURES
        features = (f"feature-{first:03d}", f"feature-{first + 1:03d}")
        yield job(index, asking("h1", *features), SHORT_MS)


async def _store_s(store: Store) -> float:
    """Say how much processor time the store has used, to the microsecond."""
    info: Any = await store.client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
