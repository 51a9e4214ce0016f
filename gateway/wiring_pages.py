"""Builds the pages from a Config and an open store, and what stands behind them."""

from __future__ import annotations

import time

from starlette.routing import BaseRoute

from gateway.config import Config
from gateway.service.admin import Admin
from gateway.service.boards import Board
from gateway.service.client_keys import ClientKeys
from gateway.service.clients import Clients
from gateway.service.explain import Explain
from gateway.service.features import Features
from gateway.service.line_details import LineDetails
from gateway.service.overview import Overview
from gateway.service.page_sessions import PageSessions
from gateway.service.policies import InstancePolicies
from gateway.service.provisioning import Provisioning
from gateway.service.registrations import Registrations
from gateway.service.reports import Reports
from gateway.service.sweeping import Sweeper
from gateway.service.users import Users
from gateway.store.clients import Hosts
from gateway.store.ended_sessions import EndedSessions
from gateway.store.opening import Store
from gateway.web.app import Lost
from gateway.web.bodies import Limits
from gateway.web.ui import (
    configuration,
    configuration_keys,
    configuration_provisioning,
    configuration_users,
    consumption,
    deciding,
    files,
    forwarding,
    licences,
    login,
    overview,
    registrations,
    reports,
)
from gateway.web.ui.doors import Doors, lost
from gateway.web.ui.rendering import Renderer
from gateway.wiring_forwarding import asides_of, consumption_over, desk_over, forwarding_over

FORM_BYTES_MAX = 2**20  # a provisioning file is the largest thing that a form brings


def page_routes(
    config: Config, store: Store, admin: Admin, clients: Clients, board: Board
) -> list[BaseRoute]:
    """Give the routes of all pages; none where the configuration turns them off."""
    if not config.ui.enabled:
        return []
    addresses, file_route = files.load()
    ended = EndedSessions(store.client, store.durable, store.partitions)
    limits = Limits(FORM_BYTES_MAX, config.server.body_timeout_s)
    doors = Doors(PageSessions(admin, ended), Renderer(addresses), limits)
    forwards = forwarding_over(config, store)
    sweep = Sweeper(store.catalogues, store.lane).sweep
    return [
        file_route,
        *login.routes(doors),
        *overview_routes(config, store, doors, board),
        *registrations.routes(
            doors,
            Registrations(Hosts(store.client, store.partitions), sweep),
            clients,
        ),
        *reports.routes(doors, Reports(store.catalogues, sweep)),
        *configuration_routes(store, admin, doors),
        *forwarding.routes(doors, forwards),
        *deciding.routes(doors, forwards),
        *consumption.routes(doors, consumption_over(config, store)),
    ]


def lost_pages(config: Config) -> Lost | None:
    """Give what answers paths of pages that are not there; None where there are no pages."""
    return lost(Renderer(files.load()[0])) if config.ui.enabled else None


def configuration_routes(store: Store, admin: Admin, doors: Doors) -> list[BaseRoute]:
    """Give the routes of what an administrator changes."""

    async def store_s() -> float:
        return max((await store.clocks_s()).values(), default=0.0)

    return [
        *configuration.routes(doors, InstancePolicies(admin)),
        *configuration_keys.routes(doors, ClientKeys(admin)),
        *configuration_users.routes(doors, Users(admin, store_s)),
        *configuration_provisioning.routes(doors, Provisioning(admin, asides_of(store))),
    ]


def overview_routes(config: Config, store: Store, doors: Doors, board: Board) -> list[BaseRoute]:
    """Give the routes of the overview, and of lines."""
    features = Features(store.catalogues, store.lane)
    usage = Reports(store.catalogues, Sweeper(store.catalogues, store.lane).sweep)
    kinds = desk_over(config, store).kinds
    look = Overview(store, features, usage, board, kinds, time.time)
    details, explain = LineDetails(store.catalogues, features), Explain(store.catalogues)
    explains = config.explain.retention_ms > 0
    return [
        *overview.routes(doors, look, explains=explains),
        *licences.routes(doors, features, details, explain, explains=explains),
    ]
