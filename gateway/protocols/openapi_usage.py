"""The table of operations, fourth part: usage reports.

Decided here: what of a question its query says, and that a CSV is an answer like any other: with a
schema, which is of its first line, and with examples. Not decided here: what may be asked
(core/reports_asked.py), bodies (openapi_usage_wire.py). Source: INTERFACE 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Final

from msgspec import Meta

from gateway.core import errors
from gateway.core.model import Role
from gateway.core.provisioning_values import FEATURE_BYTES_MAX
from gateway.core.reports_asked import FEATURES_MAX, UNITS, Thing
from gateway.core.reports_capacity import LEVELS, NearCapacity
from gateway.core.reports_periods import RANGE_DAYS_MAX, Period
from gateway.protocols import openapi_usage_answers as answers
from gateway.protocols.openapi_parts import (
    BASE,
    CREDENTIAL,
    CSV,
    INSTANCE,
    REQUEST_ID,
    STORE,
    AnyOf,
    Content,
    Example,
    Given,
    Operation,
    Parameter,
    Security,
    json_of,
)
from gateway.protocols.openapi_usage_wire import DenialReport, PeakReport, UsageReport
from gateway.protocols.usage_report import Capacity, Form, struct_columns

TAG: Final = "reports"

_PLACE: Final = "(label,)?(feature,(line,)?)?"  # of a header: what `by` names, in this order


def _one_of(words: Iterable[str]) -> Any:
    return Annotated[str, Meta(extra_json_schema={"enum": [str(word) for word in words]})]


_FEATURE: Final = Parameter(
    "feature",
    "query",
    Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=FEATURE_BYTES_MAX)]],
        Meta(max_length=FEATURES_MAX),
    ],
    "A feature that the instance has, given once for each; all when absent.",
)
_FORMAT: Final = Parameter(
    "format", "query", _one_of(Form), f"How it is answered; `{Form.JSON}` when absent."
)
_DAYS: Final = (
    Parameter(
        "period",
        "query",
        _one_of(Period),
        f"A named range of days, instead of `from` and `to`; `{Period.MONTH_TO_DATE}` when none"
        " of them is there. One that is not over ends today.",
    ),
    Parameter("from", "query", date, f"The first of at most {RANGE_DAYS_MAX} days; with `to`."),
    Parameter("to", "query", date, "The last day, included; with `from`."),
)
_COMPARE: Final = Parameter(
    "compare",
    "query",
    bool,
    "Tell of the days before these as well: the period before, up to the same place, or as many"
    " days. Not as a CSV.",
)


def _by(default: str, *more: str) -> Parameter:
    words = "|".join((*UNITS, *Thing, *more))
    others = f"(,({words})){{0,{1 + len(more)}}}"
    said = "at most one unit of time, one of `feature` and `line`" + ", `code`" * len(more)
    return Parameter(
        "by",
        "query",
        Annotated[str, Meta(pattern=f"^({words}){others}$")],
        f"What rows are told apart by: {said}; `{default}` when absent.",
    )


def _csv(header: str, *examples: Example) -> Content:
    """Give a CSV: its schema is of the first line, `header`, a pattern."""
    text = Annotated[
        str, Meta(pattern=rf"^{header}\r\n", extra_json_schema={"contentMediaType": CSV})
    ]
    return Content(CSV, text, examples)


def _report(
    id: str,
    path: str,
    summary: str,
    *content: Content,
    description: str,
    parameters: tuple[Parameter, ...],
) -> Operation:
    return Operation(
        id=id,
        method="GET",
        path=f"{BASE}{path}",
        tag=TAG,
        summary=summary,
        description=description,
        security=Security.SESSION,
        roles=(Role.READ,),
        parameters=(INSTANCE, _FEATURE, *parameters, _FORMAT),
        given=(Given("What is recorded", content, headers=(REQUEST_ID, "Content-Disposition")),),
        refusals=(*CREDENTIAL, errors.BadRequest, *STORE),
        short=True,
    )


OPERATIONS: Final = (
    _report(
        "usage",
        "/usage",
        "How much was used",
        json_of(AnyOf((UsageReport, DenialReport)), *answers.USAGE),
        _csv(f"{_PLACE}(units,undone,peak,denied|code,denied)", *answers.USAGE_CSV),
        description="Metered units, what of them was undone, the peak of seats, and denials. By"
        " `code` there are denials only.",
        parameters=(*_DAYS, _by("feature", "code"), _COMPARE),
    ),
    _report(
        "usageDenials",
        "/usage/denials",
        "How often what was denied, and why",
        json_of(DenialReport, *answers.DENIALS),
        _csv(f"{_PLACE}(code,)?denied", *answers.DENIALS_CSV),
        description="Each entry of a `statusList` counts once, under its code.",
        parameters=(*_DAYS, _by("day,feature,code", "code"), _COMPARE),
    ),
    _report(
        "usagePeaks",
        "/usage/peaks",
        "How many seats were held at most",
        json_of(PeakReport, *answers.PEAKS),
        _csv(f"{_PLACE}peak", *answers.PEAKS_CSV),
        description="Of concurrent lines. A day without events has what was held before it.",
        parameters=(*_DAYS, _by("day,line"), _COMPARE),
    ),
    _report(
        "usageCapacity",
        "/usage/capacity",
        "Which lines are near capacity",
        json_of(Capacity, *answers.CAPACITY),
        _csv(",".join(struct_columns(NearCapacity)), *answers.CAPACITY_CSV),
        description=f"At {', '.join(map(str, LEVELS))} percent, or where use as it was lately will"
        " be past it before the line resets; the fullest first.",
        parameters=(),
    ),
)
