"""CMAPI's reads of the server and of an instance over HTTP, and the change of policies.

Decided here: which forms of path there are, that all of them but health ask for an administrator,
and that health without a store is a 503. Source: protocols/cmapi.md 3.3 and 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.service.policies import InstancePolicies
from gateway.service.server import Server
from gateway.web import bodies
from gateway.web.bodies import Headers, Limits, read_body
from gateway.web.cmapi import BASE, SHORT, instance_of, readable
from gateway.web.endpoints import JSON, Answered, Endpoint, by_method

_RETRY = (b"retry-after", b"1")
_NO_STORE = (b"cache-control", b"no-store")


def routes(server: Server, policies: InstancePolicies, limits: Limits) -> list[BaseRoute]:
    """Give the routes of health, of instance information, of reservation groups and policies."""
    answers = _Answers(server, policies, limits)
    read = answers.policies_in_force
    in_force = Endpoint("policies", read)
    change = by_method({"GET": read, "HEAD": read, "PATCH": answers.change_policies})
    return [
        *readable("/health", Endpoint("health", answers.health)),
        *readable("/reservationgroups", Endpoint("reservationgroups", answers.reservation_groups)),
        Route(f"{BASE}/policies", Endpoint("policies", change), methods=["GET", "PATCH"]),
        Route(f"{SHORT}/policies", in_force, methods=["GET"]),
        Route(BASE, Endpoint("instance", answers.information), methods=["GET"]),
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    server: Server
    policies: InstancePolicies
    limits: Limits

    async def health(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        health, connected = await self.server.health(instance_of(scope))
        headers = [JSON, _NO_STORE]
        if not connected:
            headers.append(_RETRY)
        return 200 if connected else 503, headers, msgspec.json.encode(health)

    async def information(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        found = await self.server.information(instance_of(scope), Headers(scope).authorization)
        return 200, [JSON], msgspec.json.encode(found)

    async def reservation_groups(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        found = await self.server.reservation_groups(
            instance_of(scope), Headers(scope).authorization
        )
        return 200, [JSON], msgspec.json.encode(found)

    async def policies_in_force(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        found = await self.policies.read(instance_of(scope), Headers(scope).authorization)
        return 200, [JSON], msgspec.json.encode(found)

    async def change_policies(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers = Headers(scope)
        body = await read_body(receive, headers.content_length, self.limits)
        headers.require(bodies.JSON)
        now = await self.policies.change(instance_of(scope), headers.authorization, body)
        return 200, [JSON], msgspec.json.encode(now)
