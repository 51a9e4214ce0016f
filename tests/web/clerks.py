"""Somebody who is logged in at an instance of a test's own, and administrates there.

Decided here: that a session begins without a password: what a log-in is, test_admin_http.py tells.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from gateway.core.base64url import b64url_decode
from gateway.core.model import Catalogue, Role, User
from gateway.core.sessions import Session, SessionKey, issue_session
from gateway.store.keys import META
from tests.vectors.served import Served
from tests.web.doors import Door, at


class Clerk:
    """Ann, logged in at a door whose administrator she is."""

    def __init__(self, door: Door, header: dict[str, str]) -> None:
        self.door, self.served, self.http = door, door.served, door.served.http
        self.header = header

    async def send(
        self, method: str, path: str, *, url: str | None = None, **more: Any
    ) -> httpx.Response:
        """Send a request under the instance's base, or to the whole path `url`."""
        base = self.door.path("").rstrip("/")
        url = url or (f"{base}/{path}" if path else base)
        return await self.http.request(method, url, **{"headers": self.header} | more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.send("GET", path, **more)

    async def ask(self, host: str, *features: tuple[str, int], borrow: str = "1h") -> Any:
        """Let a host ask for features; give the answer."""
        answer = await self.door.knock(
            {
                "hostId": {"type": "string", "value": host},
                "borrow-interval": borrow,
                "features": [{"name": name, "count": count} for name, count in features],
            }
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def catalogue(self) -> Catalogue:
        found = await self.served.catalogues.read(self.door.instance)
        assert found is not None
        return found.catalogue


def at_clerk(
    served: Served, story: Callable[[Clerk], Awaitable[None]], *roles: Role, **changes: Any
) -> None:
    """Run a story at a door of which ann, with these roles, is the one administrator."""

    async def told(door: Door) -> None:
        held = tuple(role.value for role in roles)
        await door.put(**{"users": (User("ann", "", held),)} | changes)
        await story(Clerk(door, await session(door, *roles)))

    at(served, told)


async def session(door: Door, *roles: Role) -> dict[str, str]:
    """Give the header of a session of ann's at a door."""
    secret = b64url_decode(await door.served.store.hget(META, "session_key"))
    assert secret is not None
    now_s = int(time.time())
    said = Session(
        user="ann",
        instance=door.instance,
        roles=frozenset(role.value for role in roles),
        issued_s=now_s,
        expires_s=now_s + 600,
        xsrf="00000000-0000-4000-8000-000000000000",
    )
    return {"Authorization": f"Bearer {issue_session(SessionKey(secret), said)}"}
