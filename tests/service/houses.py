"""An instance of a test's own with one administrator, over a real store, changed from behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.errors import GatewayError
from gateway.core.model import Catalogue, Role, User
from gateway.core.passwords import hash_password
from gateway.core.sessions import SessionKey
from gateway.service.admin import Admin, Hashing
from gateway.store.catalogues import Catalogues
from gateway.store.keys import address_logins, logins_under_way
from gateway.store.logins import Logins
from gateway.store.opening import Store
from gateway.store.signing import session_key
from tests.passwords import cheap_passwords
from tests.stores.homes import Home
from tests.vectors.patience import PATIENT_S

PASSWORD = "correct horse"
with cheap_passwords():
    HASH = hash_password(PASSWORD.encode(), bytes(16))
NOW_S = 1_800_000_000.5
HERE = "192.0.2.1"
PER_USER_MAX, PER_ADDRESS_MAX = 3, 5
_numbers = itertools.count(1)


class Watched(Hashing):
    """Looks at passwords as ever, and remembers against what."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def verify(self, kept: str, password: bytes) -> bool:
        self.seen.append(kept)
        return await super().verify(kept, password)


class House:
    """An instance of a test's own with one administrator, changed from behind."""

    def __init__(self, store: Store, key: SessionKey) -> None:
        number = next(_numbers)
        self.store, self.instance = store, f"HOUSE-{number}"
        self.address = f"198.51.{number // 250}.{number % 250}"
        self.now_s, self.hashing = NOW_S, Watched()
        logins = Logins(
            store.client, store.scripts, store.partitions, PER_USER_MAX, PER_ADDRESS_MAX
        )
        catalogues = Catalogues(store.topology, store.scripts, store.partitions)
        self.admin = Admin(catalogues, logins, key, lambda: self.now_s, hashing=self.hashing)

    async def put(self, *users: User, **changes: Any) -> Catalogue:
        """Write the next catalogue as another process would."""
        behind = self.store.catalogues
        found = await behind.read(self.instance)
        current = Catalogue(id=self.instance) if found is None else found.catalogue
        return await behind.put(replace(current, users=users, **changes))

    async def login(self, **other: str) -> str:
        asked = {
            "named": self.instance,
            "user": "ann",
            "password": PASSWORD,
            "address": self.address,
        }
        return (await self.admin.authorize(**(asked | other))).token

    async def enter(self, token: str, *roles: Role, named: str | None = None) -> Any:
        roles = roles or (Role.READ,)
        return await self.admin.admin(named or self.instance, f"Bearer {token}", *roles)

    async def count(self, user: str = "ann") -> int:
        keys = self.admin.catalogues.keys(self.instance)
        return int(await self.store.client.get(keys.logins(user)) or 0)

    async def count_of_address(self) -> int:
        key = address_logins(self.address, self.store.partitions)
        return int(await self.store.client.get(key) or 0)

    async def under_way(self) -> tuple[int, int]:
        """Count the attempts under way: ann's, and those from this test's address."""
        keys = self.admin.catalogues.keys(self.instance)
        address = address_logins(self.address, self.store.partitions)
        client = self.store.client
        of_ann = await client.zcard(logins_under_way(keys.logins("ann")))
        return int(of_ann), int(await client.zcard(logins_under_way(address)))

    async def forget(self) -> None:
        """Let the windows of this test end now."""
        keys = self.admin.catalogues.keys(self.instance)
        address = address_logins(self.address, self.store.partitions)
        for key in (keys.logins("ann"), address):
            await self.store.client.delete(key, logins_under_way(key))


def ann(*roles: str, since_s: int = 0, password_hash: str = HASH) -> User:
    return User("ann", password_hash, roles or (Role.READ.value,), since_s)


At = Callable[[Callable[[House], Awaitable[None]]], None]


@contextmanager
def houses(home: Home) -> Iterator[At]:
    """Open a store, and give what runs a story at a house whose one administrator is ann."""
    with asyncio.Runner() as runner:
        opened = home.open(partitions=8, deadline_s=PATIENT_S)
        store = runner.run(opened.__aenter__())
        key = runner.run(session_key(store))

        def run(story: Callable[[House], Awaitable[None]]) -> None:
            async def told() -> None:
                house = House(store, key)
                await house.put(ann())
                await story(house)

            runner.run(told())

        try:
            yield run
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def refused(call: Awaitable[Any]) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        await call
    return raised.value
