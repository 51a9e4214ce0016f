"""The part of the wiring that is about upstreams: a route for each, by its kind.

Decided here: which objects a kind of upstream is made of. Not decided here: settings (settings.py),
who drives the routes (wiring.py), the cloud's part (wiring_cloud.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from httpx import AsyncClient

from gateway import settings
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey, load_private
from gateway.core.ports import Route
from gateway.store.opening import Store
from gateway.store.signing import signing_key
from gateway.upstream import cloudevents as cloudevents_kind
from gateway.upstream import cmapi as cmapi_kind
from gateway.upstream import spool as spool_kind
from gateway.upstream.sender import CmapiSender, EventsSender, read_token_file
from gateway.upstream.spooling import SpoolSender
from gateway.wiring_cloud import cloud_route


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


async def _licensespring_route(
    config: Config, upstream: settings.LicensespringUpstream, store: Store, http: AsyncClient
) -> Route:
    return cloud_route(config, upstream, store, http, _interval_s(config, upstream))


async def _spool_route(
    config: Config, upstream: settings.SpoolUpstream, store: Store, http: AsyncClient
) -> Route:
    spool = spool_kind.SpoolUpstream(
        name=upstream.name,
        directory=config.path(upstream.dir),
        interval_s=_interval_s(config, upstream),
    )
    return spool_kind.route(spool, SpoolSender(spool, await own_key(config, store)))


# A kind of upstream is a line here and one in settings.UPSTREAM_KINDS. Each builder takes its own
# struct, which a mapping cannot say: hence Any.
_Builder = Callable[[Config, Any, Store, AsyncClient], Awaitable[Route]]
_ROUTES: Final[Mapping[type[settings.Upstream], _Builder]] = {
    settings.CmapiUpstream: _cmapi_route,
    settings.CloudeventsUpstream: _cloudevents_route,
    settings.LicensespringUpstream: _licensespring_route,
    settings.SpoolUpstream: _spool_route,
}


def _interval_s(config: Config, upstream: settings.Upstream) -> float:
    return (upstream.interval_ms or config.forward.interval_ms) / 1000


async def own_key(config: Config, store: Store) -> PrivateKey:
    """Read, or make, the key that the gateway signs with. Raises InvalidInput."""
    named = config.path(config.signing.key_file) if config.signing.key_file else None
    return await signing_key(store, config.signing.alg, named, config.data_dir)
