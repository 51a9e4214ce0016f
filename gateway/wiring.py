"""The one place that builds objects from a Config and hands them around."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from starlette.types import ASGIApp

from gateway.config import Config
from gateway.core.keys import algorithm_of, jwk, thumbprint
from gateway.core.meters import Meters
from gateway.protocols.cmapi_batch import BATCH_BYTES_MAX
from gateway.protocols.openapi import document
from gateway.service.access import Access, Signer
from gateway.service.admin import Admin
from gateway.service.batch import Batch
from gateway.service.boards import Board
from gateway.service.clients import Clients
from gateway.service.credentials import Credentials
from gateway.service.explain import Explain
from gateway.service.features import Features
from gateway.service.folding import Folder
from gateway.service.health import reasons_not_ready, watched
from gateway.service.policies import InstancePolicies
from gateway.service.rates import KeyRates
from gateway.service.server import Server, distribution_version
from gateway.service.sweeping import Sweeper
from gateway.store.clients import Hosts
from gateway.store.lane import Watch
from gateway.store.logins import Logins
from gateway.store.opening import Store
from gateway.store.signing import session_key
from gateway.upstream.forwarder import Forwarder
from gateway.upstream.sender import open_http
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
from gateway.web.metrics import Scrapes
from gateway.web.seeing import Seeing
from gateway.wiring_cloud import make_outbox, make_syncs
from gateway.wiring_floating import floating_routes
from gateway.wiring_pages import lost_pages, page_routes
from gateway.wiring_seeing import MeteredLane, layout_of, open_traces, seen
from gateway.wiring_store import make_reports, open_store
from gateway.wiring_upstreams import make_route, own_key

if TYPE_CHECKING:  # needs the extra otel
    from gateway.wiring_traces import Traces


@asynccontextmanager
async def open_gateway(
    config: Config,
    lifecycle: Lifecycle,
    *,
    forward: bool = True,
    allow_weaker: bool = False,
    prelude: str | None = None,
    board: Board | None = None,
) -> AsyncIterator[ASGIApp]:
    """Open everything a gateway process has, and close it in order: forwarder, lane, store.

    `prelude` replaces the store's clock, for tests of time. `board` is where it counts, together
    with other workers.
    """
    board = board or Board.alone(layout_of(config))
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(open_traces(os.environ))
        watch: Watch = MeteredLane(board.meters)
        if traces is not None:
            watch = traces.watch(watch)
        store = await stack.enter_async_context(
            open_store(config, allow_weaker=allow_weaker, prelude=prelude, watch=watch)
        )
        app = await make_gateway(config, lifecycle, store, board)
        await stack.enter_async_context(watched(store))
        forwarder = await stack.enter_async_context(
            open_forwarder(config, store, meters=board.meters, traces=traces)
        )
        await stack.enter_async_context(
            seen(config, store, board, forwarder if forward else None, _reasons(lifecycle, store))
        )
        if forward:
            forwarder.start()
        yield app if traces is None else traces.app(app)


@asynccontextmanager
async def open_forwarder(
    config: Config,
    store: Store,
    grace_s: float = 1.5,
    *,
    meters: Meters | None = None,
    traces: Traces | None = None,
) -> AsyncIterator[Forwarder]:
    """Build the forwarder over an open store, not yet started, and stop it in order at the end.

    A batch under way has `grace_s` to be answered; after that it stays sealed and goes again.

    Raises InvalidInput for a key file that cannot be read or is no key.
    """
    async with AsyncExitStack() as stack:
        routes = []
        for upstream in config.upstreams:
            http = await stack.enter_async_context(open_http())
            route = await make_route(config, upstream, store, http)
            if traces is not None:
                traces.http(http)
                route = replace(route, sender=traces.sender(route.sender, route.name))
            routes.append(route)
        sweep = Sweeper(store.catalogues, store.lane).sweep
        forwarder = Forwarder(
            make_outbox(store),
            store.catalogues,
            routes,
            sweep=sweep,
            fold=Folder(store.catalogues, sweep, config.report.retention_months, _now_ms).fold,
            blocked_retry_s=config.forward.blocked_retry_ms / 1000,
            meters=meters or Meters(),
            demands=make_syncs(store),
        )
        try:
            yield forwarder
        finally:
            await forwarder.stop(grace_s)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def make_gateway(
    config: Config, lifecycle: Lifecycle, store: Store, board: Board | None = None
) -> ASGIApp:
    """Build the application over an open store; it counts on `board`."""
    board = board or Board.alone(layout_of(config))
    private = await own_key(config, store)
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
        rates=KeyRates(config.limits.requests_per_key_per_s),
        meters=board.meters,
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
            *await floating_routes(config, store, admin, make_syncs(store), board.meters),
            *page_routes(config, store, admin, clients, board),
            *ops.routes(
                _reasons(lifecycle, store),
                {"keys": [jwk(public, signer.kid)]},
                msgspec.json.encode(document(version)),
                Scrapes(board, version),
            ),
        ],
        Seeing(board.meters, lines=config.log.access),
        lost_pages(config),
    )


def _reasons(lifecycle: Lifecycle, store: Store) -> ops.Reasons:
    """Give what says why no requests should come here now."""

    async def reasons() -> list[str]:
        draining = ["Draining"] if lifecycle.draining else []
        return draining + await reasons_not_ready(store, time.time)

    return reasons
