"""CMAPI's reads of features: the lines, one of them, who has something of it, and totals.

Decided here: that a credential and its role are judged before path and query, and how a page leads
to the next. Source: protocols/cmapi.md 3.3 and 3.4, SEMANTICS 10.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import BaseRoute
from starlette.types import Receive, Scope

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Role
from gateway.protocols import cmapi_features as wire
from gateway.service.admin import Admin
from gateway.service.features import Features
from gateway.web.arrays import array
from gateway.web.bodies import Headers
from gateway.web.cmapi import instance_of, readable
from gateway.web.endpoints import JSON, Answered, Endpoint


def routes(admin: Admin, features: Features) -> list[BaseRoute]:
    """Give the routes; `summaries` comes before the ids, which it would be taken for."""
    answers = _Answers(admin, features)
    return [
        *readable("/features", Endpoint("features", answers.listed)),
        *readable("/features/summaries", Endpoint("feature_summaries", answers.summaries)),
        *readable("/features/{number}", Endpoint("feature", answers.one)),
        *readable("/features/{number}/clients", Endpoint("feature_clients", answers.clients)),
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    admin: Admin
    features: Features

    async def listed(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        index = await self._let_in(scope)
        active_only = wire.decode_active_only(scope["query_string"])
        found = await self.features.listed(index, active_only=active_only)
        return 200, [JSON], await array(found, wire.encode)

    async def one(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        index = await self._let_in(scope)
        found = await self.features.one(index, scope["path_params"]["number"])
        return 200, [JSON], wire.encode(found)

    async def summaries(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        index = await self._let_in(scope)
        return 200, [JSON], wire.encode(await self.features.summaries(index))

    async def clients(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        index = await self._let_in(scope)
        page = wire.decode_page(scope["query_string"])
        found = await self.features.clients(index, scope["path_params"]["number"], page)
        headers = [JSON]
        if found.after is not None:
            headers.append((b"link", wire.next_link(page, found.after).encode()))
        return 200, headers, await array(found.elements, wire.encode)

    async def _let_in(self, scope: Scope) -> CatalogueIndex:
        authorization = Headers(scope).authorization
        who = await self.admin.admin(instance_of(scope), authorization, Role.READ)
        return who.index
