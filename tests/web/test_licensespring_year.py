"""A year of resets at the doors: LicenseSpring clients of both versions and CMAPI clients consume.

By a clock that is set, in a leap year and over both its ends. Each line is used up in the last
millisecond of each of its periods, and is whole again in the first of the next one; between them
something is consumed at some moment of each day. Which period a moment is in is worked out here by
the calendar alone, and compared with the totals in answers, with what is used, with reports by day
and by month, and with the rows that wait for the cloud.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import (
    Attachment,
    Catalogue,
    FloatingLicense,
    Line,
    Model,
    Reset,
    Role,
    User,
)
from gateway.service.balance import audit, conservation
from tests.licensespring.client import Client
from tests.vectors.credentials import keys_of, token
from tests.vectors.served import Served, serving
from tests.web.desks import HASH, LOGIN

pytestmark = pytest.mark.slow
INSTANCE, UPSTREAM = "YEAR", "cloud"
API = f"/api/1.0/instances/{INSTANCE}"
DAYS = [date(2027, 12, 30) + timedelta(days=at) for at in range(369)]  # to 2029-01-01
CAPACITY = 40
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
# A licence that is reset daily, and features of it by the other rules.
RESETS = {"daily": "", "weekly": "pages", "monthly": "scans", "annually": "exports"}
LINES = tuple(
    Line(
        id=rule,
        feature=f"prod {rule}",
        version="1.0",
        model=Model.METERED,
        count=CAPACITY,
        capacity=CAPACITY,
        reset=Reset(rule),
        allow_negative_consumptions=True,
        number=number,
        licensespring=FloatingLicense(77, "PROD", code),
    )
    for number, (rule, code) in enumerate(RESETS.items(), 1)
)
ENOUGH = ("license_not_enough_consumptions", "feature_not_enough_consumptions")


def begin_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000


def first_day(rule: str, day: date) -> date:
    """Give the first day of the period that a day is in."""
    begins = {"weekly": day - timedelta(days=day.weekday()), "monthly": day.replace(day=1)}
    begins |= {"daily": day, "annually": day.replace(month=1, day=1)}
    return begins[rule]


@dataclass
class Year:
    """What was granted and denied, by moment, and who asks."""

    served: Served
    dice: random.Random
    at_ms: int = 0
    granted: list[tuple[str, int, int]] = field(default_factory=list)  # line, at_ms, units
    denied: Counter[tuple[str, date]] = field(default_factory=Counter)
    used: Counter[tuple[str, date]] = field(default_factory=Counter)
    doors: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.bearer = {"Authorization": f"Bearer {token()}"}
        self.clients = [
            Client(self.served.http, "PROD", f"u{version}", license_id=77, version=version)
            for version in (1, 2)
        ]

    @property
    def day(self) -> date:
        return datetime.fromtimestamp(self.at_ms // 1_000, UTC).date()

    async def go_to(self, at_ms: int) -> None:
        self.at_ms = at_ms
        await self.served.set_clock(at_ms)

    def left(self, rule: str) -> int:
        return CAPACITY - self.used[rule, first_day(rule, self.day)]

    async def consume(self, rule: str, units: int) -> None:
        """Consume at any of the doors, or give back; that is granted if there is so much."""
        period = (rule, first_day(rule, self.day))
        fits = units <= self.left(rule)
        if fits:
            self.used[period] += units
            self.granted.append((rule, self.at_ms, units))
        else:
            self.denied[rule, self.day] += 1
        # What is given back without a window, only LicenseSpring clients can give.
        door = self.dice.choice(("v1", "v2", "cmapi") if units > 0 else ("v1", "v2"))
        self.doors[door] += 1
        if door == "cmapi":
            assert await self._cmapi(rule, units) == (units if fits else 0)
        else:
            await self._floating(self.clients[door == "v2"], rule, units, self.used[period], fits)

    async def _cmapi(self, rule: str, units: int) -> int:
        asked = {
            "hostId": {"type": "user", "value": "ann"},
            "incremental": True,
            "features": [{"name": f"prod {rule}", "count": units}],
        }
        path = f"{API}/access_request"
        answer = await self.served.http.post(path, headers=self.bearer, json=asked)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        return 0 if said["statusList"] else int(said["features"][0]["count"])

    async def _floating(self, client: Client, rule: str, units: int, used: int, fits: bool) -> None:
        code = RESETS[rule]
        answer = await (client.add_feature(code, units) if code else client.add(units))
        if fits:
            assert (answer.code, answer.total) == ("", used)
        else:
            assert answer.code in ENOUGH

    async def check_used(self) -> None:
        """Compare what is used in the periods of now."""
        labels = {rule: f"{rule[0]}{first_day(rule, self.day):%Y%m%d}" for rule in RESETS}
        names = [f"{rule}|{label}" for rule, label in labels.items()]
        found = await self.served.store.hmget(self.served.catalogues.keys(INSTANCE).used, names)
        assert [int(units or 0) for units in found] == [
            CAPACITY - self.left(rule) for rule in RESETS
        ]


async def live(year: Year) -> None:
    for midnight in DAYS:
        at_ms = begin_ms(midnight)
        new = [rule for rule in RESETS if first_day(rule, midnight) == midnight]
        await year.go_to(at_ms - 1)
        for rule in new:
            if left := year.left(rule):
                await year.consume(rule, left)
            await year.consume(rule, 1)
        await year.check_used()
        await year.go_to(at_ms)
        for rule in new:
            await year.consume(rule, year.dice.randint(1, CAPACITY // 2))
        await year.go_to(at_ms + year.dice.randint(1, DAY_MS - 2))
        await year.consume(year.dice.choice(list(RESETS)), year.dice.choice((-2, 1, 2, 3)))
        await year.check_used()


async def compare(year: Year) -> None:
    served = year.served
    by_day: Counter[tuple[str, str]] = Counter()
    by_month: Counter[tuple[str, str]] = Counter()
    by_hour: Counter[str] = Counter()
    for line, at_ms, units in year.granted:
        day = datetime.fromtimestamp(at_ms // 1_000, UTC).date()
        by_day[str(day), line] += units
        by_month[f"{day:%Y-%m}", line] += units
        by_hour[f"{line}|{at_ms // HOUR_MS}"] += units
    answer = await served.http.post(f"{API}/authorize", json=LOGIN)
    header = {"Authorization": f"Bearer {answer.json()['token']}"}

    async def told(by: str, count: str = "units") -> dict[tuple[str, str], int]:
        query = f"from={DAYS[0] - timedelta(days=1)}&to={DAYS[-1]}&by={by}"
        answer = await served.http.get(f"{API}/usage?{query}", headers=header)
        assert answer.status_code == 200, answer.text
        rows = answer.json()["rows"]
        return {(row["label"], row["line"]): row[count] for row in rows if row[count]}

    denied = {(str(day), line): times for (line, day), times in year.denied.items()}
    assert await told("day,line") == _not_0(by_day)
    assert await told("day,line", "denied") == denied
    assert await told("month,line") == _not_0(by_month)
    keys = served.catalogues.keys(INSTANCE)
    rows = await served.store.hgetall(keys.open(UPSTREAM))
    assert {name.decode(): int(units) for name, units in rows.items()} == _not_0(by_hour)
    assert conservation([await audit(served.catalogues, INSTANCE, deep=True)]) == "OK"


def _not_0(sums: Counter[Any]) -> dict[Any, int]:
    return {name: units for name, units in sums.items() if units}


def test_a_year_of_resets_at_the_doors_has_every_unit_in_its_period(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        year = Year(served, random.Random(2028))  # noqa: S311 (to be repeatable)
        await year.go_to(begin_ms(DAYS[0]) - HOUR_MS)
        await served.catalogues.put(
            Catalogue(
                id=INSTANCE,
                lines=LINES,
                keys=keys_of("own"),
                users=(User("ann", HASH, (Role.READ.value,)),),
                upstreams=(Attachment(UPSTREAM),),
            )
        )
        await live(year)
        assert date(2028, 2, 29) in {day for _, day in year.denied}
        # Whatever was used up was used to the last unit, in each period that ended.
        for (rule, first), units in year.used.items():
            if first_day(rule, DAYS[-1]) != first:
                assert units == CAPACITY
        assert min(year.doors.values()) > 100
        await compare(year)

    with serving(tmp_path, LICENSESPRING__INSTANCE=INSTANCE) as served:
        served.run(story(served))
