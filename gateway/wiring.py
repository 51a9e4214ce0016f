"""The one place that builds objects from a Config and hands them around."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import msgspec
from httpx import AsyncClient
from starlette.types import ASGIApp

from gateway import settings
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey, algorithm_of, jwk, load_private, thumbprint
from gateway.core.ports import Route
from gateway.protocols.cmapi_batch import BATCH_BYTES_MAX
from gateway.protocols.openapi import document
from gateway.service.access import Access, Signer
from gateway.service.admin import Admin
from gateway.service.batch import Batch
from gateway.service.clients import Clients
from gateway.service.credentials import Credentials
from gateway.service.explain import Explain
from gateway.service.features import Features
from gateway.service.folding import Folder
from gateway.service.health import reasons_not_ready
from gateway.service.policies import InstancePolicies
from gateway.service.reports import Reports
from gateway.service.server import Server, distribution_version
from gateway.service.sweeping import Sweeper
from gateway.store import opening
from gateway.store.clients import Hosts
from gateway.store.logins import Logins
from gateway.store.opening import Store
from gateway.store.outbox import RedisOutbox
from gateway.store.signing import session_key, signing_key
from gateway.upstream import cloudevents as cloudevents_kind
from gateway.upstream import cmapi as cmapi_kind
from gateway.upstream import spool as spool_kind
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.sender import CmapiSender, EventsSender, open_http, read_token_file
from gateway.upstream.spooling import SpoolSender
from gateway.upstream.spooling import totals as spool_totals
from gateway.web import (
    cmapi,
    cmapi_admin,
    cmapi_batch,
    cmapi_clients,
    cmapi_explain,
    cmapi_features,
    cmapi_server,
    ops,
    usage,
)
from gateway.web.app import make_app
from gateway.web.bodies import LargeBodies, Limits
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
    async with AsyncExitStack() as stack:
        routes = []
        for upstream in config.upstreams:
            http = await stack.enter_async_context(open_http())
            routes.append(await make_route(config, upstream, store, http))
        sweep = Sweeper(store.catalogues, store.lane).sweep
        forwarder = Forwarder(
            RedisOutbox(store.client, store.scripts, store.partitions, fsync),
            store.catalogues,
            routes,
            sweep=sweep,
            fold=Folder(store.catalogues, sweep, config.report.retention_months, _now_ms).fold,
            blocked_retry_s=config.forward.blocked_retry_ms / 1000,
        )
        try:
            yield forwarder
        finally:
            await forwarder.stop(grace_s)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


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


async def make_route(
    config: Config, upstream: settings.Upstream, store: Store, http: AsyncClient
) -> Route:
    """Build the route to a configured upstream, whatever its kind.

    Raises InvalidInput for a file that cannot be read or is not what the setting asks for.
    """
    return await _ROUTES[type(upstream)](config, upstream, store, http)


async def _cmapi_route(
    config: Config, upstream: settings.CmapiUpstream, store: Store, http: AsyncClient
) -> Route:
    parent = cmapi_kind.CmapiUpstream(
        name=upstream.name,
        url=upstream.url,
        kid=upstream.kid,
        host=upstream.host,
        dedupe_horizon_ms=upstream.dedupe_horizon_ms,
        interval_s=_interval_s(config, upstream),
        timeout_s=config.forward.timeout_s,
    )
    path = config.path(upstream.key_file)
    try:
        private = load_private(path.read_bytes())
    except OSError as error:
        raise InvalidInput(
            f"upstream {upstream.name}: the key {path} cannot be read: {error.strerror}"
        ) from error
    return cmapi_kind.route(parent, CmapiSender(parent, private, http))


async def _cloudevents_route(
    config: Config, upstream: settings.CloudeventsUpstream, store: Store, http: AsyncClient
) -> Route:
    collector = cloudevents_kind.CloudeventsUpstream(
        name=upstream.name,
        url=upstream.url,
        dedupe_horizon_ms=upstream.dedupe_horizon_ms,
        interval_s=_interval_s(config, upstream),
        timeout_s=config.forward.timeout_s,
    )
    # Not read here: a token may be put in place, and replaced, while the gateway runs.
    read_token = (
        partial(read_token_file, config.path(upstream.token_file)) if upstream.token_file else None
    )
    return cloudevents_kind.route(collector, EventsSender(collector, http, read_token))


async def _spool_route(
    config: Config, upstream: settings.SpoolUpstream, store: Store, http: AsyncClient
) -> Route:
    spool = spool_kind.SpoolUpstream(
        name=upstream.name,
        directory=config.path(upstream.dir),
        interval_s=_interval_s(config, upstream),
    )
    return spool_kind.route(spool, SpoolSender(spool, await _signing_key(config, store)))


# A kind of upstream is a line here and one in settings.UPSTREAM_KINDS. Each builder takes its own
# struct, which a mapping cannot say: hence Any.
_Builder = Callable[[Config, Any, Store, AsyncClient], Awaitable[Route]]
_ROUTES: Final[Mapping[type[settings.Upstream], _Builder]] = {
    settings.CmapiUpstream: _cmapi_route,
    settings.CloudeventsUpstream: _cloudevents_route,
    settings.SpoolUpstream: _spool_route,
}


def _interval_s(config: Config, upstream: settings.Upstream) -> float:
    return (upstream.interval_ms or config.forward.interval_ms) / 1000


async def make_gateway(config: Config, lifecycle: Lifecycle, store: Store) -> ASGIApp:
    """Build the application over an open store."""
    private = await _signing_key(config, store)
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
        explain_ms=config.explain.retention_ms,
    )
    batch = Batch(access, line_bytes_max=config.server.max_body_bytes)
    logins = Logins(store.client, store.scripts, store.partitions)
    admin = Admin(store.catalogues, logins, await session_key(store), time.time)
    clients = Clients(
        admin,
        Hosts(store.client, store.partitions),
        store.lane,
        Sweeper(store.catalogues, store.lane).sweep,
        resend_ms=2 * config.redis.deadline_ms,
    )
    version = distribution_version()
    server = Server(admin, store.reachable, version)
    limits = Limits(config.server.max_body_bytes, config.server.body_timeout_s)
    batch_limits = Limits(BATCH_BYTES_MAX, config.server.body_timeout_s)

    async def reasons() -> list[str]:
        draining = ["Draining"] if lifecycle.draining else []
        return draining + await reasons_not_ready(store, time.time)

    return make_app(
        [
            *cmapi.routes(access, limits),
            *cmapi_batch.routes(batch, batch_limits, LargeBodies()),
            *cmapi_admin.routes(admin, limits),
            *cmapi_features.routes(admin, Features(store.catalogues, store.lane)),
            *cmapi_clients.routes(clients),
            *cmapi_explain.routes(admin, Explain(store.catalogues)),
            *cmapi_server.routes(server, InstancePolicies(admin), limits),
            *usage.routes(admin, make_reports(store)),
            *ops.routes(
                reasons,
                {"keys": [jwk(public, signer.kid)]},
                msgspec.json.encode(document(version)),
            ),
        ]
    )


def make_reports(store: Store) -> Reports:
    """Build what reports usage over an open store."""
    return Reports(store.catalogues, Sweeper(store.catalogues, store.lane).sweep)


async def _signing_key(config: Config, store: Store) -> PrivateKey:
    named = config.path(config.signing.key_file) if config.signing.key_file else None
    return await signing_key(store, config.signing.alg, named, config.data_dir)
