"""Reading what is recorded per line and day, a month at a time, for reports.

Decided here: how the record is paged, so that the store is held for some 2 ms at a time and memory
for one month at most; and that what is being folded into months meanwhile is read once, where it
is then. Not decided here: what the fields come to (core/reports.py) and who folds them.
The rules of the fold that this rests on: it moves all that a line has of one month in one step, and
counts that step in the ledger; and the earlier month goes first. Source: DESIGN 4, SEMANTICS 11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from gateway.core.errors import Unavailable
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.topology import Client
from gateway.store.walks import Fields, steps

PAGE_FIELDS: Final = 4_000  # asked for at a time; holds the store for about 2 ms
TRIES_MAX: Final = 10
TRY_PAUSE_S: Final = 0.05  # all tries together outlast a visit of whoever folds
MONTHS_MAX: Final = 1_200  # looked back at to find what is held: a century
QUESTIONS_MAX: Final = 125  # about a line and a month, in one page: 32 fields each
_MONTH_DAYS_MAX: Final = 31
_LISTED_A_QUESTION: Final = 250  # fields that are listed in the time a question takes


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

    `folded` is the last month (yyyymm) that lost days to a fold, 0 when there is none, as of the
    last look. All methods raise Unavailable when the store does not answer; a retry is safe.
    """

    client: Client
    keys: InstanceKeys
    folded: int = 0

    async def clock(self) -> Clock:
        """Tell what time it is for the instance."""
        # A transaction, so that it is the instance's own server which tells the time.
        pipeline = self.client.pipeline(transaction=True)
        pipeline.time()
        pipeline.hmget(self.keys.ledger, ["last_ms", "since_ms"])
        (seconds, micros), (last_ms, since_ms) = await answered(pipeline.execute())
        now_ms = max(seconds * 1000 + micros // 1000, int(last_ms or 0))
        return Clock(now_ms, int(since_ms or 0))

    async def used(self) -> dict[str, int]:
        """Read what is used now, by `<line>|<period label>`."""
        found = await self._whole(self.keys.used)
        return {name.decode(): int(units) for name, units in found.items()}

    async def begin(self) -> None:
        """Learn which months are folded."""
        await self._look()

    async def month(self, month: int) -> Month:
        """Read all that is recorded of a month (yyyymm)."""
        for _ in range(TRIES_MAX):
            folds = await self._look()
            whole = await self._whole(self.keys.month(month))
            days = await self._whole(self.keys.days(month))
            # Months are folded in order: what is after the last of them has lost nothing.
            if await self._look() == folds or month > self.folded:
                return Month(month <= self.folded, whole, days)
            await asyncio.sleep(TRY_PAUSE_S)
        raise _too_fast()

    async def held_before(self, first: int, since: int, lines: Collection[str]) -> dict[str, int]:
        """Tell how many seats of each of these lines were held when the month before `first` ended.

        Goes back month by month, to `since` or MONTHS_MAX, and asks each only for the lines whose
        last word was in none after it: by name or, where these are many, by a list of all it has.
        """
        if not lines:
            return {}
        used: Any = await answered(self.client.hmget(self.keys.used, [f"{x}|0" for x in lines]))
        # Who never held any is not searched for: a line without `used` has no record of seats.
        asked = [line for line, seats in zip(lines, used, strict=True) if seats is not None]
        for _ in range(TRIES_MAX):
            folds = await self._look()
            held = await self._last_words(first, since, asked)
            if await self._look() == folds:
                return held
            await asyncio.sleep(TRY_PAUSE_S)
        raise _too_fast()

    async def _last_words(self, first: int, since: int, asked: list[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        missing = set(asked)
        there = await self._recorded(_months_back(first, since)) if missing else []
        while missing and there:
            month, fields = there[0]
            if fields < _LISTED_A_QUESTION * len(missing):
                words, there = await self._listed_words(month, missing), there[1:]
            else:
                some = max(1, QUESTIONS_MAX // len(missing))
                words = await self._asked_words([month for month, _ in there[:some]], missing)
                there = there[some:]
            found |= words
            missing -= words.keys()
        return found

    async def _recorded(self, months: Sequence[int]) -> list[tuple[int, int]]:
        """List those of these months that have anything, and how many fields."""
        pipeline = self.client.pipeline(transaction=False)
        for month in months:
            pipeline.hlen(self.keys.days(month))
            pipeline.hlen(self.keys.month(month))
        sizes = iter(await answered(pipeline.execute()))
        pairs = zip(months, zip(sizes, sizes, strict=True), strict=True)
        return [(month, sum(both)) for month, both in pairs if any(both)]

    async def _asked_words(self, months: Sequence[int], lines: Collection[str]) -> dict[str, int]:
        """Ask these months, the latest first, for the last word that they have on each line."""
        found: dict[str, int] = {}
        questions = iter([(month, line) for month in months for line in lines])
        while page := list(islice(questions, QUESTIONS_MAX)):
            pipeline = self.client.pipeline(transaction=False)
            for month, line in page:
                days = [f"{line}|{month}{day:02d}|h" for day in range(_MONTH_DAYS_MAX, 0, -1)]
                pipeline.hmget(self.keys.days(month), days)
                pipeline.hget(self.keys.month(month), f"{line}|{month}|h")
            replies = iter(await answered(pipeline.execute()))
            for (_, line), of_days, of_month in zip(page, replies, replies, strict=True):
                # What a folded month still has in days came after all that was folded.
                seats = next((each for each in of_days if each is not None), of_month)
                if seats is not None:
                    found.setdefault(line, int(seats))
        return found

    async def _listed_words(self, month: int, lines: Collection[str]) -> dict[str, int]:
        """Read all last words of a month, and pick those on these lines."""
        found: dict[str, int] = {}
        latest: dict[str, str] = {}  # by line; a day is after its month, as text too
        for key in (self.keys.month(month), self.keys.days(month)):
            async for fields in steps(self.client, key, match="*|h", count=PAGE_FIELDS):
                for name, seats in fields.items():
                    line, when, _ = name.decode().split("|", 2)
                    if line in lines and latest.get(line, "") <= when:
                        latest[line], found[line] = when, int(seats)
        return found

    async def _look(self) -> int:
        """Learn which months are folded; tell how often anything was."""
        # A count, because what is folded of a late lapse changes fields that are there.
        fields = ["folds", "folded"]
        folds, folded = await answered(self.client.hmget(self.keys.ledger, fields))
        self.folded = int(folded or 0)
        return int(folds or 0)

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
