"""Logging in as a LicenseSpring client, in the manner of either version.

Decided here: which paths there are; log-ins work whether or not calls demand one. Source:
protocols/licensespring.md 1, 1.5, 2 and 2.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.protocols.licensespring_answers import LOGGED_IN, moment
from gateway.protocols.licensespring_problem import BASIC_LOGIN, V2
from gateway.protocols.licensespring_requests import Basic, read_basic, read_login
from gateway.protocols.licensespring_wire import BasicLogin, LoginV2, Refreshed
from gateway.service.floating_users import LoggedIn
from gateway.web.endpoints import Answered, Endpoint
from gateway.web.licensespring_doors import NO_STORE, Doors, answered


def routes(doors: Doors) -> list[BaseRoute]:
    """Give the routes of log-ins."""
    logins = _Logins(doors)
    return [
        Route(BASIC_LOGIN, Endpoint("licensespring_auth", logins.basic), methods=["GET"]),
        Route(f"{V2}/auth/login", Endpoint("licensespring_login", logins.login), methods=["POST"]),
        Route(
            f"{V2}/auth/refresh",
            Endpoint("licensespring_refresh", logins.refresh),
            methods=["POST"],
        ),
        Route(f"{V2}/auth/me", Endpoint("licensespring_me", logins.me), methods=["GET"]),
    ]


@dataclass(frozen=True, slots=True)
class _Logins:
    doors: Doors

    async def basic(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers, _ = await self.doors.read(scope, receive)
        found = await self._login(scope, read_basic(headers.authorization))
        return _secret(BasicLogin(LOGGED_IN, found.token))

    async def login(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        _, body = await self.doors.read(scope, receive)
        found = await self._login(scope, read_login(body))
        ends_at = moment(math.floor(found.expires_s) * 1000)
        return _secret(LoginV2(found.token, ends_at, found.lasts_s))

    async def refresh(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers, _ = await self.doors.read(scope, receive)
        found = await self.doors.users.refresh(headers.authorization)
        return _secret(Refreshed(found.token))

    async def me(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        headers, _ = await self.doors.read(scope, receive)
        return answered(await self.doors.users.me(headers.authorization))

    async def _login(self, scope: Scope, given: Basic) -> LoggedIn:
        address = scope["client"][0] if scope.get("client") else ""
        return await self.doors.users.login(given.user, given.password, address)


def _secret(body: object) -> Answered:
    status, headers, content = answered(body)
    headers.append(NO_STORE)
    return status, headers, content
