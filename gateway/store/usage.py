"""Reading what is recorded per line and day, a month at a time, for reports.

Decided here: how the record is paged, so that the store is held for some 2 ms at a time and memory
for one month at most; and that what is being folded into months meanwhile is read once, where it
is then. Not decided here: what the fields come to (core/reports.py) and who folds them.
The rules of the fold that this rests on: it moves all that a line has of one month in one step, and
counts that step in the ledger; and the earlier month goes first. Source: DESIGN 4, SEMANTICS 11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.errors import Unavailable
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.rows import steps

PAGE_FIELDS: Final = 4_000  # asked for at a time; holds the store for about 2 ms
TRIES_MAX: Final = 10
TRY_PAUSE_S: Final = 0.05  # all tries together outlast a visit of whoever folds
MONTHS_MAX: Final = 1_200  # looked at to find what is held: a century

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Clock:
    """The instance's time: never before its last transaction; and since when it records (0: not
    yet).
    """

    now_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Month:
    """What is recorded of one month. Fields of what is folded have the month in the day's place."""

    folded: bool
    whole: Fields
    days: Fields

    def portions(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Give all fields, PAGE_FIELDS at a time."""
        fields = chain(self.whole.items(), self.days.items())
        while portion := list(islice(fields, PAGE_FIELDS)):
            yield portion


@dataclass
class Record:
    """What an instance has recorded, read in order of the months.

    `folded` is the last month (yyyymm) that is kept as one, 0 when there is none. All methods raise
    Unavailable when the store does not answer; a retry is safe.
    """

    client: Redis
    keys: InstanceKeys
    folded: int = 0
    _months: dict[int, Fields] = field(default_factory=dict)  # of those folded, asked for
    _seats: dict[str, dict[int, int]] = field(default_factory=dict)  # of all: by line and month
    _folds: int = 0  # how many there had been when `months` was read
    _from: int = 0

    async def clock(self) -> Clock:
        """Tell what time it is for the instance."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hmget(self.keys.ledger, ["last_ms", "since_ms"])
        (seconds, micros), (last_ms, since_ms) = await answered(pipeline.execute())
        now_ms = max(seconds * 1000 + micros // 1000, int(last_ms or 0))
        return Clock(now_ms, int(since_ms or 0))

    async def used(self) -> dict[str, int]:
        """Read what is used now, by `<line>|<period label>`."""
        found = await self._whole(self.keys.used)
        return {name.decode(): int(units) for name, units in found.items()}

    async def begin(self, first: int) -> None:
        """Read which months are folded, and what they were folded to from `first` on."""
        self._from = first
        await self._read_folded()

    async def month(self, month: int) -> Month:
        """Read all that is recorded of a month (yyyymm)."""
        for _ in range(TRIES_MAX):
            days = await self._whole(self.keys.days(month))
            unmoved = await self._folds_done() == self._folds
            if not unmoved:
                await self._read_folded()  # what these days lack may be there by now
            # Months are folded in order: what is after the last of them has lost nothing.
            if unmoved or month > self.folded:
                return Month(month <= self.folded, self._months.get(month, {}), days)
            await asyncio.sleep(TRY_PAUSE_S)
            await self._read_folded()
        raise _too_fast()

    async def held_before(self, first: int, since: int, lines: Collection[str]) -> dict[str, int]:
        """Tell how many seats of each of these lines were held when the month before `first` ended.

        Goes back month by month, at most to `since`, until the last word on every line is found.
        """
        if not lines:
            return {}
        used: Any = await answered(self.client.hmget(self.keys.used, [f"{x}|0" for x in lines]))
        # Who never held any is not searched for: a line without `used` has no record of seats.
        asked = {line for line, seats in zip(lines, used, strict=True) if seats is not None}
        for _ in range(TRIES_MAX):
            held = await self._last_words(first, since, asked)
            if await self._folds_done() == self._folds:
                return held
            await asyncio.sleep(TRY_PAUSE_S)
            await self._read_folded()
        raise _too_fast()

    async def _last_words(self, first: int, since: int, asked: set[str]) -> dict[str, int]:
        folded = {line: self._last_folded(line, first) for line in asked}
        found = {line: seats for line, (_, seats) in folded.items()}
        missing = set(asked)
        for month in await self._recorded(_months_back(first, since)) if missing else []:
            missing -= {line for line in missing if folded[line][0] > month}
            if not missing:
                break
            days: dict[str, str] = {}
            async for fields in steps(
                self.client, self.keys.days(month), match="*|h", count=PAGE_FIELDS
            ):
                for name, seats in fields.items():
                    line, day, _ = name.decode().split("|", 2)
                    if line in missing and days.get(line, "") <= day:
                        days[line], found[line] = day, int(seats)
            missing -= days.keys()
        return found

    def _last_folded(self, line: str, first: int) -> tuple[int, int]:
        """Give the last folded month before `first` with seats of a line, and how many it had."""
        seats = self._seats.get(line, {})
        month = max((month for month in seats if month < first), default=0)
        return month, seats.get(month, 0)

    async def _recorded(self, months: Iterable[int]) -> list[int]:
        listed = list(months)
        pipeline = self.client.pipeline(transaction=False)
        for month in listed:
            pipeline.exists(self.keys.days(month))
        there = await answered(pipeline.execute())
        return [month for month, exists in zip(listed, there, strict=True) if exists]

    async def _folds_done(self) -> int:
        # Not the size of `months`: what is folded of a late lapse changes fields that are there.
        folds: Any = await answered(self.client.hget(self.keys.ledger, "folds"))
        return int(folds or 0)

    async def _read_folded(self) -> None:
        """Read what months were folded to: all of those asked for, else only seats."""
        # The number first: what is folded while this reads makes the reader look again.
        self._folds = await self._folds_done()
        self._months, self._seats = {}, {}
        if not self._folds:
            return
        async for fields in steps(self.client, self.keys.months, count=PAGE_FIELDS):
            for name, value in fields.items():
                line, text, kind = name.split(b"|", 2)
                month = int(text)
                self.folded = max(self.folded, month)
                if month >= self._from:
                    self._months.setdefault(month, {})[name] = value
                if kind == b"h":
                    self._seats.setdefault(line.decode(), {})[month] = int(value)

    async def _whole(self, key: str) -> Fields:
        found: Fields = {}
        async for fields in steps(self.client, key, count=PAGE_FIELDS):
            found |= fields  # a field may come twice
        return found


def _too_fast() -> Unavailable:
    return Unavailable("Months are folded faster than they can be read", "not_applied")


def _months_back(first: int, since: int) -> list[int]:
    """List the months (yyyymm) before `first`, the latest first, at most back to `since`."""
    number = first // 100 * 12 + first % 100 - 1
    months = []
    for before in range(number - 1, number - 1 - MONTHS_MAX, -1):
        month = before // 12 * 100 + before % 12 + 1
        if month < since:
            break
        months.append(month)
    return months
