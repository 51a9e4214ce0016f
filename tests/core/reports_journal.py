"""A journal of what happened, recorded as the ledger records it, and added up by brute force.

The record is written by core/counters.py, which the script is held to. The sums are made from the
journal alone, with the standard library's calendar: no rule of the reports is used twice.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core.calls import Context
from gateway.core.counters import CONCURRENT, Day, State, change_held, day_of, record_usage
from gateway.core.model import Line, Model
from gateway.core.periods import days_between
from gateway.core.reports import Fold, Row, Sums
from gateway.core.reports_asked import Asked, Thing
from gateway.core.reports_periods import Days

CODES = ("FEATURE_COUNT_INSUFFICIENT", "FEATURE_NOT_FOUND", "VERSION_TOO_HIGH")
HOUR_MS = 3_600_000


def line(line_id: str, feature: str, model: Model, *, retired: bool = False) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version="1",
        model=model,
        count=9,
        capacity=9,
        retired=retired,
    )


LINES = (
    line("M1", "sessions", Model.METERED),
    line("M2", "users", Model.METERED),
    line("M3", "users", Model.METERED, retired=True),
    line("C1", "editor", Model.CONCURRENT),
    line("C2", "viewer", Model.CONCURRENT),
    line("C3", "viewer", Model.CONCURRENT),  # takes turns with C2, now and then together
)
FEATURE = {each.id: each.feature for each in LINES} | {"": ""}


@dataclass
class Journal:
    """Events in order of time: units, units given back, denials, seats held from then on."""

    zone: ZoneInfo
    first: date
    last: date
    units: list[tuple[int, str, int]] = field(default_factory=list)
    denials: list[tuple[int, str, str]] = field(default_factory=list)
    seats: list[tuple[int, str, int]] = field(default_factory=list)
    state: State = field(default_factory=State)
    _days: dict[int, date] = field(default_factory=dict)
    _shown: dict[str, list[date]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        begin, end = (self.ms(day) for day in (self.first, self.last + timedelta(days=1)))
        self.context = Context(
            instance="DEMO",
            version=1,
            upstreams=[],
            days=[(at, day, 0) for at, day in days_between(begin, end, self.zone)],
            periods=[],
        )

    def ms(self, day: date) -> int:
        """Give midnight; only for days on which the clocks show it once."""
        return round(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp() * 1000)

    def day(self, at_ms: int) -> date:
        """Say what the calendar on the wall shows at a moment."""
        found = self._days.get(at_ms)
        if found is None:
            found = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(self.zone).date()
            self._days[at_ms] = found
        return found

    def use(self, at_ms: int, line_id: str, units: int) -> None:
        self.units.append((at_ms, line_id, units))
        back = max(0, -units)
        record_usage(self.state, self.context, "h", line_id, units, at_ms, back)

    def deny(self, at_ms: int, line_id: str, code: str) -> None:
        self.denials.append((at_ms, line_id, code))
        key = (line_id, day_of(self.context, at_ms))
        denials = self.state.days.setdefault(key, Day()).denials
        denials[code] = denials.get(code, 0) + 1

    def hold(self, at_ms: int, line_id: str, seats: int) -> None:
        self.seats.append((at_ms, line_id, seats))
        before = self.state.used.get((line_id, "0"), 0)
        change_held(
            self.state, self.context, "h", line_id, CONCURRENT, seats - before, at_ms, gross_back=0
        )

    # What the record has

    def months(self) -> dict[int, dict[bytes, bytes]]:
        """Spell the record as the store's hashes of months, HASH by HASH."""
        found: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        for (line_id, day), each in self.state.days.items():
            values = {"u": each.units, "b": each.back, "p": each.peak, "h": each.held}
            values |= {f"d:{code}": times for code, times in each.denials.items()}
            for kind, value in values.items():
                if value is not None:
                    found[day // 100][b"%s|%d|%s" % (line_id.encode(), day, kind.encode())] = (
                        b"%d" % value
                    )
        return found

    # What the journal says

    def sums(self, days: Days, lines: Iterable[str], code: str = "") -> Sums:
        """Add up what happened on these days on these lines."""
        wanted = set(lines)
        inside = [event for event in self._inside("units", days) if event[1] in wanted]
        denied = [event for event in self._inside("denials", days) if event[1] in wanted]
        peak = self.peak(days, wanted)
        return Sums(
            units=sum(units for _, _, units in inside),
            undone=sum(-units for _, _, units in inside if units < 0),
            denied=sum(1 for event in denied if not code or event[2] == code),
            least=peak,
            most=peak,
        )

    def peak(self, days: Days, lines: Iterable[str]) -> int:
        """Give the most seats held at one moment of these days.

        What happens as a day begins happens at once: what went then was not held on it.
        """
        wanted = set(lines)
        moves = [event for event in self.seats if event[1] in wanted]
        begin = bisect_left(moves, days.first, key=lambda event: self.day(event[0]))
        held = {line_id: seats for _, line_id, seats in moves[:begin]}
        until = bisect_right(moves, days.last, key=lambda event: self.day(event[0]))
        inside = moves[begin:until]
        begins = [self.day(at_ms - 1) != self.day(at_ms) for at_ms, *_ in inside]
        most = 0 if begins[:1] == [True] else sum(held.values())
        for at, (at_ms, line_id, seats) in enumerate(inside):
            held[line_id] = seats
            more = at + 1 < len(inside) and inside[at + 1][0] == at_ms
            if not (begins[at] and more):
                most = max(most, sum(held.values()))
        return most

    def _inside(self, kind: str, days: Days) -> list[Any]:
        """Give the events of these days, by a look at each event's own day."""
        events = getattr(self, kind)
        of_day = self._shown.setdefault(kind, [])
        of_day += [self.day(at_ms) for at_ms, *_ in events[len(of_day) :]]
        return events[bisect_left(of_day, days.first) : bisect_right(of_day, days.last)]


