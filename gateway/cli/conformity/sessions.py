"""An administrator's session at the server under test.

Decided here: that a run logs in once, and that the roles which a token names decide what is tried
with it; a token that cannot be read is tried for everything. Not decided here: what the log-in must
answer (administration.py). Source: protocols/cmapi.md 7.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.cli.conformity.checks import NotTried
from gateway.cli.conformity.wire import Reply
from gateway.core.base64url import b64url_decode
from gateway.core.model import Role


class Login(NamedTuple):
    """Whom to log in."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


class Session:
    """What a log-in came to; without a login, or a token, nothing can be tried with it."""

    def __init__(self, login: Login | None, reply: Reply | None = None) -> None:
        self.login, self._reply = login, reply
        self.token = _token(reply)

    @property
    def reply(self) -> Reply:
        """Give the answer to the log-in. Raises NotTried when there was none to make."""
        if self.login is None or self._reply is None:
            raise NotTried("needs --user")
        return self._reply

    def logged_in(self) -> Login:
        """Say who is logged in. Raises NotTried when nobody is."""
        if self.login is None or not self.token:
            raise NotTried(f"the log-in gave no token: HTTP {self.reply.status}")
        return self.login

    def token_for(self, role: Role) -> str:
        """Give the token. Raises NotTried without one, and when it lacks the role."""
        self.logged_in()
        roles = token_roles(claims(self.token))
        if roles is not None and role not in roles:
            raise NotTried(f"the user lacks {role}")
        return self.token

    def secrets(self) -> tuple[str, ...]:
        """Give what must never be shown."""
        return (self.token, self.login.password if self.login else "")


def claims(token: str) -> dict[str, Any] | None:
    """Read a token's claims without judging it, or None when they cannot be read."""
    parts = token.split(".")
    payload = b64url_decode(parts[1]) if len(parts) == 3 else None
    try:
        read = msgspec.json.decode(payload or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def token_roles(of: dict[str, Any] | None) -> frozenset[str] | None:
    """Give the roles that claims name, or None when they name none in a way that is known."""
    roles = (of or {}).get("roles")
    if isinstance(roles, str):
        roles = roles.split(",")
    return frozenset(map(str, roles)) if isinstance(roles, list) else None


def _token(reply: Reply | None) -> str:
    if reply is None or reply.status != 200:
        return ""
    try:
        body = msgspec.json.decode(reply.content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    token = body.get("token") if isinstance(body, dict) else None
    return token if isinstance(token, str) else ""
