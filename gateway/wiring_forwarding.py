"""What builds the desk of people who look after forwarding, for commands and for pages.

Decided here: which of the store's objects they share, and what of an upstream's settings is told to
people: never a credential. Not decided here: settings (settings.py), who is let in (cli/, web/).
"""

from __future__ import annotations

from gateway import settings
from gateway.config import Config
from gateway.service.asides import Desk
from gateway.service.consumption import Consumption
from gateway.service.forwarding import CLOUD, Forwarding, Upstream
from gateway.settings import shown_url
from gateway.store.asides import Asides
from gateway.store.opening import Store
from gateway.store.outbox_looks import Looks
from gateway.store.syncs import Syncs


def asides_of(store: Store) -> Asides:
    """Give what is set aside in an open store."""
    return _looks(store)


def desk_over(config: Config, store: Store) -> Desk:
    """Make the desk over an open store."""
    kinds = {each.name: _kind(each) for each in config.upstreams}
    return Desk(asides_of(store), store.catalogues, kinds)


def forwarding_over(config: Config, store: Store) -> Forwarding:
    """Make what tells how usage goes upstream, over an open store."""
    return Forwarding(
        desk_over(config, store),
        _looks(store),
        _syncs(store),
        store.catalogues,
        {each.name: _told(config, each) for each in config.upstreams},
    )


def consumption_over(config: Config, store: Store) -> Consumption:
    """Make what lists consumption, over an open store."""
    clouds = {each.name for each in config.upstreams if _kind(each) == CLOUD}
    return Consumption(store.catalogues, _syncs(store), clouds)


def _looks(store: Store) -> Looks:
    return Looks(store.topology, store.scripts, store.partitions, store.strength.wait)


def _syncs(store: Store) -> Syncs:
    return Syncs(store.topology, store.scripts, store.partitions, store.strength.wait)


def _kind(upstream: settings.Upstream) -> str:
    return str(upstream.__struct_config__.tag)


def _told(config: Config, upstream: settings.Upstream) -> Upstream:
    interval_ms = upstream.interval_ms or config.forward.interval_ms
    if isinstance(upstream, settings.SpoolUpstream):
        address, horizon_ms = str(config.path(upstream.dir)), None
    elif isinstance(upstream, settings.LicensespringUpstream):
        address, horizon_ms = shown_url(upstream.url), None
    else:
        address, horizon_ms = shown_url(upstream.url), upstream.dedupe_horizon_ms
    return Upstream(_kind(upstream), address, interval_ms, horizon_ms)
