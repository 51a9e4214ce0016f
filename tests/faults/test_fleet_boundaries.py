"""Midnights, new months, new years and clocks put forward and back, with requests in flight.

The scripts' clock is what the test sets (fleet_clock.py). It comes to each boundary as time does,
passes it while requests are held up between gateways and store, and goes back behind it again.
Which day and which period an answer belongs to is reckoned here anew, from its transaction time.
GATEWAY_FAULT_YEARS raises how many years are passed; GATEWAY_FAULT_SEED repeats a run.
Source: RELIABILITY 4, row 13; SEMANTICS 7 and 11; DESIGN 6.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
import redis

from tests.faults.fleet import ASKED_S_MAX, Fleet, Instance, drawn_seed, knob, open_fleet
from tests.faults.fleet_clock import CLOCK, PROGRAM
from tests.faults.fleet_load import Load
from tests.stores.byte_proxy import How
from tests.stores.servers import Server

YEARS = knob("YEARS", 1)
FIRST_YEAR = 2037
PARIS = ZoneInfo("Europe/Paris")
AROUND_MS = 250  # of a boundary: from when on and until when there are requests
TICK_S = 0.005
HELD_S = 0.15  # long enough for requests to gather behind the proxy
CLIENTS = 8
PLENTY = 10**9
SCARCE = 40  # units: soon used up on either side of a boundary

# By line: how it is reset, and where midnight is told by.
RULES: dict[str, tuple[str, ZoneInfo | timezone]] = {
    "daily": ("daily", PARIS),
    "weekly": ("weekly", UTC),
    "monthly": ("monthly", UTC),
    "yearly": ("annually", PARIS),
    "scarce": ("daily", UTC),
}

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    instance = Instance(
        "TIMES",
        {name: SCARCE if name == "scarce" else PLENTY for name in RULES},
        timezone=str(PARIS),
        more={
            name: f'reset = "{reset}"\nreset_timezone = "{zone}"'
            for name, (reset, zone) in RULES.items()
        },
    )
    with Server(directory / "store") as server:
        server.ask("SET", CLOCK, _ms(datetime(FIRST_YEAR - 1, 12, 1, tzinfo=UTC)))
        with open_fleet(directory, instance, store=server, program=PROGRAM) as opened:
            yield opened


def test_every_grant_is_in_exactly_one_day_and_one_period(fleet: Fleet) -> None:
    """Row 13: it is that of its transaction time, whenever it was asked for."""
    seed = drawn_seed()
    moments = [moment for each in range(YEARS) for moment in _boundaries(FIRST_YEAR + each)]

    async def run() -> None:
        async with fleet.load("TIMES", seed) as load:
            for moment in moments:
                await _cross(fleet, load, _ms(moment))
                _compare_periods(fleet, load)
            assert load.failed == []
            _compare_days(fleet, load)
            by_period = _by_period(load)
            scarce = [units for (name, _), units in by_period.items() if name == "scarce"]
            print(f"{len(by_period)} periods; at most {max(scarce)} of {SCARCE} in one")
            assert max(scarce) <= SCARCE
            assert any(ask.told and not ask.told.granted for ask in load.answered)
            await fleet.judge("boundaries", load, faults=3 * len(moments))

    asyncio.run(run())


def _boundaries(year: int) -> list[datetime]:
    """Give moments of a year at which a day, a period or the time in Paris changes, in order."""
    found = [
        datetime(year, 1, 1, tzinfo=PARIS),
        datetime(year, 1, 1, tzinfo=UTC),
        datetime(year, 2, 1, tzinfo=UTC),
    ]
    # Clocks are put forward, and the day of 23 hours ends; put back, and that of 25 does.
    for day in (_last_sunday(year, 3), _last_sunday(year, 10)):
        found += [datetime(year, day.month, day.day, 1, tzinfo=UTC), _midnight_after(day)]
    return found


async def _cross(fleet: Fleet, load: Load, at_ms: int) -> None:
    """Let clients ask before a moment, over it and behind it, and once more after going back."""
    with fleet.store.client(ASKED_S_MAX) as client:
        client.set(CLOCK, at_ms - AROUND_MS)
        async with load.working(CLIENTS):
            await load.enough(CLIENTS)
            await _pass(client, at_ms - AROUND_MS, at_ms - 1)
            fleet.proxy.requests.become(How.HOLD)
            await asyncio.sleep(HELD_S)
            client.set(CLOCK, at_ms)
            fleet.proxy.heal()
            await _pass(client, at_ms, at_ms + AROUND_MS)
            client.set(CLOCK, at_ms - AROUND_MS)
            await load.enough(CLIENTS)
    await load.settle()


async def _pass(client: redis.Redis, from_ms: int, to_ms: int) -> None:
    """Let time pass as it does, in small steps."""
    began_s = time.monotonic()
    now_ms = from_ms
    while now_ms < to_ms:
        now_ms = min(to_ms, from_ms + int((time.monotonic() - began_s) * 1000))
        client.set(CLOCK, now_ms)
        await asyncio.sleep(TICK_S)


def _compare_periods(fleet: Fleet, load: Load) -> None:
    """Hold the store's counters, of the current periods and what is left of others, against ours.

    A counter of a past period may be gone: then there is nothing that could be wrong with it.
    """
    counted = {
        tuple(name.split("|")): int(units)
        for name, units in _read(fleet, fleet.keys("TIMES").used).items()
    }
    ours = _by_period(load)
    assert counted == {pair: ours[pair] for pair in counted}
    latest_ms = max(ask.told.at_ms for ask in load.answered if ask.told)
    current = {(name, _period(name, latest_ms)) for name in RULES}
    assert current & ours.keys() <= counted.keys()


def _compare_days(fleet: Fleet, load: Load) -> None:
    """Hold the days of every line against ours; days are the instance's, so those of Paris."""
    ours: Counter[str] = Counter()
    for name, at_ms, units in _grants(load):
        ours[f"{name}|{_day(at_ms, PARIS):%Y%m%d}|u"] += units
    months = {int(field.split("|")[1][:6]) for field in ours}
    days = [_read(fleet, fleet.keys("TIMES").days(month)) for month in months]
    counted = {
        field: int(units) for each in days for field, units in each.items() if field.endswith("|u")
    }
    assert counted == ours


def _read(fleet: Fleet, key: str) -> dict[str, str]:
    told: dict[str, str] = fleet.store.ask("HGETALL", key, answer_s_max=ASKED_S_MAX)
    return told


def _by_period(load: Load) -> Counter[tuple[str, ...]]:
    units_by: Counter[tuple[str, ...]] = Counter()
    for name, at_ms, units in _grants(load):
        units_by[name, _period(name, at_ms)] += units
    return units_by


def _grants(load: Load) -> Iterator[tuple[str, int, int]]:
    for ask in load.answered:
        if ask.told is not None:
            for name, units in ask.told.granted.items():
                yield name, ask.told.at_ms, units


def _period(name: str, at_ms: int) -> str:
    """Name the period of a line that a moment is in, as the store does: by its first day."""
    reset, zone = RULES[name]
    day = _day(at_ms, zone)
    first = {
        "daily": day,
        "weekly": day - timedelta(days=day.weekday()),
        "monthly": day.replace(day=1),
        "annually": day.replace(month=1, day=1),
    }[reset]
    return f"{reset[0]}{first:%Y%m%d}"


def _day(at_ms: int, zone: ZoneInfo | timezone) -> date:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(zone).date()
    )


def _last_sunday(year: int, month: int) -> date:
    last = date(year, month + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() + 1) % 7)


def _midnight_after(day: date) -> datetime:
    following = day + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=PARIS)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
