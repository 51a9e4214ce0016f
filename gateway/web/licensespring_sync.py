"""Syncs with the cloud over HTTP: GET and POST /api/v5/sync, POST /api/v5/sync/trigger.

Decided here: that administrators alone may ask, whatever `licensespring.auth` says. Not decided
here: what is read and answered (protocols/licensespring_sync.py).
Source: protocols/licensespring.md 2 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.model import Role
from gateway.protocols.licensespring_sync import SAVED, STARTED, encode_sync, read_sync
from gateway.service.floating_users import FloatingUsers
from gateway.service.syncing import CloudSyncs
from gateway.web import bodies
from gateway.web.bodies import Headers, Limits, read_body
from gateway.web.endpoints import JSON, Answered, Endpoint, by_method

SYNC: Final = "/api/v5/sync"


def routes(users: FloatingUsers, syncs: CloudSyncs, limits: Limits) -> list[BaseRoute]:
    """Give the routes of syncs."""
    answers = _Answers(users, syncs, limits)
    both = by_method({"GET": answers.tell, "HEAD": answers.tell, "POST": answers.change})
    return [
        Route(SYNC, Endpoint("sync", both), methods=["GET", "POST"]),
        Route(f"{SYNC}/trigger", Endpoint("sync_trigger", answers.trigger), methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    users: FloatingUsers
    syncs: CloudSyncs
    limits: Limits

    async def tell(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self._admit(scope)
        return 200, [JSON], encode_sync(await self.syncs.settings())

    async def change(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers = Headers(scope)
        body = await read_body(receive, headers.content_length, self.limits)
        headers.require(bodies.JSON)
        await self._admit(scope)
        await self.syncs.change(read_sync(body))
        return 200, [JSON], SAVED

    async def trigger(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await read_body(receive, Headers(scope).content_length, self.limits)
        await self._admit(scope)
        await self.syncs.trigger()
        return 200, [JSON], STARTED

    async def _admit(self, scope: Scope) -> None:
        authorization = Headers(scope).authorization
        await self.users.admin(self.users.instance, authorization, Role.ADMIN)