def journal(zone: ZoneInfo, first: date, last: date, seed: str) -> Journal:
    """Make a journal: all hours of the day, a burst around each midnight of a clock change."""
    random_ = random.Random(seed)  # noqa: S311
    made = Journal(zone, first, last)
    begin, end = made.ms(first), made.ms(last + timedelta(days=1))
    moments = [begin, end - 1, *(random_.randrange(begin, end) for _ in range(1_200))]
    offset = zone.utcoffset(datetime.fromtimestamp(begin // 1000, UTC).astimezone(zone))
    for at in range(begin, end, HOUR_MS):
        now = zone.utcoffset(datetime.fromtimestamp(at // 1000, UTC).astimezone(zone))
        if now != offset:
            near = range(at - 26 * HOUR_MS, at + 26 * HOUR_MS, HOUR_MS // 2)
            moments += [m + off for m in near for off in (-1, 0) if begin <= m + off < end]
            offset = now
    for year in {day.year for day in (first, last)}:
        midnight = made.ms(date(year, 1, 1))
        moments += [m for m in (midnight - 1, midnight) if begin <= m < end]
    for at_ms in sorted(moments):
        match random_.randrange(10):
            case 0 | 1 | 2 | 3:
                made.use(at_ms, random_.choice(("M1", "M2", "M3")), random_.randrange(1, 100))
            case 4:
                made.use(at_ms, random_.choice(("M1", "M2")), -random_.randrange(1, 9))
            case 5:
                made.deny(at_ms, random_.choice(("M1", "C1", "")), random_.choice(CODES))
            case 6 | 7:
                made.hold(at_ms, "C1", random_.randrange(0, 9))
            case 8:
                made.hold(at_ms, "C2", random_.randrange(0, 3) * random_.randrange(2))
            case _:
                made.hold(at_ms, "C3", random_.randrange(0, 3) * random_.randrange(2))
    return made


def folded(months: dict[int, dict[bytes, bytes]], last: int) -> dict[int, dict[bytes, bytes]]:
    """Fold all months up to `last` to one entry a line, as compaction does."""
    made: dict[int, dict[bytes, bytes]] = {}
    for month, fields in months.items():
        made[month] = fields if month > last else _folded(month, fields)
    return made


def _folded(month: int, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    sums: dict[tuple[bytes, bytes], int] = defaultdict(int)
    for name, value in sorted(fields.items()):  # by day: the last one's `h` stays
        line_id, _, kind = name.split(b"|", 2)
        if kind == b"p":
            sums[line_id, kind] = max(sums[line_id, kind], int(value))
        elif kind == b"h":
            sums[line_id, kind] = int(value)
        else:
            sums[line_id, kind] += int(value)
    return {b"%s|%d|%s" % (name, month, kind): b"%d" % n for (name, kind), n in sums.items()}


def report(
    asked: Asked, days: Days, today: date, record: dict[int, dict[bytes, bytes]], last_folded: int
) -> tuple[list[Row], Sums]:
    """Fold a record as the service does, from its first month on, so that nothing is carried in."""
    lines = [each for each in LINES if not asked.features or each.feature in asked.features]
    held: dict[str, int] = {}
    for month in sorted(record):
        if month < days.months[0]:
            for name, value in sorted(record[month].items()):
                line_id, _, kind = name.decode().split("|", 2)
                if kind == "h":
                    held[line_id] = int(value)
    fold = Fold(asked, days, today, lines, held)
    rows: list[Row] = []
    for month in days.months:
        fold.begin_month(month, folded=month <= last_folded)
        fields = list(record.get(month, {}).items())
        random.Random(month).shuffle(fields)  # noqa: S311
        fold.take(fields[::2])
        fold.take(fields[1::2])
        for of_place in fold.end_month():
            rows += of_place
    return rows, fold.total


def lines_of(row: Row, asked: Asked) -> Iterator[str]:
    """Name the lines that a row is about."""
    for line_id, feature in FEATURE.items():
        if asked.features and feature not in asked.features:
            continue
        if asked.by.thing is Thing.LINE and line_id != row.line:
            continue
        if asked.by.thing is Thing.FEATURE and feature != row.feature:
            continue
        yield line_id
