"""The one place that builds objects from a Config and hands them around."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from gateway.config import Config
from gateway.core.keys import algorithm_of, jwk, thumbprint
from gateway.service.access import Access, Signer
from gateway.service.credentials import Credentials
from gateway.service.health import reasons_not_ready
from gateway.store import opening
from gateway.store.opening import Store
from gateway.store.signing import signing_key
from gateway.web import cmapi, ops
from gateway.web.app import make_app
from gateway.web.bodies import Limits
from gateway.web.lifecycle import Lifecycle


@asynccontextmanager
async def open_store(
    config: Config, *, allow_weaker: bool = False, prelude: str | None = None
) -> AsyncIterator[Store]:
    """Open the configured store; see gateway.store.opening for what it raises."""
    async with opening.open_store(
        config.redis.url,
        config.data_dir,
        partitions=config.redis.partitions,
        ack=config.redis.ack,
        deadline_s=config.redis.deadline_ms / 1000,
        queue_max=config.limits.lane_queue,
        allow_weaker=allow_weaker,
        prelude=prelude,
    ) as store:
        yield store


@asynccontextmanager
async def open_gateway(
    config: Config,
    lifecycle: Lifecycle,
    *,
    forward: bool = True,
    allow_weaker: bool = False,
    prelude: str | None = None,
) -> AsyncIterator[ASGIApp]:
    """Open everything a gateway process has, and close it in order: forwarder, lane, store.

    `prelude` replaces the store's clock, for tests of time.
    """
    async with open_store(config, allow_weaker=allow_weaker, prelude=prelude) as store:
        yield await make_gateway(config, lifecycle, store)


async def make_gateway(config: Config, lifecycle: Lifecycle, store: Store) -> ASGIApp:
    """Build the application over an open store."""
    named = config.path(config.signing.key_file) if config.signing.key_file else None
    private = await signing_key(store, config.signing.alg, named, config.data_dir)
    public = private.public_key()
    signer = Signer(thumbprint(public), algorithm_of(private), private)
    credentials = Credentials(
        store.catalogues,
        time.time,
        skew_s=config.token.clock_skew_s,
        payload_max_age_s=config.token.payload_max_age_s,
    )
    access = Access(
        credentials,
        store.lane,
        signer,
        time.time,
        retention_ms=config.dedupe.retention_ms,
        forwarder_retention_ms=config.dedupe.forwarder_retention_ms,
    )
    limits = Limits(config.server.max_body_bytes, config.server.body_timeout_s)

    async def reasons() -> list[str]:
        draining = ["Draining"] if lifecycle.draining else []
        return draining + await reasons_not_ready(store, time.time)

    return make_app(
        [
            *cmapi.routes(access, limits),
            *ops.routes(reasons, {"keys": [jwk(public, signer.kid)]}),
        ]
    )
