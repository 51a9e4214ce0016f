"""Usage reports: what is recorded per line and day, folded into rows as it is read.

Decided here: how sums, seats and denials of days become those of a week, a quarter, a feature, and
which rows there are. Seats of one line: the peak of a day without events is what was held when the
last day with events before it ended. Seats of several lines together: their peaks may have been at
different moments, so their sum is a bound and no answer; it is told only where the bounds meet.
Not decided here: which days are asked for (reports_asked.py), how fields are read (store/usage.py).
Source: SEMANTICS 11, INTERFACE 4; the fields are those of store/keys.py, `days` and `month`.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Final, TypeVar

import msgspec

from gateway.core.model import Line
from gateway.core.periods import day_number
from gateway.core.reports_asked import Asked, Grouping, Thing
from gateway.core.reports_periods import Days, Unit, label_of

STEPS_MAX: Final = 1_000  # at a time, of lines or rows: a few milliseconds
NO_LINE: Final = ""  # what is denied of a feature that no line has is recorded under this id

_T = TypeVar("_T")
_Key = tuple[str, str, str]  # feature, line, code; "" where the grouping leaves it open
_OPEN: Final[_Key] = ("", "", "")
_NONE: Final[dict[bytes, int]] = {}
OPEN_PLACE: Final = (0, "", *_OPEN)  # of a row that is everything: a total


class Sums(msgspec.Struct, gc=False):
    """What a row counts. The peak of its seats is at least `least` and at most `most`."""

    units: int = 0
    undone: int = 0
    denied: int = 0
    least: int = 0
    most: int = 0

    @property
    def peak(self) -> int | None:
        """The greatest number of seats held at one moment; None where it is not known."""
        return self.most if self.least == self.most else None

    def add_peaks(self, peaks: list[int]) -> None:
        """Take in the peaks of several lines on one day: at once, or one after the other."""
        self.least = max(self.least, *peaks)
        self.most = max(self.most, sum(peaks))


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row: where it stands in time (`place` counts from 0), what it is of, what it counts.

    Members that the grouping leaves open are "".
    """

    place: int
    label: str
    feature: str
    line: str
    code: str
    sums: Sums

    @property
    def units(self) -> int:
        return self.sums.units

    @property
    def undone(self) -> int:
        return self.sums.undone

    @property
    def peak(self) -> int | None:
        return self.sums.peak

    @property
    def denied(self) -> int:
        return self.sums.denied


