"""What a command needs of the store alone: it opened, its reports, what spools come to.

Apart from the gateway, since it needs no pages, no protocols and no upstreams: a command that only
looks starts in half the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gateway import settings
from gateway.config import Config
from gateway.service.reports import Reports
from gateway.service.sweeping import Sweeper
from gateway.store import opening
from gateway.store.lane import UNWATCHED, Watch
from gateway.store.opening import Store
from gateway.upstream.spooling import totals as spool_totals


@asynccontextmanager
async def open_store(
    config: Config,
    *,
    allow_weaker: bool = False,
    prelude: str | None = None,
    watch: Watch = UNWATCHED,
) -> AsyncIterator[Store]:
    """Open the configured store; see gateway.store.opening for what it raises."""
    async with opening.open_store(
        config.redis.url,
        config.data_dir,
        partitions=config.redis.partitions,
        ack=config.redis.ack,
        ack_replicas=config.redis.ack_replicas,
        deadline_s=config.redis.deadline_ms / 1000,
        queue_max=config.limits.lane_queue,
        allow_weaker=allow_weaker,
        prelude=prelude,
        watch=watch,
    ) as store:
        yield store


def make_reports(store: Store) -> Reports:
    """Build what reports usage over an open store."""
    return Reports(store.catalogues, Sweeper(store.catalogues, store.lane).sweep)


Totals = Mapping[str, Mapping[tuple[str, str], int]]  # upstream -> (instance, line) -> units


async def read_totals(config: Config) -> Totals:
    """Ask the upstreams that can tell what they have: spool directories, what their files come to.

    Raises InvalidInput that names every file which is not what was written.
    """
    spools = [each for each in config.upstreams if isinstance(each, settings.SpoolUpstream)]
    found = {each.name: config.path(each.dir) for each in spools}
    return {
        name: await asyncio.to_thread(spool_totals, directory, name)
        for name, directory in found.items()
        if directory.is_dir()
    }
