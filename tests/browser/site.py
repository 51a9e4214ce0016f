"""A real gateway for browsers: `serve` over a store that has been lived in.

Decided here: what there is to see. Every name that comes from outside tries to be markup; there are
lines of all models, full ones, expired ones and unlimited ones; hosts of both protocols hold some;
requests were denied; batches are parked, dead and refused, and something waits. Nothing is
forwarded meanwhile, so that all of it stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec.structs import replace

from gateway.core.model import (
    UNITS_MAX,
    Attachment,
    Catalogue,
    FloatingLicense,
    Key,
    Line,
    Model,
    Product,
    Reset,
    Role,
    User,
)
from gateway.core.passwords import hash_password
from gateway.core.periods import zone
from gateway.core.ports import Mark, Standing
from gateway.store.asides import Asides
from gateway.store.opening import Store, open_store
from gateway.store.outbox import RedisOutbox
from tests.browser.windows import LIGHT, PASSWORD, Look, Window, browsing, window
from tests.licensespring.client import Client
from tests.store.outbox_house import INSTANCE, UPSTREAM, House
from tests.system.processes import AWAIT_S, Gateway, Processes
from tests.vectors.credentials import keys_of, public_der, token
from tests.web.doors import eventually
from tests.web.ui.looks import noon_zone

SCRIPT: Final = "<script>alert(1)</script>"
IMAGE: Final = '"><img src=x onerror=alert(1)>'
KID: Final = "'><svg/onload=alert(1)>"  # visible ASCII, which a space is not
LONG: Final = "a-feature-of-a-very-long-name." * 4
DENIED_ID: Final = "denied-1"
DAY_MS: Final = 86_400_000
EARLIER: Final = 943  # sessions of the last quarter
USERS: Final = {
    "ann": (Role.READ, Role.ADMIN, Role.DROPCLIENT, Role.RESERVATIONS, Role.PRODUCER),
    "bob": (Role.READ,),
    "eve.long-name_of@somebody.example.com": (Role.READ,),
}
CONFIG: Final = f"""
[explain]
retention = "24h"
[licensespring]
instance = "{INSTANCE}"
[[upstream]]
name = "{UPSTREAM}"
kind = "cloudevents"
url = "http://127.0.0.1:9/events"
dedupe_horizon = "7d"
[[upstream]]
name = "files"
kind = "spool"
dir = "spool"
"""


@dataclass
class Site:
    """The gateway, at which all users of USERS have the password PASSWORD."""

    gateway: Gateway
    instance: str = INSTANCE

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def base(self) -> str:
        """The path of the instance's pages, without a slash at its end."""
        return f"/ui/instances/{self.instance}"

    def tell(
        self,
        story: Callable[[Window], Awaitable[None]],
        look: Look = LIGHT,
        *,
        user: str = "ann",
        scripts: bool = True,
    ) -> None:
        """Run a story in a window where a user is logged in; nothing may go wrong in it."""

        async def told() -> None:
            async with browsing() as browser:
                await self.at(browser, story, look, user=user, scripts=scripts)

        asyncio.run(told())

    async def at(
        self,
        browser: Any,
        story: Callable[[Window], Awaitable[None]],
        look: Look = LIGHT,
        *,
        user: str = "ann",
        scripts: bool = True,
    ) -> None:
        """Do what `tell` does, in a browser that is open."""
        async with window(browser, self.url, look, scripts=scripts) as opened:
            await opened.log_in(self.instance, user)
            await story(opened)
            assert opened.wrong == []


@contextmanager
def site_standing(directory: Path) -> Iterator[Site]:
    """Provision a store, let a gateway serve it, and let clients use it."""
    data_dir, config = directory / "data", directory / "gateway.toml"
    data_dir.mkdir(mode=0o700)
    config.write_text(CONFIG)
    asyncio.run(_prepare(data_dir))
    processes = Processes(directory)
    try:
        gateway = processes.serve(
            *("--config", str(config), "--no-forward"),
            data_dir=data_dir,
            GATEWAY_REDIS__DEADLINE_MS="20000",
            GATEWAY_SERVER__BODY_TIMEOUT_S="60",
        )
        asyncio.run(_use(gateway.url))
        yield Site(gateway)
    finally:
        processes.close()


def catalogue() -> Catalogue:
    """Give what is provisioned."""
    now_ms = time.time_ns() // 1_000_000
    hashed = hash_password(PASSWORD.encode(), bytes(16))
    held = {name: tuple(role.value for role in roles) for name, roles in USERS.items()}
    floating = {"license_id": 77, "product": "SUITE"}

    def line(line_id: str, feature: str, model: Model, count: int | None, **more: Any) -> Line:
        capacity = UNITS_MAX if count is None else count
        said = {"version": "1.0", "capacity": capacity} | more
        return Line(id=line_id, feature=feature, model=model, count=count, **said)

    return Catalogue(
        id=INSTANCE,
        name=f"Works {SCRIPT}",
        default=True,
        timezone=noon_zone(),  # what was denied today is not yesterday's while a test runs
        lines=(
            line("L1", "sessions", Model.METERED, 10**6, product=Product(name=IMAGE)),
            line("L2", "users", Model.METERED, 10**6, undo_ms=3_600_000, notice=SCRIPT),
            line(
                "L3",
                "editor",
                Model.CONCURRENT,
                4,
                overdraft="1",
                capacity=5,
                product=Product(name=SCRIPT, version="9", entitlement_id=IMAGE),
                vendor_string=IMAGE,
                issuer=SCRIPT,
                serial_number=IMAGE,
                notice=IMAGE,
            ),
            line("L4", "pages", Model.METERED, 1_000, reset=Reset.MONTHLY),
            line("L5", "tokens", Model.METERED_REUSABLE, 50, selectors={"site": SCRIPT}),
            line("L6", LONG, Model.METERED, None),
            line("L7", "old", Model.METERED, 10, expires_ms=now_ms - DAY_MS),
            line("L8", "soon", Model.METERED, 10, expires_ms=now_ms + 3 * DAY_MS),
            line(
                "L9", "suite-units", Model.METERED, 100, licensespring=FloatingLicense(**floating)
            ),
            line(
                "L10",
                "suite-seats",
                Model.CONCURRENT,
                3,
                borrow_ms=7_200_000,
                licensespring=FloatingLicense(**floating),
            ),
        ),
        keys=(*keys_of("own"), Key(KID, "ES256", public_der("other", "ES256"))),
        upstreams=(Attachment(UPSTREAM), Attachment("files", by_host=True)),
        users=tuple(User(name, hashed, roles) for name, roles in held.items()),
    )


