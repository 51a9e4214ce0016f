"""Why a request came to what it came to: one read, for administrators. Source: INTERFACE 4."""

from __future__ import annotations

from functools import partial

from starlette.routing import BaseRoute
from starlette.types import Receive, Scope

from gateway.core.model import Role
from gateway.protocols.cmapi_explain import encode
from gateway.service.admin import Admin
from gateway.service.explain import Explain
from gateway.web.bodies import Headers
from gateway.web.cmapi import instance_of, readable
from gateway.web.endpoints import JSON, Answered, Endpoint


def routes(admin: Admin, explain: Explain) -> list[BaseRoute]:
    """Give the routes. An id may hold a slash, so it is the rest of the path."""
    endpoint = Endpoint("explain", partial(_explained, admin, explain))
    return readable("/requests/{id:path}", endpoint)


async def _explained(
    admin: Admin, explain: Explain, scope: Scope, receive: Receive, request_id: str
) -> Answered:
    who = await admin.admin(instance_of(scope), Headers(scope).authorization, Role.READ)
    found = await explain.explain(who.index.catalogue, scope["path_params"]["id"])
    return 200, [JSON], encode(found)
