"""Who a LicenseSpring client is: an administrator of the instance, logged in either way.

Decided here: when a call needs a log-in, that a token is worth what its user may do now, and that a
log-in is the one of the instance's administrators, attempt limits included. Not decided here: what
a token says (core/floating_sessions.py), how passwords are judged (admin.py).
Source: protocols/licensespring.md 1, 2 and 10, INTERFACE 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gateway.core.errors import Unauthorized
from gateway.core.floating_sessions import issue_floating, role_of, verify_floating
from gateway.core.model import Role
from gateway.core.numbers import client_number
from gateway.core.sessions import Session
from gateway.protocols.licensespring_wire import Me
from gateway.service.admin import Admin, Who


class LoggedIn(msgspec.Struct, frozen=True):
    """A log-in. `token` is a secret of whoever logged in."""

    token: str
    expires_s: int
    lasts_s: int

    def __repr__(self) -> str:
        return f"LoggedIn(expires_s={self.expires_s})"


@dataclass(frozen=True, slots=True)
class FloatingUsers:
    """Logs clients in and knows them again. `demanded`: calls need a log-in."""

    admins: Admin
    instance: str
    demanded: bool = False

    async def login(self, user: str, password: str, address: str) -> LoggedIn:
        """Log a user in. Raises what Admin.login raises."""
        return self._logged_in(await self.admins.login(self.instance, user, password, address))

    async def refresh(self, authorization: str | None) -> LoggedIn:
        """Give a token that lasts longer. Raises Unauthorized; Unavailable."""
        # Before the catalogue is read, as a log-in: a password replaced meanwhile is newer.
        asked_s = self.admins.now_s()
        who = await self.admin(self.instance, authorization)
        user = who.index.users.get(who.user)
        if user is None:
            raise Unauthorized
        return self._logged_in(self.admins.session(who.instance, user, asked_s))

    async def me(self, authorization: str | None) -> Me:
        """Tell who is logged in. Raises Unauthorized; Unavailable."""
        who = await self.admin(self.instance, authorization)
        return Me(client_number(f"{who.instance}:{who.user}"), who.user, role_of(who.roles))

    async def admit(self, authorization: str | None) -> None:
        """Let a call in. Raises Unauthorized, where a log-in is demanded; Unavailable."""
        if self.demanded:
            await self.admin(self.instance, authorization)

    async def admin(self, named: str, authorization: str | None, *roles: Role) -> Who:
        """Know the user of a token of this protocol, as Admin.admin knows an administrator."""
        return await self.admins.admin(named, authorization, *roles, verify=verify_floating)

    def _logged_in(self, session: Session) -> LoggedIn:
        token = issue_floating(self.admins.key, session)
        return LoggedIn(token, session.expires_s, self.admins.session_s)
