"""The part of the wiring that is about LicenseSpring clients: their doors, if there are any.

They speak to one instance, which the configuration names; without one there are no doors, since
anybody may come to them who can reach them, unless a log-in is demanded.
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from gateway.config import Config
from gateway.core.meters import Meters
from gateway.service.admin import Admin
from gateway.service.floating import Floating
from gateway.service.floating_reads import FloatingReads
from gateway.service.floating_releases import FloatingReleases
from gateway.service.floating_users import FloatingUsers
from gateway.service.syncing import CloudSyncs
from gateway.settings import LicensespringUpstream
from gateway.store.chain import answer_signer
from gateway.store.opening import Store
from gateway.store.syncs import Syncs
from gateway.web import licensespring, licensespring_sync
from gateway.web.bodies import Limits
from gateway.web.licensespring_doors import Doors


async def floating_routes(
    config: Config, store: Store, admin: Admin, syncs: Syncs, meters: Meters
) -> list[BaseRoute]:
    """Build the routes of LicenseSpring clients over an open store; none without an instance.

    Raises InvalidInput for a key or a chain that answers cannot be signed with; Unavailable.
    """
    chosen = config.licensespring
    if not chosen.instance:
        return []
    signer = None
    if chosen.v2:
        key_file, chain_file = (
            config.path(name) if name else None for name in (chosen.key_file, chosen.chain_file)
        )
        signer = await answer_signer(store, key_file, chain_file, config.data_dir)
    floating = Floating(
        store.catalogues,
        store.lane,
        chosen.instance,
        retention_ms=config.dedupe.retention_ms,
        resend_ms=2 * config.redis.deadline_ms,
        explain_ms=config.explain.retention_ms,
        meters=meters,
    )
    users = FloatingUsers(admin, chosen.instance, demanded=chosen.auth)
    limits = Limits(config.server.max_body_bytes, config.server.body_timeout_s)
    doors = Doors(
        floating, FloatingReads(floating), FloatingReleases(floating), users, limits, signer
    )
    intervals_ms = {
        each.name: each.interval_ms or config.forward.interval_ms
        for each in config.upstreams
        if isinstance(each, LicensespringUpstream)
    }
    cloud = CloudSyncs(store.catalogues, syncs, chosen.instance, intervals_ms)
    return licensespring.routes(doors, licensespring_sync.routes(users, cloud, limits))
