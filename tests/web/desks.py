"""A door at which somebody administrates: logging in, uploading and removing licensing keys."""

from __future__ import annotations

from typing import Any

import httpx

from gateway.core.model import Catalogue, Role, User
from gateway.core.passwords import hash_password
from tests.passwords import cheap_passwords
from tests.vectors.credentials import public_der
from tests.vectors.served import Served
from tests.web.doors import RELEASE, Door, at

PASSWORD = "correct horse"
with cheap_passwords():
    HASH = hash_password(PASSWORD.encode(), bytes(16))
LOGIN = {"user": "ann", "password": PASSWORD}
AUTHORIZE, KEYS = "authorize", "rest_licensing_keys"
OWN, OTHER = public_der("own", "RS256"), public_der("other", "RS256")
OCTETS = {"Content-Type": "application/octet-stream"}


class Desk:
    """A door at which ann administrates; it has no client keys yet."""

    def __init__(self, door: Door) -> None:
        self.door, self.http = door, door.served.http

    async def open(self, *roles: Role, **changes: Any) -> None:
        held = tuple(role.value for role in roles or (Role.ADMIN,))
        await self.door.put(**{"keys": (), "users": (User("ann", HASH, held),)} | changes)

    async def login(self, body: Any = LOGIN, instance: str | None = None) -> httpx.Response:
        return await self.http.post(self.door.path(AUTHORIZE, instance), json=body)

    async def header(self) -> dict[str, str]:
        answer = await self.login()
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def upload(
        self, key: bytes, query: str = "", *, instance: str | None = None, **headers: str
    ) -> httpx.Response:
        path = self.door.path(KEYS, instance) + query
        return await self.http.post(path, headers=OCTETS | headers, content=key)

    async def remove(self, *, instance: str | None = None, **headers: str) -> httpx.Response:
        return await self.http.delete(self.door.path(KEYS, instance), headers=headers)

    async def trusts(self, credential: str, **claims: Any) -> bool:
        answer = await self.door.knock(RELEASE, credential=credential, claims=claims)
        assert answer.status_code in (200, 401)
        return answer.status_code == 200

    async def catalogue(self) -> Catalogue:
        found = await self.door.served.catalogues.read(self.door.instance)
        assert found is not None
        return found.catalogue


def desk_at(served: Served, story: Any, *roles: Role, **changes: Any) -> None:
    async def told(door: Door) -> None:
        desk = Desk(door)
        await desk.open(*roles, **changes)
        try:
            await story(desk)
        finally:
            # Failures of this test are no other's: all of them come from one address.
            for key in await served.keys():
                if ":l:" in key:
                    await served.store.delete(key)

    at(served, told)


def without_ids(answer: httpx.Response) -> Any:
    headers = {name: value for name, value in answer.headers.items()
               if name not in ("date", "gateway-request-id")}  # fmt: skip
    return answer.status_code, tuple(sorted(headers.items())), answer.content
