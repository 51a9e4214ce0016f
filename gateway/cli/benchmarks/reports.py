"""How long a report takes over a year of a thousand lines, asked for over HTTP.

Decided here: a year of days in which every line was used each day, written as the store's layout
says; the last whole year, by feature, by month and line, and by day and line, the last one being
365,000 rows. The clock runs from the request to the last byte of its answer.
"""

from __future__ import annotations

import calendar
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from gateway.cli.benchmarks.cases import Bench
from gateway.cli.benchmarks.plant import GATEWAY, Place, attached
from gateway.cli.benchmarks.scene import CaseFailed, metered
from gateway.core.model import Catalogue, Role, User
from gateway.core.passwords import SALT_BYTES, hash_password
from gateway.store.opening import Store

LINES: Final = 1_000
ROUNDS: Final = 3
INSTANCE: Final = "BENCH-YEAR"
USER: Final = "reader"
GROUPINGS: Final = ("feature", "month,line", "day,line")
TIMEOUT_S: Final = 120
LINES_A_CALL: Final = 250
UNITS: Final = 17  # of each line on each day


async def probe(
    bench: Bench, add: Callable[[str, float], None], tell: Callable[[str], None]
) -> None:
    """Write the year, and ask for it in each grouping."""
    place = await bench.plant.place(GATEWAY)
    tell("writing a year")
    password = secrets.token_urlsafe(16)
    await _provide(place, password)
    base = f"{place.url}/api/1.0/instances/{INSTANCE}"
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        login = {"user": USER, "password": password}
        session = (await client.post(f"{base}/authorize", json=login)).raise_for_status()
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        for number in range(ROUNDS):
            for by in GROUPINGS:
                tell(f"round {number + 1} of {ROUNDS}, by {by}")
                add(by, await _asked(client, f"{base}/usage", by))


async def _asked(client: httpx.AsyncClient, url: str, by: str) -> float:
    """Ask for the last year, and give how long its answer took. Raises CaseFailed."""
    began_s = time.perf_counter()
    answer = await client.get(url, params={"period": "last-year", "by": by})
    took_s = time.perf_counter() - began_s
    days = 366 if calendar.isleap(_last_year()) else 365
    if answer.status_code != 200 or answer.json()["total"]["units"] != days * LINES * UNITS:
        raise CaseFailed(f"A report is not what was written: {answer.text[-200:]}")
    return took_s


async def _provide(place: Place, password: str) -> None:
    assert place.data_dir is not None  # noqa: S101 - a gateway has a store
    hashed = hash_password(password.encode(), secrets.token_bytes(SALT_BYTES))
    catalogue = Catalogue(
        id=INSTANCE,
        lines=tuple(metered(f"LINE-{at:04d}", f"feature-{at:04d}") for at in range(LINES)),
        users=(User(USER, hashed, (Role.READ.value,)),),
    )
    async with attached(place.data_dir) as store:
        await store.catalogues.put(catalogue)
        await _write_year(store, catalogue)


async def _write_year(store: Store, catalogue: Catalogue) -> None:
    keys, year = store.catalogues.keys(catalogue.id), _last_year()
    began_ms = int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)
    await store.client.hset(keys.ledger, "since_ms", str(began_ms))
    for month in range(1, 13):
        days = range(1, calendar.monthrange(year, month)[1] + 1)
        for start in range(0, LINES, LINES_A_CALL):
            fields: dict[Any, Any] = {
                f"{line.id}|{year}{month:02d}{day:02d}|u": UNITS
                for line in catalogue.lines[start : start + LINES_A_CALL]
                for day in days
            }
            await store.client.hset(keys.days(year * 100 + month), mapping=fields)


def _last_year() -> int:
    return datetime.now(UTC).year - 1