async def _prepare(data_dir: Path) -> None:
    """Leave what a forwarder left: dead, parked and refused batches, and something open."""
    async with open_store("embedded", data_dir, partitions=256, deadline_s=AWAIT_S) as store:
        whole = catalogue()
        alone = await store.catalogues.put(replace(whole, upstreams=()))
        await _use_last_quarter(store, alone)
        await store.catalogues.put(replace(alone, upstreams=whole.upstreams))
        index = await store.catalogues.read(INSTANCE)
        assert index is not None
        parts = (store.topology, store.scripts, store.partitions)
        house = House(store, RedisOutbox(*parts), Asides(*parts), index)
        await house.use("sessions", 11)
        await house.put_aside("dead-1", Standing.DEAD, f"400 {SCRIPT}")
        await house.use("sessions", 42)
        await house.put_aside("parked-1", Standing.PARKED, f"timed out {IMAGE}", attempts=2)
        await house.use("users", 7, host=IMAGE)
        now_ms = time.time_ns() // 1_000_000
        mark = Mark("L2", "", f"LIMIT {IMAGE}", since_ms=now_ms, retry_ms=now_ms + DAY_MS)
        await house.block("blocked-1", [mark])
        await house.use("sessions", 3, host=SCRIPT)


async def _use_last_quarter(store: Store, catalogue: Catalogue) -> None:
    """Leave what a gateway left that counted some sessions then, when no upstream was attached."""
    keys, now = store.catalogues.keys(catalogue.id), datetime.now(zone(catalogue.timezone))
    months = now.year * 12 + (now.month - 1) // 3 * 3 - 2  # the second month of that quarter
    day = date(months // 12, months % 12 + 1, 15)
    units, since_ms = EARLIER, int((now - timedelta(days=400)).timestamp() * 1000)
    books = {"acked|L1": units, "days|L1": units, "since_ms": since_ms}
    await store.client.hset(keys.ledger, mapping=books)
    await store.client.hset(keys.used, "L1|0", units)
    await store.client.hset(keys.days(int(f"{day:%Y%m}")), f"L1|{day:%Y%m%d}|u", units)


async def _use(url: str) -> None:
    """Ask as clients of both protocols do."""
    async with httpx.AsyncClient(base_url=url, timeout=AWAIT_S) as http:
        ask = _Asking(http)
        for host, count in (("h1", 3), (SCRIPT, 1), (IMAGE, 1)):
            assert (await ask(host, ("editor", count)))["statusList"] == []
        denied = await ask("late", ("editor", 1), key=DENIED_ID)
        assert denied["statusList"]
        assert (await ask("h3", ("pages", 970), ("tokens", 5)))["statusList"] == []
        assert (await ask(LONG, (LONG, 10**6)))["statusList"] == []
        await ask("h2", ("old", 1))
        await ask("h2", ("nothing", 1))
        for user in ("alice", IMAGE):
            client = Client(http, "SUITE", user, version=1)
            assert (await client.register()).status == 200
            assert (await client.add(2)).status == 200
        await _settle(http)


async def _settle(http: httpx.AsyncClient) -> None:
    """Wait until what is added up beside the pages was, once: it is shown from then on."""
    form = {"instance": INSTANCE, "user": "ann", "password": PASSWORD}
    answer = await http.post("/ui/login", data=form)
    assert answer.status_code == 303, answer.text

    async def added_up() -> bool:
        pages = [await http.get(f"/ui/instances/{INSTANCE}/{each}") for each in ("", "licences")]
        assert [page.status_code for page in pages] == [200, 200]
        return not any("It is being added up" in page.text for page in pages)

    await eventually(added_up, within_s=60.0)


@dataclass
class _Asking:
    http: httpx.AsyncClient

    async def __call__(self, host: str, *features: tuple[str, int], key: str = "") -> Any:
        body = {
            "hostId": {"type": "string", "value": host},
            "borrow-interval": "1d",
            "vendorDictionary": {"said": SCRIPT, IMAGE: IMAGE},
            "selectorsDictionary": {"site": SCRIPT},
            "features": [{"name": name, "count": count} for name, count in features],
        }
        headers = {"Authorization": f"Bearer {token()}"}
        if key:
            headers["Idempotency-Key"] = key
        path = f"/api/1.0/instances/{INSTANCE}/access_request"
        answer = await self.http.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()
