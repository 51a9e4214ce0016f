"""A gateway with LicenseSpring doors in real time, and clients of it: our own, which knows nothing
of the gateway.

Decided here: which licences there are (FLOATING.toml of the vectors), who administrates, and that a
test begins with nobody registered and nothing consumed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.core.base64url import b64url_decode
from gateway.core.floating_sessions import issue_floating
from gateway.core.model import Catalogue, Role, User
from gateway.core.sessions import Session, SessionKey, issue_session
from gateway.store.keys import META
from tests.licensespring.client import Client
from tests.vectors.loader import applied
from tests.vectors.served import Served, serving
from tests.web.desks import HASH, PASSWORD

INSTANCE = "FLOATING"
USERS = (
    User("ann", HASH, (Role.ADMIN.value, Role.READ.value)),
    User("bob", HASH, (Role.READ.value,)),
)

__all__ = ["INSTANCE", "PASSWORD", "Floats", "floats_serving"]


@dataclass
class Floats:
    """The doors of one instance."""

    served: Served
    data_dir: Path
    chain: str
    secret: bytes  # of sessions, in base64url

    def client(self, user: str = "alice", *, version: int = 2, **more: Any) -> Client:
        """Give a client that chose its version, and verifies signatures."""
        said = {"license_id": 77, "chain": self.chain, "version": version} | more
        return Client(self.served.http, "PROD", user, **said)

    def token(self, user: str, *, floating: bool = True) -> str:
        """Give a token of a user's as a log-in would; of this protocol, or of administrators."""
        roles = next(each.roles for each in USERS if each.name == user)
        now_s = int(time.time())
        said = Session(user, INSTANCE, frozenset(roles), now_s, now_s + 600, str(uuid.uuid4()))
        secret = b64url_decode(self.secret)
        assert secret is not None
        issue = issue_floating if floating else issue_session
        return issue(SessionKey(secret), said)

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        """Run a story that finds everything as new."""

        async def told() -> None:
            await self.settle()
            await story()

        self.served.run(told())

    async def settle(self, **changes: Any) -> Catalogue:
        """Provision the instance anew and forget what was counted."""
        keys = self.served.catalogues.keys(INSTANCE)
        for pattern in (f"{keys.prefix}*", f"gw:{keys.tag}:d:*", "gw:*:l:*"):
            for key in await self.served.store.keys(pattern):
                if key != keys.cat.encode():
                    await self.served.store.delete(key)
        found = await self.served.catalogues.read(INSTANCE)
        new = applied(INSTANCE, INSTANCE, found.catalogue if found else None)
        return await self.served.catalogues.put(replace(new, **({"users": USERS} | changes)))

    async def used(self) -> dict[str, int]:
        """Give what is used of each line, of whatever period."""
        keys = self.served.catalogues.keys(INSTANCE)
        found = await self.served.store.hgetall(keys.used)
        return {
            name.decode().partition("|")[0]: int(units)
            for name, units in found.items()
            if int(units)
        }

    @asynccontextmanager
    async def nothing_moves(self) -> AsyncIterator[None]:
        """See that what happens inside counts nothing."""
        before = await self.used()
        yield
        assert await self.used() == before


@contextmanager
def floats_serving(data_dir: Path, **settings: str) -> Iterator[Floats]:
    """Open a gateway whose doors are those of INSTANCE; over the store that is there, if any."""
    settings = {"LICENSESPRING__INSTANCE": INSTANCE} | settings
    with serving(data_dir, prelude=None, **settings) as served:
        chain = data_dir / "licensespring-chain.pem"
        secret = served.run(served.store.hget(META, "session_key"))
        yield Floats(served, data_dir, chain.read_text() if chain.exists() else "", secret)
