"""What a report is asked for: which features, which days, grouped by what, and which columns.

Decided here: the members of a question and their defaults, one rule for the query of the API and
the options of the command line, and which columns an answer has: those that the grouping leaves
open are absent. Not decided here: how a question is spelt (protocols/usage_report.py, cli/).
Source: INTERFACE 1 and 4, SEMANTICS 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from gateway.core.errors import BadRequest
from gateway.core.reports_periods import (
    Days,
    Period,
    Unit,
    days_before,
    first_day,
    is_month_end,
    named_before,
    named_days,
    read_days,
    shifted,
)

FEATURES_MAX: Final = 64  # named in one question
UNITS: Final = (Unit.DAY, Unit.WEEK, Unit.MONTH, Unit.QUARTER)


class View(StrEnum):
    """What a report tells of: usage with all its columns, denials by code, or seats held."""

    USAGE = "usage"
    DENIALS = "denials"
    PEAKS = "peaks"


class Thing(StrEnum):
    """What counts are told of apart from time."""

    FEATURE = "feature"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class Grouping:
    """What rows are told apart by: a unit of time, a thing, the code of denials; any may be open.

    With `code` there are denials only: units and seats have none.
    """

    unit: Unit | None = None
    thing: Thing | None = None
    code: bool = False

    def __str__(self) -> str:
        return ",".join(word for word in (self.unit, self.thing, "code" * self.code) if word)


_BY: Final = {
    View.USAGE: "feature",
    View.DENIALS: "day,feature,code",
    View.PEAKS: "day,line",
}
_COUNTS: Final = {
    View.USAGE: ("units", "undone", "peak", "denied"),
    View.DENIALS: ("denied",),
    View.PEAKS: ("peak",),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that can be answered; `days` is set when a range was given instead of a period."""

    view: View
    by: Grouping
    features: tuple[str, ...] = ()
    period: Period = Period.MONTH_TO_DATE
    range: Days | None = None
    compare: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of an answer, in order."""
        by = self.by
        named = {
            "label": by.unit is not None,
            "feature": by.thing is not None,
            "line": by.thing is Thing.LINE,
            "code": by.code,
        }
        return (*(name for name, there in named.items() if there), *self.counts)

    @property
    def counts(self) -> tuple[str, ...]:
        """The columns that are counts."""
        return ("denied",) if self.by.code else _COUNTS[self.view]

    def days(self, today: date) -> Days:
        """Say which days are asked for, when it is `today`."""
        return named_days(self.period, today) if self.range is None else self.range

    def before(self, today: date) -> Days:
        """Say which days they are compared with."""
        return named_before(self.period, today) if self.range is None else days_before(self.range)


def read_asked(view: View, members: Mapping[str, Sequence[str]]) -> Asked:
    """Read a question from its members, each a list of texts as given; none is its default.

    `feature` may be given several times, and `by` is one to three words with commas between: a
    unit of time, feature or line, code. Raises BadRequest naming the member that is wrong.
    """
    features = tuple(dict.fromkeys(members.get("feature", ())))
    if len(features) > FEATURES_MAX:
        raise BadRequest(f"At most {FEATURES_MAX} features can be named", "feature")
    period, start, end = (_once(members, name) for name in ("period", "from", "to"))
    if period is not None and (start, end) != (None, None):
        raise BadRequest("Give either period, or from and to", "period")
    days = None
    if start is not None or end is not None:
        if start is None or end is None:
            raise BadRequest("from and to go together", "to" if end is None else "from")
        days = read_days(start, end)
    return Asked(
        view=view,
        by=read_grouping(view, _once(members, "by") or _BY[view]),
        features=features,
        period=Period.MONTH_TO_DATE if period is None else _period(period),
        range=days,
        compare=_flag(members, "compare"),
    )


def read_grouping(view: View, text: str) -> Grouping:
    """Read `by`. Raises BadRequest for unknown words, and for two of one kind."""
    unit: Unit | None = None
    thing: Thing | None = None
    code = False
    for word in text.split(","):
        if word in UNITS and unit is None:
            unit = Unit(word)
        elif word in (Thing.FEATURE, Thing.LINE) and thing is None:
            thing = Thing(word)
        elif word == "code" and not code and view is not View.PEAKS:
            code = True
        else:
            words = ", ".join((*UNITS, *Thing)) + ("" if view is View.PEAKS else ", code")
            raise BadRequest(
                f"by must be of {words}: at most one unit of time and one of feature and line,"
                " with commas between",
                "by",
            )
    return Grouping(unit, thing, code)


def check_kept(days: Days, by: Grouping, folded: int) -> None:
    """Refuse what cannot be told of days that are kept as months; `folded` is the last such month
    (yyyymm), 0 when there is none. Raises BadRequest.
    """
    if not folded or days.first.year * 100 + days.first.month > folded:
        return
    kept = shifted(Unit.MONTH, date(folded // 100, folded % 100, 1), 1)
    since = f"days are kept from {kept} on, and months before"
    if by.unit in (Unit.DAY, Unit.WEEK):
        raise BadRequest(f"By {by.unit} is not kept so far back: {since}", "by")
    if first_day(Unit.MONTH, days.first) != days.first:
        raise BadRequest(f"from is inside a month that is kept whole: {since}", "from")
    if days.last < kept and not is_month_end(days.last):
        raise BadRequest(f"to is inside a month that is kept whole: {since}", "to")


def _once(members: Mapping[str, Sequence[str]], name: str) -> str | None:
    given = members.get(name, ())
    if len(given) > 1:
        raise BadRequest(f"{name} is given twice", name)
    return given[0] if given else None


def _period(text: str) -> Period:
    try:
        return Period(text)
    except ValueError:
        raise BadRequest(f"period must be one of {', '.join(Period)}", "period") from None


def _flag(members: Mapping[str, Sequence[str]], name: str) -> bool:
    text = _once(members, name) or "false"
    if text not in ("true", "false"):
        raise BadRequest(f"{name} must be true or false", name)
    return text == "true"
