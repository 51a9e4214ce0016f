"""CMAPI's administration: the log-in, and the upload and removal of licensing keys.

Decided here: the order in which HTTP itself is checked, as for access requests, and which address a
log-in comes from: the connection's, or the one that trusted proxies name (proxies.py). Source:
protocols/cmapi.md 3.2 and 3.3, SEMANTICS 10.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.protocols import problem
from gateway.protocols.cmapi_admin import decode_login, encode_licensing_key, encode_session
from gateway.service.admin import Admin
from gateway.service.licensing_keys import LicensingKeys
from gateway.web import bodies
from gateway.web.bodies import Headers, Limits, read_body
from gateway.web.cmapi import BASE
from gateway.web.endpoints import JSON, Answered, Endpoint, as_answered, by_method

_NO_STORE = (b"cache-control", b"no-store")  # a token is for nobody in between


def routes(admin: Admin, limits: Limits) -> list[BaseRoute]:
    """Give the routes of administrators and licensing keys."""
    answers = _Answers(admin, LicensingKeys(admin), limits)
    keys = by_method({"POST": answers.upload, "DELETE": answers.remove})
    return [
        Route(f"{BASE}/authorize", Endpoint("authorize", answers.authorize), methods=["POST"]),
        Route(
            f"{BASE}/rest_licensing_keys",
            Endpoint("rest_licensing_keys", keys),
            methods=["POST", "DELETE"],
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    admin: Admin
    keys: LicensingKeys
    limits: Limits

    async def authorize(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers = Headers(scope)
        body = await read_body(receive, headers.content_length, self.limits)
        headers.require(bodies.JSON)
        login = decode_login(body)
        address = scope["client"][0] if scope.get("client") else ""
        issued = await self.admin.authorize(
            scope["path_params"]["instance"], login.user, login.password, address
        )
        return 200, [JSON, _NO_STORE], encode_session(issued.token, issued.expires_s)

    async def upload(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers = Headers(scope)
        der = await read_body(receive, headers.content_length, self.limits)
        headers.require(bodies.OCTETS)
        trusted = await self.keys.upload(
            scope["path_params"]["instance"], headers.authorization, der, scope["query_string"]
        )
        return 200, [JSON], encode_licensing_key(trusted)

    async def remove(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        instance, authorization = scope["path_params"]["instance"], Headers(scope).authorization
        await self.keys.remove(instance, authorization)
        return as_answered(problem.render_key_removed())
