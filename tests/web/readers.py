"""An administrator who reads what an instance has, beside the clients that use it.

Decided here: how a read is asked for and a refusal is looked at. The store's clock is set by the
tests (tests/vectors/served.py); credentials live by the real one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from msgspec.structs import replace

from gateway.core.model import Role
from tests.vectors.credentials import keys_of
from tests.vectors.loader import ms
from tests.vectors.served import Served
from tests.web.desks import Desk, desk_at

START = ms("2026-03-02T10:00:00.000Z")
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


class Reader:
    """An administrator who may read, and the clients of the instance."""

    def __init__(self, desk: Desk, credential: dict[str, str]) -> None:
        self.desk, self.door, self.credential = desk, desk.door, credential

    async def get(self, path: str = "features", *, instance: str | None = None) -> httpx.Response:
        where = self.door.path(path, instance)
        return await self.desk.http.get(where, headers=self.credential)

    async def read(self, path: str = "features") -> Any:
        answer = await self.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    async def line(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            each for each in await self.read() if each["featureId"] == name
        )
        return found

    async def ask(self, name: str, count: int, host: str = "h1", **members: Any) -> None:
        body = {
            "hostId": {"type": "string", "value": host},
            "features": [{"name": name, "count": count}],
            "incremental": True,
        }
        answer = await self.door.knock(body | members)
        assert answer.status_code == 200, answer.text
        assert answer.json()["statusList"] == []

    async def change(self, name: str, **changes: Any) -> None:
        """Change a line as another process would."""
        catalogue = await self.desk.catalogue()
        lines = [replace(line, **changes) if line.id == name else line for line in catalogue.lines]
        await self.door.put(lines=tuple(lines))

    async def at(self, moment_ms: int) -> None:
        await self.door.served.set_clock(moment_ms)


Story = Callable[[Reader], Awaitable[None]]


def reading(served: Served, story: Story, *roles: Role, **changes: Any) -> None:
    async def told(desk: Desk) -> None:
        await story(Reader(desk, await desk.header()))

    served.run(served.set_clock(START))
    changes = {"keys": keys_of("own")} | changes
    desk_at(served, told, *(roles or (Role.READ,)), **changes)


def refused(answer: httpx.Response, status: int, key: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["key"] == f"gateway.{key}"
