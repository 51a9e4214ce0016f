"""Which local days a report is about, and the calendar units that they are grouped by.

Decided here: the named periods, what each is compared with, labels, and which days may be asked
for. Weeks are ISO weeks. A period that is not over ends today; it is compared with the period
before it up to the same place, so that a month half over is not held against a whole one.
Not decided here: which local day now is (periods.py) and what was used on it (reports.py).
Source: INTERFACE 1 and 4, protocols/cmapi.md Q20 and Q21, ISO 8601 (weeks).
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from gateway.core.errors import BadRequest
from gateway.core.periods import DATE_MAX, DATE_MIN

RANGE_DAYS_MAX: Final = 3_660  # of one report: ten years

_DAY: Final = timedelta(days=1)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Unit(StrEnum):
    """A unit of the calendar; the first four can be grouped by."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


class Period(StrEnum):
    """A named range of days around today."""

    TODAY = "today"
    YESTERDAY = "yesterday"
    THIS_WEEK = "this-week"
    LAST_WEEK = "last-week"
    MONTH_TO_DATE = "month-to-date"
    LAST_MONTH = "last-month"
    QUARTER_TO_DATE = "quarter-to-date"
    LAST_QUARTER = "last-quarter"
    YEAR_TO_DATE = "year-to-date"
    LAST_YEAR = "last-year"


# The unit of each period, and whether it is over.
_KIND: Final = {
    Period.TODAY: (Unit.DAY, False),
    Period.YESTERDAY: (Unit.DAY, True),
    Period.THIS_WEEK: (Unit.WEEK, False),
    Period.LAST_WEEK: (Unit.WEEK, True),
    Period.MONTH_TO_DATE: (Unit.MONTH, False),
    Period.LAST_MONTH: (Unit.MONTH, True),
    Period.QUARTER_TO_DATE: (Unit.QUARTER, False),
    Period.LAST_QUARTER: (Unit.QUARTER, True),
    Period.YEAR_TO_DATE: (Unit.YEAR, False),
    Period.LAST_YEAR: (Unit.YEAR, True),
}
_MONTHS: Final = {Unit.MONTH: 1, Unit.QUARTER: 3, Unit.YEAR: 12}


@dataclass(frozen=True, slots=True)
class Days:
    """A range of local days, both included."""

    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        return (self.first + number * _DAY for number in range(len(self)))

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def months(self) -> list[int]:
        """The months (yyyymm) that it touches, ascending."""
        first, last = (day.year * 12 + day.month - 1 for day in (self.first, self.last))
        return [number // 12 * 100 + number % 12 + 1 for number in range(first, last + 1)]


def named_days(period: Period, today: date) -> Days:
    """Say which days a named period is, when it is `today`; one that is not over ends today."""
    unit, over = _KIND[period]
    first = first_day(unit, today)
    return Days(shifted(unit, first, -1), first - _DAY) if over else Days(first, today)


def named_before(period: Period, today: date) -> Days:
    """Say which days a named period is compared with: the period of its kind before it.

    Of a period that is not over, up to the same place: month-to-date on 31 March is compared with
    the whole of February, since that has no later day.
    """
    unit, over = _KIND[period]
    first = first_day(unit, today)
    if over:
        return Days(shifted(unit, first, -2), shifted(unit, first, -1) - _DAY)
    return Days(shifted(unit, first, -1), shifted(unit, today, -1))


def days_before(days: Days) -> Days:
    """Give as many days as these, just before them: what a range of days is compared with.

    Raises BadRequest when there are no such days.
    """
    if (days.first - DATE_MIN).days < len(days):
        raise BadRequest("Nothing comes before these days to compare them with", "from")
    return Days(days.first - len(days) * _DAY, days.first - _DAY)


def read_days(from_text: str, to_text: str) -> Days:
    """Read a range of days, each written 2026-11-22. Raises BadRequest naming the member.

    Bounds: DATE_MIN to DATE_MAX, at most RANGE_DAYS_MAX days.
    """
    days = Days(_read_day(from_text, "from"), _read_day(to_text, "to"))
    if days.last < days.first:
        raise BadRequest(f"to ({days.last}) is before from ({days.first})", "to")
    if len(days) > RANGE_DAYS_MAX:
        raise BadRequest(f"A report is about at most {RANGE_DAYS_MAX} days", "from")
    return days


def label_of(unit: Unit, day: date) -> str:
    """Name the unit that a day is in: 2026-11-22, 2026-W47, 2026-11, 2026-Q4 or 2026."""
    match unit:
        case Unit.DAY:
            return day.isoformat()
        case Unit.WEEK:
            year, week, _ = day.isocalendar()
            return f"{year:04d}-W{week:02d}"
        case Unit.MONTH:
            return f"{day.year:04d}-{day.month:02d}"
        case Unit.QUARTER:
            return f"{day.year:04d}-Q{(day.month + 2) // 3}"
        case Unit.YEAR:
            return f"{day.year:04d}"


def first_day(unit: Unit, day: date) -> date:
    """Give the first day of the unit that a day is in."""
    match unit:
        case Unit.DAY:
            return day
        case Unit.WEEK:
            return day - day.weekday() * _DAY
        case _:
            months = _MONTHS[unit]
            return day.replace(month=(day.month - 1) // months * months + 1, day=1)


def shifted(unit: Unit, day: date, units: int) -> date:
    """Give the day at the same place some units later or earlier; a shorter month ends it sooner.

    The place in a week is the weekday, in all longer units the month and the day of the month.
    """
    if unit in (Unit.DAY, Unit.WEEK):
        return day + units * (7 if unit is Unit.WEEK else 1) * _DAY
    year, month = divmod(day.year * 12 + day.month - 1 + units * _MONTHS[unit], 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def months_before(since: date, today: date, kept: int) -> list[int]:
    """List the months (yyyymm) from `since` on that are wholly older than `kept` months, ascending.

    The day so many months before `today` is kept, and with it the whole month that it is in.
    """
    first_kept = shifted(Unit.MONTH, first_day(Unit.MONTH, today), -kept)
    return Days(since, first_kept - _DAY).months if since < first_kept else []


def is_month_end(day: date) -> bool:
    """Say whether a day is the last one of its month."""
    return day.day == monthrange(day.year, day.month)[1]


def _read_day(text: str, member: str) -> date:
    try:
        if _DATE.fullmatch(text) is None:  # fromisoformat reads 20261122 and 2026-W47-7 as well
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{member} must be a day such as 2026-11-22", member) from None
    if not DATE_MIN <= day <= DATE_MAX:
        raise BadRequest(f"{member} must be a day from {DATE_MIN} to {DATE_MAX}", member)
    return day
