"""What builds the way to the LicenseSpring cloud; wiring.py hands it around.

Decided here: which of the store's objects the cloud's sender and its syncs share. Not decided here:
settings (settings.py), who runs the route (wiring.py).
"""

from __future__ import annotations

import time
from functools import partial

from httpx import AsyncClient

from gateway import settings
from gateway.config import Config
from gateway.core.ports import Route
from gateway.store.opening import Store
from gateway.store.outbox import RedisOutbox
from gateway.store.rewriting import rewrite
from gateway.store.syncs import Syncs
from gateway.upstream.licensespring import LicensespringUpstream, route
from gateway.upstream.licensespring_calls import Calls, read_secret_file, read_verify_key
from gateway.upstream.licensespring_cloud import Cloud
from gateway.upstream.licensespring_sync import Syncing


def make_outbox(store: Store) -> RedisOutbox:
    """Build the outbox over an open store."""
    return RedisOutbox(store.topology, store.scripts, store.partitions, store.strength.wait)


def make_syncs(store: Store) -> Syncs:
    """Build what is kept of syncs over an open store."""
    return Syncs(store.topology, store.scripts, store.partitions, store.strength.wait)


def cloud_route(
    config: Config,
    upstream: settings.LicensespringUpstream,
    store: Store,
    http: AsyncClient,
    interval_s: float,
) -> Route:
    """Build the route to a configured cloud.

    Raises InvalidInput for a key file that cannot be read or is not what the setting asks for.
    """
    cloud = LicensespringUpstream(
        name=upstream.name,
        url=upstream.url,
        hardware_id=upstream.hardware_id,
        interval_s=interval_s,
        timeout_s=config.forward.timeout_s,
    )
    verify = config.path(upstream.verify_key_file) if upstream.verify_key_file else None
    calls = Calls(
        cloud,
        http,
        read_secret_file(config.path(upstream.api_key_file)),
        read_secret_file(config.path(upstream.shared_key_file)),
        None if verify is None else read_verify_key(verify),
    )
    book = make_syncs(store)
    sender = Cloud(calls, book)
    rewriting = partial(rewrite, store.catalogues)
    syncing = Syncing(calls, book, make_outbox(store), store.catalogues, rewriting, time.monotonic)
    return route(cloud, sender, sender, syncing)
