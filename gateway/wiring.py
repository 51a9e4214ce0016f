"""The one place that builds objects from a Config and hands them around."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from httpx import AsyncClient
from starlette.types import ASGIApp

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.keys import algorithm_of, jwk, load_private, thumbprint
from gateway.core.ports import Route
from gateway.service.access import Access, Signer
from gateway.service.credentials import Credentials
from gateway.service.health import reasons_not_ready
from gateway.service.sweeping import Sweeper
from gateway.settings import Upstream
from gateway.store import opening
from gateway.store.opening import Store
from gateway.store.outbox import RedisOutbox
from gateway.store.signing import signing_key
from gateway.upstream.cmapi import CmapiUpstream
from gateway.upstream.cmapi import route as cmapi_route
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.sender import CmapiSender, open_http
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
        app = await make_gateway(config, lifecycle, store)
        async with open_forwarder(config, store) as forwarder:
            if forward:
                forwarder.start()
            yield app


@asynccontextmanager
async def open_forwarder(
    config: Config, store: Store, grace_s: float = 1.5
) -> AsyncIterator[Forwarder]:
    """Build the forwarder over an open store, not yet started, and stop it in order at the end.

    A batch under way has `grace_s` to be answered; after that it stays sealed and goes again.

    Raises InvalidInput for a key file that cannot be read or is no key.
    """
    fsync = store.strength.fsync_each_call
    async with open_http() as http:
        forwarder = Forwarder(
            RedisOutbox(store.client, store.scripts, store.partitions, fsync),
            store.catalogues,
            [_route(config, upstream, http) for upstream in config.upstreams],
            sweep=Sweeper(store.catalogues, store.lane).sweep,
            blocked_retry_s=config.forward.blocked_retry_ms / 1000,
        )
        try:
            yield forwarder
        finally:
            await forwarder.stop(grace_s)


def _route(config: Config, upstream: Upstream, http: AsyncClient) -> Route:
    parent = CmapiUpstream(
        name=upstream.name,
        url=upstream.url,
        kid=upstream.kid,
        host=upstream.host,
        dedupe_horizon_ms=upstream.dedupe_horizon_ms,
        interval_s=(upstream.interval_ms or config.forward.interval_ms) / 1000,
        timeout_s=config.forward.timeout_s,
    )
    path = config.path(upstream.key_file)
    try:
        private = load_private(path.read_bytes())
    except OSError as error:
        raise InvalidInput(
            f"upstream {upstream.name}: the key {path} cannot be read: {error.strerror}"
        ) from error
    return cmapi_route(parent, CmapiSender(parent, private, http))


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
        resend_ms=2 * config.redis.deadline_ms,
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