class Fold:
    """One report in the making. Months are given in order, each whole, then rows come out.

    `lines` are those asked for, retired ones included. `held` is what was held of each when the
    day before the first month ended; a line that is not in it: nothing. What is not recorded yet,
    after `today`, is left out of peaks.
    """

    def __init__(
        self,
        asked: Asked,
        days: Days,
        today: date,
        lines: Iterable[Line],
        held: Mapping[str, int] | None = None,
    ) -> None:
        self._asked, self._days, self._today = asked, days, today
        self.total = Sums()
        thing = asked.by.thing
        self._keys: dict[bytes, _Key] = {}
        self._seats: list[tuple[bytes, _Key]] = []
        for line in lines:
            key = (
                line.feature if thing else "",
                line.id if thing is Thing.LINE else "",
                "",
            )
            self._keys[line.id.encode()] = key
            if not line.model.metered and not asked.by.code:
                self._seats.append((line.id.encode(), key))
        if not asked.features:
            self._keys[NO_LINE.encode()] = _OPEN
        self._held = {line.encode(): seats for line, seats in (held or {}).items() if seats}
        # A row is there when one of its columns is not 0; two names, so that a tuple comes out.
        told = ["most" if name == "peak" else name for name in asked.counts]
        self._told: Callable[[Sums], tuple[int, ...]] = attrgetter(told[0], *told)
        self._labels, self._ends = _places(asked.by.unit, days)
        self._sums: dict[int, dict[_Key, Sums]] = {}  # by place
        self._next = 0  # the first place whose rows are not out yet
        # Of the month that is being taken:
        self._month, self._folded = 0, False
        self._places: dict[bytes, int] = {}  # of days in the range, and of the month if folded
        self._spans: list[bytes] = []  # what peaks are told of: days up to the range's end
        self._peaks: dict[bytes, dict[bytes, int]] = {}  # by line and day
        self._last: dict[bytes, dict[bytes, int]] = {}

    def begin_month(self, month: int, *, folded: bool) -> None:
        """Begin a month (yyyymm); `folded`: its days are kept as one, or are just being so."""
        self._month, self._folded = month, folded
        self._places, self._spans, self._peaks, self._last = {}, [], {}, {}
        unit = self._asked.by.unit
        first = date(month // 100, month % 100, 1)
        place = self._next
        end = first.replace(day=monthrange(first.year, first.month)[1])
        for day in Days(first, min(self._days.last, end)):
            text = b"%d" % day_number(day)
            if day >= self._days.first:
                if unit is not None:
                    label = label_of(unit, day)
                    while self._labels[place] != label:
                        place += 1
                self._places[text] = place
            if day <= self._today:
                self._spans.append(text)
        if folded:
            text = b"%d" % month
            self._places[text] = place
            self._spans = [text]

    def take(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Add fields of the month, each once and in any order; those not asked for are ignored."""
        keys, places, by_code = self._keys, self._places, self._asked.by.code
        for field, value in fields:
            line, day, kind = field.split(b"|", 2)
            key = keys.get(line)
            if key is None:
                continue
            if kind == b"p":
                self._peaks.setdefault(line, {})[day] = int(value)
                continue
            if kind == b"h":
                self._last.setdefault(line, {})[day] = int(value)
                continue
            place = places.get(day)
            if place is None:
                continue
            if by_code:
                if kind[:2] != b"d:":
                    continue
                key = (key[0], key[1], kind[2:].decode())
            sums = self._at(place, key)
            if kind == b"u":
                sums.units += int(value)
            elif kind == b"b":
                sums.undone += int(value)
            else:
                sums.denied += int(value)

    def _at(self, place: int, key: _Key) -> Sums:
        of_place = self._sums.get(place)
        if of_place is None:
            of_place = self._sums[place] = {}
        sums = of_place.get(key)
        if sums is None:
            sums = of_place[key] = Sums()
        return sums

    def end_month(self) -> Iterator[list[Row]]:
        """End the month and give the rows to which no later month adds, in order.

        They come in lists, many of them empty: there are STEPS_MAX steps between two, so that
        others can have a turn. All are to be taken before `total` is looked at, and before the next
        month begins.
        """
        if self._folded:
            yield from self._join_days()
        yield from self._add_seats()
        self._peaks, self._last = {}, {}  # nothing to keep while somebody takes the rows
        while self._next < len(self._ends) and self._ends[self._next] <= self._month:
            yield from self._rows(self._next)
            self._next += 1

    def _join_days(self) -> Iterator[list[Row]]:
        """Make one span of the days that a folded month still has beside what it was folded to."""
        text = self._spans[0]
        for portion in _portions(self._peaks.items()):
            for line, peaks in portion:
                self._peaks[line] = {text: max(peaks.values())}
            yield []
        for portion in _portions(self._last.items()):
            for line, last in portion:
                # A line is folded at once: its latest day is later than what it was folded to.
                self._last[line] = {text: last[max(last)]}
            yield []

    def _add_seats(self) -> Iterator[list[Row]]:
        """Add the month's peaks, day by day, so that lines which took turns are told exactly."""
        held = self._held
        lines = [each for each in self._seats if held.get(each[0]) or each[0] in self._peaks]
        for span in self._spans:
            place = self._places.get(span)  # None before the range begins
            together: dict[_Key, list[int]] = {}  # the peaks of lines with one key
            for portion in _portions(lines):
                for line, key in portion:
                    before = held.get(line, 0)
                    peak = self._peaks.get(line, _NONE).get(span, before)
                    held[line] = self._last.get(line, _NONE).get(span, before)
                    if peak and place is not None:
                        together.setdefault(key, []).append(peak)
                yield []
            if place is None or not together:
                continue
            for keys in _portions(together):
                for key in keys:
                    self._at(place, key).add_peaks(together[key])
                yield []
            self.total.add_peaks([*chain.from_iterable(together.values())])

    def _rows(self, place: int) -> Iterator[list[Row]]:
        asked, found = self._asked, self._sums.pop(place, {})
        timeline = asked.by == Grouping(asked.by.unit)
        if timeline:
            found.setdefault(_OPEN, Sums())  # a timeline has no holes, and a sum is never missing
        named = asked.features if asked.by == Grouping(None, Thing.FEATURE) else ()
        for feature in named:  # who names a feature is told of it, also that there was nothing
            found.setdefault((feature, "", ""), Sums())
        for portion in _portions(sorted(found.items(), key=itemgetter(0))):
            rows = []
            for key, sums in portion:
                if timeline or key[0] in named or any(self._told(sums)):
                    self.total.units += sums.units
                    self.total.undone += sums.undone
                    self.total.denied += sums.denied
                    rows.append(Row(place, self._labels[place], *key, sums))
            yield rows


def _portions(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Give items STEPS_MAX at a time."""
    left = iter(items)
    while portion := list(islice(left, STEPS_MAX)):
        yield portion


def _places(unit: Unit | None, days: Days) -> tuple[list[str], list[int]]:
    """List the units of time of a range: the label of each, and the last month (yyyymm) it has."""
    if unit is None:
        return [""], [days.months[-1]]
    ends: dict[str, int] = {}
    for day in days:
        ends[label_of(unit, day)] = day.year * 100 + day.month
    return list(ends), list(ends.values())
