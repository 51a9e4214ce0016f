"""kill -9 of the store while days are folded: each line of a month is whole, in days or in months.

Law: RELIABILITY 1; SEMANTICS 11: the sums do not change through a restart in the middle.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.core.errors import Unavailable
from gateway.store.embedded import Embedded
from gateway.store.folding import Folds
from gateway.store.keys import InstanceKeys
from gateway.store.scripts import Scripts
from tests.system.processes import eventually

KEYS = InstanceKeys("KILLED", 4)
MONTHS = [202401, 202402, 202403]
LINES, DAYS = 60, 20
CALL_LINES = 3
CALLS_MAX = 10  # before a kill is on its way
ON_ITS_WAY_S_MAX = 0.002
LATE_CALLS_MAX = 5  # while it is

Units = dict[tuple[str, int], int]  # by line and month
EXPECTED: Units = {
    (f"L{line}", month): sum(line * day for day in range(1, DAYS + 1))
    for month in MONTHS
    for line in range(LINES)
}


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_each_line_whole(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)  # noqa: S311 - a seed, so that a run can be had again
    with closing(Embedded(tmp_path)) as store:
        asyncio.run(_write(store.ensure()))
        folded, amid = 0, 0
        for _ in range(kills):
            path = store.ensure()
            asyncio.run(_fold_until_it_ends(path, chance))
            eventually(lambda: not store.owned)
            path = store.ensure()
            before, folded = folded, asyncio.run(_look(path))
            assert before <= folded  # what was folded is not taken back
            amid += before < folded < len(EXPECTED)
            if folded == len(EXPECTED):
                folded = 0
                asyncio.run(_write(path))
        assert amid > kills // 4
        asyncio.run(_fold(path))
        assert asyncio.run(_look(path)) == len(EXPECTED)


def _client(path: str) -> Redis:
    return Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0))


async def _write(path: str) -> None:
    async with _client(path) as client:
        await client.delete(*map(KEYS.month, MONTHS))
        for month in MONTHS:
            fields = {
                f"L{line}|{month}{day:02d}|u": line * day
                for line in range(LINES)
                for day in range(1, DAYS + 1)
            }
            await client.hset(KEYS.days(month), mapping=dict(fields))


async def _look(path: str) -> int:
    """Hold all that is recorded against what was written; give how much of it is folded."""
    async with _client(path) as client:
        days: dict[tuple[str, int], int] = defaultdict(int)
        for month in MONTHS:
            for name, units in (await _read(client, KEYS.days(month))).items():
                days[name.split("|")[0], month] += units
        folded = {
            (name.split("|")[0], month): units
            for month in MONTHS
            for name, units in (await _read(client, KEYS.month(month))).items()
        }
    assert days.keys() & folded.keys() == set()
    assert dict(days) | folded == EXPECTED
    return len(folded)


async def _read(client: Redis, key: str) -> dict[str, int]:
    found: Any = await client.hgetall(key)
    return {name.decode(): int(value) for name, value in found.items()}


async def _fold(
    path: str, lines_max: int = 500, after: Callable[[int], Awaitable[None]] | None = None
) -> None:
    """Fold all there is; `after` is told the number of each call."""
    numbers = count(1)
    async with _client(path) as client:
        folds = Folds(client, Scripts(), KEYS)
        for month in MONTHS:
            left = True
            while left:
                left = (await folds.fold(month, lines_max)).left
                if after is not None:
                    await after(next(numbers))


async def _fold_until_it_ends(path: str, chance: random.Random) -> None:
    async with _client(path) as client:
        pid = int((await client.info("server"))["process_id"])
    way_s, last = chance.uniform(0, ON_ITS_WAY_S_MAX), chance.randint(1, CALLS_MAX)
    kill = threading.Timer(way_s, os.kill, (pid, signal.SIGKILL))

    async def after(number: int) -> None:
        if number == last:
            kill.start()
        elif number == last + LATE_CALLS_MAX:  # amid the folding also where the thread is late
            await asyncio.to_thread(kill.join)

    with suppress(Unavailable):
        await _fold(path, CALL_LINES, after)
    if kill.ident is None:  # there was less to fold than that
        kill.start()
    kill.join()
