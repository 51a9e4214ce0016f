"""Who is at the pages: sessions of administrators in a cookie, begun, known again, ended.

Decided here: a session at the pages is worth what an administrator's token is, no more: the roles
that the catalogue in force still gives its user; and that one which was ended is refused by every
replica. Not decided here: what the cookie says (core/page_sessions.py), how passwords are looked at
and roles held (admin.py). Source: SEMANTICS 10, RELIABILITY 3.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.core.errors import Forbidden, Unauthorized
from gateway.core.model import Role
from gateway.core.page_sessions import (
    PageSession,
    begin_page_session,
    issue_page_session,
    read_told,
    renewed,
    verify_page_session,
    write_told,
)
from gateway.service.admin import Admin, Who
from gateway.store.ended_sessions import EndedSessions

TOLD_CHARS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class PageSessions:
    """Begins, knows and ends sessions at the pages of instances."""

    admin: Admin
    ended: EndedSessions

    async def begin(self, named: str, user: str, password: str, address: str) -> PageSession:
        """Begin a session of a user of the instance named. Raises what Admin.login raises."""
        session = await self.admin.login(named, user, password, address)
        return begin_page_session(session, uuid.uuid4().hex, self.admin.now_s())

    async def know(self, named: str, cookie: str) -> Who:
        """Know whoever sent a cookie, whatever may be asked for. Its session is a PageSession.

        Raises Unauthorized, Unavailable.
        """
        who = await self.admin.admin(named, f"Bearer {cookie}", verify=verify_page_session)
        if await self.ended.is_over(who.instance, session_of(who).id):
            raise Unauthorized
        return who

    def permit(self, who: Who, *roles: Role) -> Who:
        """Let somebody to a page that asks for one of `roles`, or with none for anybody.

        Raises Forbidden naming the first of `roles`.
        """
        if roles and who.roles.isdisjoint(roles):
            raise Forbidden(f"Role {roles[0]} is required", roles[0])
        return msgspec.structs.replace(who, asked=roles)

    def cookie(self, session: PageSession) -> str:
        """Write the cookie of a session."""
        return issue_page_session(self.admin.key, session)

    def renewed(self, who: Who) -> PageSession | None:
        """Give the session as used now, when it is time for a new cookie."""
        return renewed(session_of(who), self.admin.now_s())

    def check_xsrf(self, who: Who, given: str) -> None:
        """Raise Forbidden unless a form came from a page that this session was given."""
        if not hmac.compare_digest(given.encode(), who.session.xsrf.encode()):
            raise Forbidden("This form is not of your session; open the page again", "xsrf")

    async def end(self, who: Who) -> None:
        """End a session, for all replicas. Raises Unavailable."""
        await self.ended.end(who.instance, session_of(who).id)

    def write_told(self, who: Who, text: str) -> str:
        """Write what the next page says once, of a long text its beginning."""
        text = text[:TOLD_CHARS_MAX]
        try:
            return write_told(self.admin.key, session_of(who), text)
        except ValueError:  # signs that take many bytes; what is told was done, and is not undone
            return write_told(self.admin.key, session_of(who), text[: TOLD_CHARS_MAX // 4])

    def read_told(self, who: Who, text: str) -> str:
        """Read what `write_told` wrote for this session; empty for any other text."""
        return read_told(self.admin.key, session_of(who), text)


def session_of(who: Who) -> PageSession:
    """Give the session of whoever `know` knew."""
    session = who.session
    assert isinstance(session, PageSession)  # noqa: S101 - verify_page_session gave it
    return session
