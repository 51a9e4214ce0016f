"""Reports: choose days and a grouping, look at charts and a table, take them along.

Decided here: what can be chosen, and that the same question may be taken along as the files that
the API gives. Not decided here: what may be asked (core/reports_asked.py) and what is told
(service/reports.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup
from starlette.routing import BaseRoute

from gateway.core.errors import BadRequest, InvalidInput
from gateway.core.model import Role
from gateway.core.reports_asked import FEATURES_MAX, Asked, View, read_asked
from gateway.core.reports_periods import Period
from gateway.service.report_tables import (
    NO_LINE,
    Drawing,
    ReportTable,
    count_of,
    read_table,
)
from gateway.service.reports import Reports
from gateway.web.streams import Pieces
from gateway.web.ui.charts import COLUMNS_MAX, Series, columns
from gateway.web.ui.code_words import words_of
from gateway.web.ui.doors import Doors
from gateway.web.ui.paging import page_of
from gateway.web.ui.visits import Reply, Sent, Shown, Visit

FEATURES_OFFERED_MAX: Final = 500
FEATURES_CHARS_MAX: Final = FEATURES_MAX * 130  # of the longest names, with commas between
WORD_CHARS_MAX: Final = 100
ROWS_SHOWN: Final = 100

# What can be looked at: its name, what is counted, and how it can be grouped, the usual way first.
VIEWS: Final[Mapping[View, tuple[str, str, tuple[str, ...]]]] = {
    View.USAGE: (
        "Usage",
        "units",
        (
            *("feature", "line", "day", "week", "month", "quarter"),
            *(f"{unit},feature" for unit in ("day", "week", "month", "quarter")),
            *(f"{unit},line" for unit in ("day", "week", "month", "quarter")),
        ),
    ),
    View.DENIALS: (
        "Denials",
        "denied",
        ("feature,code", "line,code", "code", "day,code", "day,feature,code", "month,feature,code"),
    ),
    View.PEAKS: (
        "Seats held at most",
        "seats",
        ("line", "feature", "day,line", "week,line", "month,line", "quarter,line", "day,feature"),
    ),
}
PERIODS: Final = tuple(Period)
_WORDS: Final = ("period", "from", "to", "by", "compare")


def routes(doors: Doors, reports: Reports) -> list[BaseRoute]:
    """Give the routes of reports and of their files."""
    pages = _Pages(reports)
    return [
        doors.page("reports", "reports", pages.show, Role.READ),
        doors.page("reports/file", "report_file", pages.file, Role.READ),
    ]


@dataclass(frozen=True, slots=True)
class _Choice:
    """What was chosen, as typed, to be shown again; and what it asks for, unless that is wrong."""

    view: View
    typed: Mapping[str, str]
    asked: Asked | None = None
    problem: BadRequest | None = None


class _Pages:
    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def show(self, visit: Visit) -> Reply:
        choice = _choice(visit)
        table, problem, too_many = None, choice.problem, ""
        if choice.asked is not None:
            try:
                report = await self._reports.open(visit.index, choice.asked)
                table = await read_table(choice.asked, report)
            except BadRequest as error:
                problem = error
            except InvalidInput as error:
                too_many = error.message
        data = self._data(visit, choice, table)
        data["problem"] = "" if problem is None else problem.message
        data["wrong"] = next(iter(() if problem is None else problem.arguments), "")
        data["too_many"] = too_many
        return Shown("reports.html", data, 400 if table is None else 200)

    def _data(self, visit: Visit, choice: _Choice, table: ReportTable | None) -> dict[str, Any]:
        features = sorted({line.feature for line in visit.catalogue.lines})
        asked, typed = choice.asked, choice.typed
        offered = VIEWS[choice.view][2]
        query = {name: text for name, text in typed.items() if text}
        data: dict[str, Any] = {
            "view": choice.view,
            "views": VIEWS,
            "typed": typed,
            "groupings": offered if typed["by"] in offered else (*offered, typed["by"]),
            "periods": PERIODS,
            "features": features[:FEATURES_OFFERED_MAX],
            "features_chars_max": FEATURES_CHARS_MAX,
            "query": {"view": choice.view.value, **query},
            "kept": {name: text for name, text in query.items() if name != "by"},
            "table": table,
            "counted": VIEWS[choice.view][1],
            "count_of": count_of,
            "words_of": words_of,
            "no_line": NO_LINE,
        }
        if table is not None and asked is not None:
            data |= {
                "asked": asked,
                "page": page_of(table.rows, visit.asked("page"), ROWS_SHOWN),
                "charts": [_chart(asked, each) for each in table.drawings],
                "mixed": choice.view is View.USAGE
                and asked.by.thing is None
                and (len(asked.features) or len(features)) > 1,
            }
        return data

    async def file(self, visit: Visit) -> Reply:
        choice = _choice(visit)
        if choice.problem is not None:
            raise choice.problem
        assert choice.asked is not None  # noqa: S101 - or there would be a problem
        report = await self._reports.open(visit.index, choice.asked)
        days = report.parts[0].head.days
        name = f"{choice.view}-{visit.instance}-{days.first}-{days.last}"
        match visit.asked("format"):
            case "csv":
                pieces = await Pieces.begun(report.csv())
                return Sent(pieces, "text/csv; charset=utf-8; header=present", f"{name}.csv")
            case "json":
                pieces = await Pieces.begun(report.json())
                return Sent(pieces, "application/json", f"{name}.json")
        raise BadRequest("format must be csv or json", "format")


def _choice(visit: Visit) -> _Choice:
    """Read what was chosen. Days that are typed win over a period, which always has one."""
    typed = {name: visit.asked(name, WORD_CHARS_MAX) for name in _WORDS}
    typed["feature"] = visit.asked("feature", FEATURES_CHARS_MAX)
    named = visit.asked("view") or View.USAGE.value
    view = View(named) if named in set(View) else View.USAGE
    typed["by"] = typed["by"] or VIEWS[view][2][0]
    if typed["from"] or typed["to"]:
        typed["period"] = ""
    else:
        typed["period"] = typed["period"] or Period.MONTH_TO_DATE.value
    members = {name: [text] for name, text in typed.items() if text}
    members["compare"] = ["true" if typed["compare"] else "false"]
    members["feature"] = [word.strip() for word in typed["feature"].split(",") if word.strip()]
    try:
        if named != view:
            raise BadRequest(f"view must be one of {', '.join(View)}", "view")
        return _Choice(view, typed, read_asked(view, members))
    except BadRequest as error:
        return _Choice(view, typed, problem=error)


def _chart(asked: Asked, drawing: Drawing) -> Markup | None:
    """Draw one chart; None: it has too many columns to be read."""
    if len(drawing.labels) > COLUMNS_MAX:
        return None
    counted = VIEWS[asked.view][1]
    series = [Series(counted, drawing.now)]
    if drawing.before is not None:
        series.append(Series("the time before", drawing.before))
    title = f"{counted} of {drawing.of}" if drawing.of else counted
    return columns(title, drawing.labels, series, things=asked.by.unit is None)
