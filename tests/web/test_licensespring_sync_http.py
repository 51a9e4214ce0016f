"""GET and POST /api/v5/sync, POST /api/v5/sync/trigger: who may, what is said, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import load_config
from gateway.core.model import Attachment, Catalogue, Role, User
from gateway.store.opening import open_store
from gateway.store.syncs import Syncs
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import make_gateway
from tests.web.desks import HASH, PASSWORD

SYNC, TRIGGER = "/api/v5/sync", "/api/v5/sync/trigger"
NAMES = {"ann": (Role.ADMIN.value,), "bob": (Role.READ.value,)}
CONFIG = """
[licensespring]
instance = "DEMO"
v2 = false
[forward]
interval = "90m"
[[upstream]]
name = "cloud"
kind = "licensespring"
url = "http://127.0.0.1:9"
api_key_file = "api"
shared_key_file = "shared"
hardware_id = "gateway-1"
"""


@dataclass
class Door:
    """A gateway with an administrator and a user."""

    http: httpx.AsyncClient
    syncs: Syncs
    tokens: dict[str, str]

    async def ask(self, path: str, who: str = "ann", body: Any = None) -> httpx.Response:
        method = "GET" if path == SYNC and body is None else "POST"
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return await self.http.request(method, path, headers=headers, json=body)


def at_door(directory: Path, story: Callable[[Door], Awaitable[None]], *upstreams: str) -> None:
    async def run() -> None:
        file = directory / "gateway.toml"
        file.write_text(CONFIG)
        config = load_config(file, {}, {"data_dir": directory})
        async with open_store("embedded", directory, partitions=256) as store:
            users = tuple(User(name, HASH, roles) for name, roles in NAMES.items())
            attached = tuple(Attachment(name) for name in upstreams)
            await store.catalogues.put(Catalogue(id="DEMO", users=users, upstreams=attached))
            app = await make_gateway(config, Lifecycle(), store)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
                tokens = {}
                for name in NAMES:
                    login = {"username": name, "password": PASSWORD}
                    answer = await http.post("/api/v5/auth/login", json=login)
                    tokens[name] = answer.json()["token"]
                syncs = Syncs(store.topology, store.scripts, store.partitions)
                await story(Door(http, syncs, tokens))

    asyncio.run(run())


def test_settings_are_read_changed_and_a_sync_is_asked_for(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        assert (await door.ask(SYNC)).json() == {"enabled": True, "hours": 1, "minutes": 30}
        saved = await door.ask(SYNC, body={"enabled": False, "hours": "2"})
        assert (saved.status_code, saved.json()) == (200, "sync settings saved")
        assert (await door.ask(SYNC)).json() == {"enabled": False, "hours": 2, "minutes": 0}
        assert (await door.ask(SYNC, body={"enabled": True})).status_code == 200
        assert (await door.ask(SYNC)).json() == {"enabled": True, "hours": 2, "minutes": 0}
        started = await door.ask(TRIGGER)
        assert (started.status_code, started.json()) == (200, "sync started")
        assert (await door.syncs.schedule("DEMO", "cloud")).asked == 1

    at_door(tmp_path, story, "other", "cloud")


def test_what_is_wrong_changes_nothing(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        before = await door.syncs.schedule("DEMO", "cloud")
        for who, status in (("", 401), ("bob", 403)):
            for path, body in ((SYNC, None), (SYNC, {"enabled": False}), (TRIGGER, None)):
                answer = await door.ask(path, who, body)
                assert answer.status_code == status
                assert answer.json()["status"] == status
        wrong: list[tuple[Any, str]] = [
            ({}, "missing_parameters"),
            ({"enabled": "perhaps"}, "validation_error"),
            ({"enabled": True, "hours": 0, "minutes": 0}, "validation_error"),
            ({"enabled": True, "hours": -1}, "validation_error"),
            ({"enabled": True, "minutes": 60}, "validation_error"),
            ({"enabled": True, "hours": 8_761}, "validation_error"),
            ({"enabled": None, "hours": 1}, "missing_parameters"),
            ({"enabled": 0}, "validation_error"),
            ({"enabled": True, "hours": True}, "validation_error"),
            ({"enabled": True, "hours": 1.5}, "validation_error"),
            ({"enabled": True, "hours": 10**30}, "validation_error"),
            ({"enabled": True, "minutes": "0x10"}, "validation_error"),
            ([True, 1, 0], "validation_error"),
        ]
        for body, code in wrong:
            answer = await door.ask(SYNC, body=body)
            assert (answer.status_code, answer.json()["code"]) == (400, code)
        after = await door.syncs.schedule("DEMO", "cloud")
        assert (after.enabled, after.hours, after.asked) == (
            *(before.enabled, before.hours, before.asked),
        )

    at_door(tmp_path, story, "cloud")


@pytest.mark.slow
def test_without_a_cloud_there_is_nothing_to_sync(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        assert (await door.ask(SYNC)).json() == {"enabled": False, "hours": 0, "minutes": 0}
        for path, body in ((SYNC, {"enabled": True}), (TRIGGER, None)):
            answer = await door.ask(path, body=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
        assert await door.syncs.asking(["DEMO"], "cloud") == []

    at_door(tmp_path, story, "other")
