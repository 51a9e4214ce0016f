"""An instance with upstreams, its outbox, and people at its pages.

Decided here: who there is (ann may decide, bob may look), what is configured, and how a form of a
page is filled in and sent, as a browser without scripts does it. The store and what is put aside in
it are tests/store/outbox_house.py's.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import httpx
from msgspec.structs import replace
from starlette.types import ASGIApp

from gateway.config import load_config
from gateway.core.model import Attachment, Catalogue, Role, User
from gateway.store.asides import Asides
from gateway.store.opening import open_store
from gateway.store.outbox import RedisOutbox
from gateway.store.syncs import Syncs
from gateway.web.lifecycle import Lifecycle
from gateway.wiring import make_gateway
from tests.passwords import cheap_passwords
from tests.store.outbox_house import CATALOGUE, INSTANCE, UPSTREAM, House
from tests.vectors.patience import PATIENT_S, patience
from tests.web.desks import HASH, PASSWORD

BASE = f"/ui/instances/{INSTANCE}"
CLOUD, NOWHERE = "cloud", "nowhere"
USERS = (
    User("ann", HASH, (Role.READ.value, Role.ADMIN.value)),
    User("bob", HASH, (Role.READ.value,)),
    User("cat", HASH, (Role.ADMIN.value,)),
)
CONFIG = f"""
[forward]
interval = "90m"
[[upstream]]
name = "{UPSTREAM}"
kind = "{{kind}}"
{{settings}}
[[upstream]]
name = "{CLOUD}"
kind = "licensespring"
url = "http://127.0.0.1:9"
api_key_file = "api"
shared_key_file = "shared"
hardware_id = "gateway-1"
"""
KINDS = {
    "cloudevents": 'url = "http://127.0.0.1:9/events"\ndedupe_horizon = "7d"',
    "spool": 'dir = "spool"',
}


@dataclass
class Form:
    """A form of a page, with what stands in it."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)  # values of its radio buttons


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(said["action"]))
        elif tag == "input" and self.found:
            form = self.found[-1]
            if said.get("type") == "radio":
                form.choices.append(said["value"])
            if said.get("type") not in ("radio", "checkbox") or "checked" in said:
                form.fields[said["name"]] = said.get("value", "")


@dataclass
class Person:
    """Somebody who is logged in."""

    http: httpx.AsyncClient

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.http.get(f"{BASE}/{path}", params=query)

    async def page(self, path: str, **query: str) -> str:
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return words(answer)

    async def form(self, path: str, action: str, **query: str) -> Form:
        return form_of(await self.get(path, **query), action)

    async def send(self, form: Form, **said: str) -> httpx.Response:
        """Send a form filled in; what a browser is then led to is not followed."""
        return await self.http.post(form.action, data=form.fields | said)

    async def follow(self, answer: httpx.Response) -> str:
        assert answer.status_code == 303, answer.text
        return words(await self.http.get(answer.headers["location"]))


@dataclass
class Lanes:
    """The instance, and who is at its pages."""

    app: ASGIApp
    house: House
    syncs: Syncs
    ann: Person
    bob: Person
    cat: Person

    async def put(self, catalogue: Catalogue) -> None:
        await self.house.store.catalogues.put(catalogue)
        index = await self.house.store.catalogues.read(catalogue.id)
        assert index is not None
        if catalogue.id == INSTANCE:
            self.house.index = index

    async def catalogue(self) -> Catalogue:
        index = await self.house.store.catalogues.read(INSTANCE)
        assert index is not None
        return index.catalogue


def words(answer: httpx.Response) -> str:
    """Give a page as one line, with the spaces of numbers left out."""
    return " ".join(answer.text.replace("\u202f", "").split())


def form_of(answer: httpx.Response, action: str) -> Form:
    """Find the form of a page that is sent to an address."""
    reader = _Forms()
    reader.feed(answer.text)
    found = [form for form in reader.found if form.action == f"{BASE}/{action}"]
    assert found, answer.text
    return found[0]


def seen(text: str) -> str:
    """Write a text as a page has it."""
    return html.escape(text, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def at_lanes(
    data_dir: Path,
    story: Callable[[Lanes], Awaitable[None]],
    *,
    kind: str = "cloudevents",
    attached: tuple[str, ...] = (UPSTREAM,),
) -> None:
    """Run a story at an instance to which these upstreams are attached."""

    async def run() -> None:
        async with _open(data_dir, kind, attached) as lanes:
            await story(lanes)

    with patience(), cheap_passwords():
        asyncio.run(run())


@asynccontextmanager
async def _open(data_dir: Path, kind: str, attached: tuple[str, ...]) -> AsyncIterator[Lanes]:
    file = data_dir / "gateway.toml"
    file.write_text(CONFIG.format(kind=kind, settings=KINDS[kind]))
    config = load_config(file, {}, {"data_dir": data_dir})
    async with open_store("embedded", data_dir, partitions=256, deadline_s=PATIENT_S) as store:
        upstreams = tuple(Attachment(name) for name in attached)
        await store.catalogues.put(replace(CATALOGUE, users=USERS, upstreams=upstreams))
        index = await store.catalogues.read(INSTANCE)
        assert index is not None
        parts = (store.topology, store.scripts, store.partitions)
        house = House(store, RedisOutbox(*parts), Asides(*parts), index)
        app = await make_gateway(config, Lifecycle(), store)
        transport = httpx.ASGITransport(app)
        people = [await _enter(transport, user.name) for user in USERS]
        yield Lanes(app, house, Syncs(*parts), *people)


async def _enter(transport: httpx.ASGITransport, name: str) -> Person:
    http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
    said = {"instance": INSTANCE, "user": name, "password": PASSWORD}
    answer = await http.post("/ui/login", data=said)
    assert answer.status_code == 303, answer.text
    return Person(http)
