"""The calendar: which local day and which reset period a moment belongs to, and where these begin.

Decided here: the first moment of a local day under any time zone rule, what a date without time
means, the tables of days and periods from which the store's script picks by its own clock. Not
decided here: what now is; how a period's label and its line's `reset_epoch` make a key (store/).
A day runs from its first moment to the next day's, whatever clocks do in between: every moment is
in exactly one day and one period, and a boundary belongs to the later one.
Source: SEMANTICS 3, 7 and 11, DESIGN 6.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from gateway.core.errors import InvalidInput
from gateway.core.model import Reset

DAYS_MAX: Final = 36_600  # of one table: a century
DATE_MIN: Final = date(1900, 1, 1)  # of a line's dates; spreadsheets begin here
DATE_MAX: Final = date(9999, 12, 30)  # its end is the last midnight that can be written

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_DAY: Final = timedelta(days=1)
_HOUR_MS: Final = 3_600_000

_ZONE_NAME: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
# Names of the zone database that mean another thing on another machine, or count leap seconds.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory", "posix", "right"})

_LABEL: Final = {Reset.DAILY: "d", Reset.WEEKLY: "w", Reset.MONTHLY: "m", Reset.ANNUALLY: "a"}


@lru_cache(maxsize=1_024)  # more than the database has names; failures are not kept
def zone(name: str) -> ZoneInfo:
    """Find a time zone by its name in the zone database, such as `Europe/Paris`; case counts.

    Raises InvalidInput naming the zone when there is none of that name. Names come from files, so
    what looks like a path is refused before it can be opened as one.
    """
    if _ZONE_NAME.fullmatch(name) and name.partition("/")[0] not in _NO_ZONES:
        try:
            return ZoneInfo(name)
        # Not there; a directory of zones ("Europe"); a file that is no zone ("leapseconds").
        except (KeyError, OSError, ValueError):
            pass
    raise InvalidInput(f"unknown time zone {name[:64]!r}")


def midnight_ms(day: date, tz: ZoneInfo) -> int:
    """Find the first moment of a local day: the first at which a clock there shows `day` or later.

    Where clocks jump over midnight that is the jump; where they show midnight twice, the first. A
    day that a zone left out (Pacific/Apia, 2011-12-30) begins where the next one does and is empty.
    """
    wall = datetime(day.year, day.month, day.day, tzinfo=tz)
    moment = wall.astimezone(UTC)
    if moment.astimezone(tz).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return _ms(moment)
    # Midnight is in a gap. Read with the offset before the jump (fold 0) it falls on the jump or
    # after it; read with the one after (fold 1), before it. Jumps are made on whole seconds.
    low, high = _ms(wall.replace(fold=1).astimezone(UTC)) // 1_000, _ms(moment) // 1_000
    after = moment.astimezone(tz).utcoffset()
    while high - low > 1:  # a jump is at most a day: 17 rounds
        middle = (low + high) // 2
        if _wall(middle * 1_000, tz).utcoffset() == after:
            high = middle
        else:
            low = middle
    return high * 1_000


def starts_ms(day: date, tz: ZoneInfo) -> int:
    """Say when a line starts whose `starts` is a date without time: at the midnight before.

    Raises InvalidInput for a day outside DATE_MIN to DATE_MAX. Source: SEMANTICS 3.
    """
    return midnight_ms(_in_range(day), tz)


def expires_ms(day: date, tz: ZoneInfo) -> int:
    """Say when a line expires whose `expires` is a date without time: at the midnight after.

    Raises InvalidInput for a day outside DATE_MIN to DATE_MAX. Source: SEMANTICS 3.
    """
    return midnight_ms(_in_range(day) + _DAY, tz)


def local_day(at_ms: int, tz: ZoneInfo) -> date:
    """Say which local day a moment belongs to: the one whose first moment was the last to pass.

    That is what the clock there shows, except where it is put back over midnight: the day that has
    begun goes on while the clock shows the day before again (America/St_Johns, autumns to 2010).
    """
    shown = _wall(at_ms, tz).date()
    following = shown + _DAY
    return following if midnight_ms(following, tz) <= at_ms else shown


def day_number(day: date) -> int:
    """Write a day as the integer yyyymmdd."""
    return day.year * 10_000 + day.month * 100 + day.day


def hour_of(at_ms: int) -> int:
    """Number the hour of a moment, in whole hours since the epoch, UTC; the hour of usage rows."""
    return at_ms // _HOUR_MS


def months_between(from_ms: int, to_ms: int, timezone: str, *, ahead: int) -> list[int]:
    """List the months (yyyymm) from one moment's local day to so many after another's."""
    tz = zone(timezone)
    first, last = (day_number(local_day(at_ms, tz)) // 100 for at_ms in (from_ms, to_ms))
    numbers = range(first // 100 * 12 + first % 100 - 1, last // 100 * 12 + last % 100 + ahead)
    return [number // 12 * 100 + number % 12 + 1 for number in numbers]


def days_between(from_ms: int, to_ms: int, tz: ZoneInfo) -> list[tuple[int, int]]:
    """List the local days of a span as (first moment in ms, yyyymmdd), ascending and without holes.

    The first entry contains `from_ms`; the last is the first to begin after `to_ms`, so that each
    day of the span ends where the next entry begins. Raises ValueError when the span is reversed
    or over DAYS_MAX days.
    """
    if not 0 <= to_ms - from_ms <= DAYS_MAX * 24 * _HOUR_MS:
        raise ValueError(f"not a span of at most {DAYS_MAX} days: {from_ms} to {to_ms}")
    table: list[tuple[int, int]] = []
    for start_ms, day in _periods_from(local_day(from_ms, tz), Reset.DAILY, tz):
        table.append((start_ms, day_number(day)))
        if start_ms > to_ms:
            break
    return table


def reset_periods(
    reset: Reset, tz: ZoneInfo, at_ms: int, before: int = 1, after: int = 2
) -> list[tuple[int, str]]:
    """List the reset periods around a moment as (first moment in ms, label), ascending, no holes.

    `before` periods, the one that contains `at_ms`, and `after` more, the last of which tells where
    the one before it ends. A label is a letter and the period's first day, so labels sort by time:
    `d20261122`, `w20261116` (a Monday), `m20261101`, `a20260101`. Without resets there is one
    period, (0, "0"). Source: SEMANTICS 7.
    """
    if reset is Reset.NONE:
        return [(0, "0")]
    current = _first_day(reset, local_day(at_ms, tz))
    # One more than asked for, since one of those before may be a day that the zone left out.
    earliest = _shifted(reset, current, -before - 1)
    periods = list(islice(_periods_from(earliest, reset, tz), before + after + 2))
    here = bisect_right(periods, at_ms, key=lambda period: period[0]) - 1
    return [
        (start_ms, f"{_LABEL[reset]}{day_number(first)}")
        for start_ms, first in periods[here - before : here + after + 1]
    ]


def next_reset_ms(reset: Reset, tz: ZoneInfo, at_ms: int) -> int:
    """Give when the period after the one that contains a moment begins; without resets, the day."""
    return reset_periods(Reset.DAILY if reset is Reset.NONE else reset, tz, at_ms, 0, 1)[1][0]


def _periods_from(first: date, reset: Reset, tz: ZoneInfo) -> Iterator[tuple[int, date]]:
    """Yield (first moment, first day) of the period beginning on `first` and of all that follow it.

    Days that contain no moment are passed over, so the moments strictly increase. Never ends.
    """
    start_ms = midnight_ms(first, tz)
    while True:
        following = _shifted(reset, first, 1)
        end_ms = midnight_ms(following, tz)
        if end_ms > start_ms:
            yield start_ms, first
        first, start_ms = following, end_ms


def _first_day(reset: Reset, day: date) -> date:
    match reset:
        case Reset.WEEKLY:
            return day - day.weekday() * _DAY
        case Reset.MONTHLY:
            return day.replace(day=1)
        case Reset.ANNUALLY:
            return day.replace(month=1, day=1)
        case _:
            return day


def _shifted(reset: Reset, first: date, periods: int) -> date:
    """Move from the first day of a period to that of the one `periods` later (or earlier)."""
    match reset:
        case Reset.WEEKLY:
            return first + periods * 7 * _DAY
        case Reset.MONTHLY:
            year, month = divmod(first.year * 12 + first.month - 1 + periods, 12)
            return first.replace(year=year, month=month + 1)
        case Reset.ANNUALLY:
            return first.replace(year=first.year + periods)
        case _:
            return first + periods * _DAY


def _in_range(day: date) -> date:
    if not DATE_MIN <= day <= DATE_MAX:
        raise InvalidInput(f"{day.isoformat()} is not a day from {DATE_MIN} to {DATE_MAX}")
    return day


def _wall(at_ms: int, tz: ZoneInfo) -> datetime:
    return (_EPOCH + at_ms * _MS).astimezone(tz)


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS
